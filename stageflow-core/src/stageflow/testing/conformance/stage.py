"""``StageConformance``: what every stage promises, as tests."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageKind
from stageflow.testing.conformance.body import BodySuite, outcome_of

if TYPE_CHECKING:
    from stageflow.testing.conformance.body import Rewrite

__all__ = ["StageConformance"]


class StageConformance(BodySuite):
    """Derive from it in a module of tests, say how the stage is made, and inherit the tests.

    The stage runs as in a pipeline, behind stand-ins for what it depends on.

    Attributes:
        takes_any_text: Whether it works with any ``input_text``; see ``BodySuite``.
        repeatable: Whether equal input gives equal output.
        plain_output: Whether JSON can say what it hands over.

    ```python
    from stageflow import StageOutput
    from stageflow.testing.conformance import StageConformance


    class Greet:
        async def execute(self, ctx):
            return StageOutput.ok(text=f"Hello, {ctx.input_text}")


    class TestGreet(StageConformance):
        def make_stage(self):
            return Greet()
    ```
    """

    contract: ClassVar[str] = "stage"

    def make_stage(self) -> Any:
        """Return a new stage: an object with ``execute``, an async function, or what ``@stage`` makes."""
        raise NotImplementedError

    def make_inputs(self) -> Mapping[str, StageOutput | Mapping[str, Any]]:
        """Return what the stages that it depends on have left, by their names."""
        return {}

    # --- its form ---------------------------------------------------------------------------------------

    def test_it_is_a_stage(self) -> None:
        """It has an async ``execute(ctx)``, or is an async function; its kind, if it says one, is a ``StageKind``."""
        stage: Any = self.make_stage()
        body: Any = getattr(stage, "execute", stage)
        assert not isinstance(stage, type), "make_stage() returned a class: return a stage made of it"
        assert callable(body), f"{stage!r} has no execute(ctx)"
        called: Any = getattr(body, "__call__", body)  # noqa: B004 - an object's, which is what is async
        assert inspect.iscoroutinefunction(body) or inspect.iscoroutinefunction(called), (
            f"{body!r} is not async"
        )
        inspect.signature(body).bind("ctx")
        kind: object = getattr(stage, "kind", StageKind.TRANSFORM)
        assert isinstance(kind, StageKind), f"its kind is {kind!r}, where a StageKind is expected"

    def test_it_returns_what_stages_return(self) -> None:
        """``execute`` returns a ``StageOutput``, a mapping or None; a stage made with ``@stage``, what it promises."""
        seen: list[object] = []
        stage = self.make_stage()
        body: Any = getattr(stage, "execute", stage)

        async def look(ctx: Any) -> Any:
            seen.append(await body(ctx))
            return seen[-1]

        self._drive(lambda: outcome_of(self._run_stage(look)))
        (answer,) = seen
        assert answer is None or isinstance(answer, (StageOutput, Mapping)), (
            f"it returned {type(answer).__name__}"
        )

    # --- how it is proved -------------------------------------------------------------------------------

    def _made(self) -> Any:
        return self.make_stage()

    def _stage_of(self, part: Any, rewrite: Rewrite | None = None) -> Any:
        return part

    def _inputs(self) -> Mapping[str, StageOutput | Mapping[str, Any]]:
        return self.make_inputs()
