"""``PipelineResults``: what a run leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

from stageflow.context.checks import require_mapping, wrong_type
from stageflow.errors import MissingInputError, close_matches
from stageflow.runtime.run_id import RunId
from stageflow.stages.output import NO_VALUE, StageOutput
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from stageflow.errors import RunError
    from stageflow.runtime.timeline import Timeline
    from stageflow.stages.typed import StageDef

__all__ = ["PipelineResults"]

T = TypeVar("T")


@final
class PipelineResults(Mapping[str, StageOutput]):
    """The outputs of the stages that settled, read-only, in the order in which the pipeline declares them.

    ```python
    import asyncio

    from stageflow import Pipeline, PipelineResults, StageKind, StageOutput


    async def greet(ctx):
        return StageOutput.ok(text=f"Hello, {ctx.input_text}")


    pipeline = Pipeline().with_stage("greet", greet, StageKind.TRANSFORM)
    results: PipelineResults = asyncio.run(pipeline.run(input_text="Ada"))
    print(results["greet"].data["text"])
    #> Hello, Ada
    ```
    """

    __slots__ = ("_duration_ms", "_error", "_outputs", "_pipeline", "_run_id", "_timeline")

    def __init__(
        self,
        outputs: Mapping[str, StageOutput],
        *,
        run_id: UUID | None = None,
        error: RunError | None = None,
        duration_ms: float = 0.0,
        pipeline: str = "",
    ) -> None:
        self._outputs: Mapping[str, StageOutput] = dict(
            require_mapping("PipelineResults", "outputs", outputs)
        )
        self._run_id: UUID | RunId | None = run_id
        self._error = error
        self._duration_ms = duration_ms
        self._pipeline = pipeline
        self._timeline: Timeline | None = None

    @classmethod
    def of_run(
        cls,
        outputs: Mapping[str, StageOutput],
        *,
        run_id: UUID | RunId | None,
        error: RunError | None,
        duration_ms: float,
        pipeline: str,
    ) -> PipelineResults:
        """Make the results of a run out of *outputs* itself."""
        self = cls.__new__(cls)
        self._outputs = outputs
        self._run_id = run_id
        self._error = error
        self._duration_ms = duration_ms
        self._pipeline = pipeline
        self._timeline = None
        return self

    @property
    def run_id(self) -> UUID | None:
        """The run."""
        return self._run_id.made() if isinstance(self._run_id, RunId) else self._run_id

    @property
    def error(self) -> RunError | None:
        """Why the run did not end well, or None."""
        return self._error

    @property
    def duration_ms(self) -> float:
        """How long the run took, in milliseconds."""
        return self._duration_ms

    @property
    def timeline(self) -> Timeline:
        """Where the time went: for every stage, what it waited for and how long it ran; empty of results made by hand.

        ```python
        import asyncio

        from stageflow import Pipeline, stage


        @stage
        async def greet() -> str:
            await asyncio.sleep(0.01)
            return "hi"


        timeline = asyncio.run(Pipeline.from_stages(greet).run()).timeline
        spent = timeline["greet"]
        print([part.value for part in spent.totals], sum(spent.totals.values()) == spent.total_ns)
        #> ['queue', 'run'] True
        ```
        """
        if self._timeline is None:
            from stageflow.runtime.progress import OutputsByName
            from stageflow.runtime.timeline import Timeline

            if isinstance(self._outputs, OutputsByName):
                self._timeline = self._outputs.timeline()
            else:
                self._timeline = Timeline.of_stamps(0, 0, ())
        return self._timeline

    @property
    def pipeline(self) -> str:
        """The pipeline's name."""
        return self._pipeline

    def __getstate__(self) -> tuple[Any, ...]:
        return dict(self), self.run_id, self._error, self._duration_ms, self._pipeline, self.timeline

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._outputs, self._run_id, self._error, self._duration_ms, self._pipeline, self._timeline = state

    def __getitem__(self, stage: str) -> StageOutput:
        try:
            return self._outputs[stage]
        except (KeyError, TypeError):  # the latter: nothing unhashable is a stage
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
        error.fix = close_matches(stage, [name for name in self._outputs if name != stage]) or error.fix
        return error

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={output.status}" for name, output in self._outputs.items())
        return f"<PipelineResults {shown}>"
