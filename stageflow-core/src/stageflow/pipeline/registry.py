"""``PipelineRegistry``: pipelines by name, and the one that a process shares.

```python
import asyncio

from stageflow import Pipeline, StageKind, pipeline_registry


async def greet(ctx):
    return {"text": f"Hello, {ctx.input_text}"}


pipeline_registry.register("greeting", Pipeline("greeting").with_stage("greet", greet, StageKind.TRANSFORM))
results = asyncio.run(pipeline_registry.get("greeting").run(input_text="Ada"))
print(results["greet"].data["text"])
#> Hello, Ada
```
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias, final

from stageflow.context.checks import check_name, wrong_type
from stageflow.errors import ConfigurationError, close_matches
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.graph import StageGraph

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PipelineNameTakenError", "PipelineNotFoundError", "PipelineRegistry", "pipeline_registry"]

Registered: TypeAlias = Pipeline | StageGraph
_Names: TypeAlias = list[str]  # within the class, "list" is its method

_OWNER = "PipelineRegistry.register"


@final
class PipelineNotFoundError(ConfigurationError, KeyError):
    """No pipeline is registered under that name.

    Args:
        name: The name that was asked for.
        known: The names that there are.

    ```python
    from stageflow.pipeline.registry import PipelineNotFoundError

    print(PipelineNotFoundError("chatt", ["chat", "voice"]).fix)
    #> Did you mean 'chat'?
    ```
    """

    code = "SF-CONFIG-PIPELINE-NOT-FOUND"

    def __init__(self, name: str, known: list[str]) -> None:
        self.name = name
        self.known = tuple(known)
        there = ", ".join(map(repr, known)) or "none"
        super().__init__(
            f"No pipeline is registered as {name!r} (there are: {there})",
            fix=close_matches(str(name), known)
            or "Register it first: pipeline_registry.register(name, pipeline)",
        )


@final
class PipelineNameTakenError(ConfigurationError, ValueError):
    """Another pipeline is registered under that name.

    Args:
        name: The name.

    ```python
    from stageflow.pipeline.registry import PipelineNameTakenError

    print(PipelineNameTakenError("chat").what)
    #> Another pipeline is registered as 'chat'
    ```
    """

    code = "SF-CONFIG-PIPELINE-TAKEN"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"Another pipeline is registered as {name!r}",
            fix="Choose another name, or pass replace=True to put this one in its place",
        )


class PipelineRegistry:
    """Pipelines by name, in the order of their registration. May be used from several threads.

    A subclass may override ``_register_all``, which is called once, when the registry is first read: there it
    imports and registers what the application has, so that nothing is imported before it is asked for.

    ```python
    from stageflow import Pipeline
    from stageflow.pipeline.registry import PipelineRegistry

    registry = PipelineRegistry()
    registry.register("chat", Pipeline("chat"))
    print(registry.get("chat").name, registry.list(), "voice" in registry)
    #> chat ['chat'] False
    ```
    """

    def __init__(self) -> None:
        self._pipelines: dict[str, Registered] = {}
        self._filled = False
        self._lock = threading.RLock()  # the hook registers while it is called

    def register(self, name: str, pipeline: Registered, *, replace: bool = False) -> None:
        """Give *pipeline* a name. To do that twice with the same one is no mistake.

        Args:
            name: The name.
            pipeline: The pipeline, or a built graph.
            replace: Put it in the place of another that has the name.

        Raises:
            PipelineNameTakenError: Another pipeline has the name.
            ArgumentTypeError: *name* is no str, or *pipeline* no pipeline.
            ArgumentValueError: *name* is empty.
        """
        check_name(_OWNER, "name", name)
        if not isinstance(pipeline, (Pipeline, StageGraph)):  # pyright: ignore[reportUnnecessaryIsInstance]
            fix = "A PipelineBuilder is built first: register(name, builder.build())"
            raise wrong_type(_OWNER, "pipeline", "a Pipeline or a StageGraph", pipeline, fix=fix)
        with self._lock:
            if not replace and self._pipelines.get(name, pipeline) is not pipeline:
                raise PipelineNameTakenError(name)
            self._pipelines[name] = pipeline

    def get(self, name: str) -> Registered:
        """Return the pipeline of that name.

        Raises:
            PipelineNotFoundError: There is none; the error lists the names. Also a ``KeyError``.
        """
        known = self._all()
        if name not in known:
            raise PipelineNotFoundError(name, list(known))
        return known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def _register_all(self) -> None:
        """Register what there is; called once, when the registry is first read. For subclasses."""

    def _all(self) -> dict[str, Registered]:
        if not self._filled:
            with self._lock:
                if not self._filled:
                    self._filled = True  # first, as the hook may look at what it has registered
                    try:
                        self._register_all()
                    except BaseException:
                        self._filled = (
                            False  # to ask again shows the error again, not a registry that is half full
                        )
                        raise
        return self._pipelines

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self._pipelines)} pipelines>"

    def list(self) -> _Names:
        """Return the names."""
        return [*self._all()]


pipeline_registry = PipelineRegistry()
"""The registry that a process shares. Nothing of Stageflow registers anything in it."""
