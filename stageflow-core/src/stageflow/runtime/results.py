"""``PipelineResults``: what a run leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

from stageflow.context.checks import wrong_type
from stageflow.errors import MissingInputError, close_matches
from stageflow.stages.output import NO_VALUE, StageOutput
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from stageflow.errors import RunError
    from stageflow.stages.typed import StageDef

__all__ = ["PipelineResults"]

T = TypeVar("T")


@final
class PipelineResults(Mapping[str, StageOutput]):
    """The outputs of the stages that settled, read-only, in the order in which the pipeline declares them.

    Attributes:
        run_id: The run.
        error: Why the run did not end well, or None.
        duration_ms: How long the run took, in milliseconds.
        pipeline: The pipeline's name.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind, StageOutput


    async def greet(ctx):
        return StageOutput.ok(text=f"Hello, {ctx.input_text}")


    pipeline = Pipeline().with_stage("greet", greet, StageKind.TRANSFORM)
    results = asyncio.run(pipeline.run(input_text="Ada"))
    print(results["greet"].data["text"])
    #> Hello, Ada
    ```
    """

    __slots__ = ("_outputs", "duration_ms", "error", "pipeline", "run_id")

    def __init__(
        self,
        outputs: Mapping[str, StageOutput],
        *,
        run_id: UUID | None = None,
        error: RunError | None = None,
        duration_ms: float = 0.0,
        pipeline: str = "",
    ) -> None:
        self._outputs = dict(outputs)
        self.run_id = run_id
        self.error = error
        self.duration_ms = duration_ms
        self.pipeline = pipeline

    def __getitem__(self, stage: str) -> StageOutput:
        try:
            return self._outputs[stage]
        except KeyError:
            raise self._missing(stage) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    @overload
    def value(self, stage: StageDef[T]) -> T: ...

    @overload
    def value(self, stage: str) -> Any: ...

    def value(self, stage: StageDef[T] | str) -> T | Any:
        """Return the typed value of a stage; of one that has none, its data.

        Raises:
            MissingInputError: The stage left no value: it was skipped, failed or never ran. Also a ``KeyError``.
        """
        if not isinstance(stage, str):
            if not hasattr(stage, "read"):
                raise wrong_type(
                    "PipelineResults.value", "stage", "a stage made with @stage, or a name", stage
                )
            return stage.read(self._outputs.get(stage.name))
        output = self._outputs.get(stage)
        if output is None or output.status is not StageStatus.OK:
            raise self._missing(stage)
        return output.data if output.value is NO_VALUE else output.value

    def _missing(self, stage: str) -> MissingInputError:
        error = MissingInputError(stage, None)
        error.fix = close_matches(str(stage), self._outputs.keys() - {stage}) or error.fix
        return error

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={output.status}" for name, output in self._outputs.items())
        return f"<PipelineResults {shown}>"
