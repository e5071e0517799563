"""A/B routing: who gets which variant, the same one each time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context.checks import (
    check_name,
    check_type,
    items_of,
    number_of,
    text_of,
    wrong_type,
    wrong_value,
)
from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stageflow.stages.context import StageContext

__all__ = ["ABRouter", "ab_route"]

_OWNER = "ab_route"
_BITS = 64


def ab_route(key: object, variants: Mapping[str, float] | Iterable[str], *, experiment: str = "") -> str:
    """Return the variant for *key*: the same one in every process, on every machine and with every Python.

    Args:
        key: Whom or what the variant is for, such as a user's id; its ``str`` counts.
        variants: The variants, or how much each of them gets of all: ``{"old": 90, "new": 10}``.
        experiment: What is tried. Two experiments split the same keys independently of each other.

    Raises:
        ArgumentTypeError: Variants are no texts, a share is no number, or *experiment* is no text.
        ArgumentValueError: There are no variants, one is named twice, or a share is negative or no finite number.

    ```python
    from stageflow.stages.experiment import ab_route

    print(ab_route("ada", ["a", "b"]), ab_route("ada", ["a", "b"]))
    #> a a
    routed = [ab_route(number, {"old": 90, "new": 10}) for number in range(1000)]
    print(routed.count("new"))
    #> 100
    ```
    """
    check_type(_OWNER, "experiment", experiment, str, "a str")
    return _Split(variants, experiment).of(key)


@final
class ABRouter:
    """A ROUTE stage that chooses a variant, for stages with ``route=``.

    Args:
        variants: See ``ab_route``.
        key: Gives the key from the stage's context; by default the id of the user, or of the session, or of the run.
        experiment: See ``ab_route``; by default the name of the stage.

    ```python
    import asyncio

    from stageflow import Pipeline
    from stageflow.pipeline.patterns import with_conditional_branch
    from stageflow.stages.experiment import ABRouter


    async def answer(ctx):
        return {"by": ctx.stage_name}


    router = ABRouter({"old": 90, "new": 10}, key=lambda ctx: ctx.input_text)
    pipeline = with_conditional_branch(Pipeline(), ("split", router), [("old", answer), ("new", answer)])
    results = asyncio.run(pipeline.run(input_text="ada"))
    print(results["split"].data["route"], results["old"].status, results["new"].status)
    #> new skip ok
    ```
    """

    kind = StageKind.ROUTE
    name = "ab_router"

    def __init__(
        self,
        variants: Mapping[str, float] | Iterable[str],
        *,
        key: Callable[[StageContext], object] | None = None,
        experiment: str | None = None,
    ) -> None:
        if key is not None and not callable(key):
            raise wrong_type("ABRouter", "key", "a function of the context", key)
        self._key = key or _who
        self._experiment = experiment
        self._split = _Split(variants, experiment or "")

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Choose."""
        experiment = ctx.stage_name if self._experiment is None else self._experiment
        return StageOutput.ok(route=self._split.of(self._key(ctx), experiment), experiment=experiment)


class _Split:
    """Shares out the numbers below 2**64."""

    def __init__(self, variants: Mapping[str, float] | Iterable[str], experiment: str) -> None:
        shares: dict[str, float] = {}
        if isinstance(variants, Mapping):
            shares |= cast("Mapping[str, float]", variants)
        else:
            for name in items_of(_OWNER, "variants", variants):
                check_name(_OWNER, "variants", name)
                if name in shares:
                    raise wrong_value(_OWNER, "variants", "are named twice", name)
                shares[name] = 1
        for name, share in shares.items():
            check_name(_OWNER, "variants", name)
            _check_share(share)
        total = sum(shares.values())
        if not total:
            raise wrong_value(_OWNER, "variants", "share out nothing", shares)
        self._experiment = experiment
        self._ends: list[tuple[float, str]] = []
        end = 0.0
        for name, share in shares.items():
            if share:
                end += share
                self._ends.append((end / total, name))

    def of(self, key: object, experiment: str | None = None) -> str:
        text = f"{self._experiment if experiment is None else experiment}\0{text_of(key)}"
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        point = int.from_bytes(digest[: _BITS // 8], "big") / 2**_BITS
        return next((name for end, name in self._ends if point < end), self._ends[-1][1])


def _check_share(share: Any) -> None:
    expects, problem = "numbers as shares", "have a share that is negative or not finite"
    number_of(_OWNER, "variants", share, expects=expects, problem=problem, least=0)


def _who(ctx: StageContext) -> object:
    snapshot = ctx.snapshot
    return snapshot.user_id or snapshot.session_id or ctx.pipeline_run_id
