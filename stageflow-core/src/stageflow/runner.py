"""``PipelineRunner``: runs a pipeline and says in one value what became of it; for scripts and consoles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, final

from stageflow.context.checks import check_type, wrong_type
from stageflow.context.frozen import thaw
from stageflow.context.identity import RunIdentity
from stageflow.context.snapshot import ContextSnapshot
from stageflow.errors import PipelineCancelled, PipelineError, PipelineValidationError, RunTimeoutError
from stageflow.events.observable import ObservableEventSink
from stageflow.events.sink import FanOutEventSink, NoOpEventSink, get_event_sink
from stageflow.observability.log_setup import JsonLogFormatter, setup_logging
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.builders import PipelineBuilder
from stageflow.runtime.graph import StageGraph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO
    from uuid import UUID

    from stageflow.errors import StageflowError
    from stageflow.protocols import EventSink
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.results import PipelineResults

__all__ = [
    "JsonLogFormatter",
    "ObservableEventSink",
    "PipelineRunner",
    "RunResult",
    "run_simple_pipeline",
    "setup_logging",
]

Runnable: TypeAlias = Pipeline | PipelineBuilder | StageGraph


@final
@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run.

    Attributes:
        success: Whether it ended well. A run that was cancelled did, as somebody wanted that; one that was over its
            time limit did not.
        stages: What every stage that settled left, as plain data: ``status``, ``data``, ``error`` and ``duration_ms``.
        duration_ms: How long it took, in milliseconds.
        error: What went wrong, in a sentence, or None.
        error_type: The class of the error, or None.
        cancelled: Whether it was cancelled.
        cancel_reason: Why.
        events: Its events, if they were kept.
        pipeline_run_id: The run; None if the pipeline did not build.
        results: The same as ``run()`` of a pipeline returns; None if the pipeline did not build.
        exception: The error itself, or None.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.runner import PipelineRunner, RunResult


    async def greet(ctx):
        return {"text": f"Hello, {ctx.input_text}"}


    pipeline = Pipeline().with_stage("greet", greet, StageKind.TRANSFORM)
    result: RunResult = asyncio.run(PipelineRunner().run(pipeline, input_text="Ada"))
    print(result.success, result.stages["greet"]["data"])
    #> True {'text': 'Hello, Ada'}
    ```
    """

    success: bool
    stages: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    duration_ms: float = 0.0
    error: str | None = None
    error_type: str | None = None
    cancelled: bool = False
    cancel_reason: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pipeline_run_id: UUID | None = None
    results: PipelineResults | None = None
    exception: StageflowError | None = None


@final
class PipelineRunner:
    """Runs pipelines one after another or at once, and never raises because of how a run ends.

    It prints nothing unless it is told to, and leaves the current event sink as it is; that one hears of the runs, too.

    Args:
        verbose: Write a line for every event, and a summary.
        colorize: Colour the lines, if they go to a terminal.
        capture_events: Keep the events for ``RunResult.events``.
        stream: Where the lines go; standard output by default.

    ```python
    import asyncio

    from stageflow import Pipeline, StageContext, stage
    from stageflow.runner import PipelineRunner


    @stage
    async def greet(ctx: StageContext) -> str:
        return f"Hello, {ctx.input_text}"


    result = asyncio.run(PipelineRunner().run(Pipeline.from_stages(greet), input_text="Ada"))
    print(result.success, result.stages["greet"]["data"], len(result.events))
    #> True {'value': 'Hello, Ada'} 4
    ```
    """

    __slots__ = ("capture_events", "colorize", "stream", "verbose")

    def __init__(
        self,
        *,
        verbose: bool = False,
        colorize: bool = True,
        capture_events: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self.verbose = verbose
        self.colorize = colorize
        self.capture_events = capture_events
        self.stream = stream

    async def run(
        self,
        pipeline: Runnable,
        *,
        input_text: str | None = None,
        execution_mode: str | None = None,
        snapshot: ContextSnapshot | None = None,
        metadata: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        ports: Any = None,
        sink: EventSink | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it becomes the run's deadline
        cancel_token: CancellationToken | None = None,
        **ids: UUID | str | None,
    ) -> RunResult:
        """Run a pipeline to its end.

        Args:
            pipeline: The pipeline, a builder, or a built graph.
            input_text: The text that the run works on.
            execution_mode: How to run; by default the snapshot's, or else ``"practice"``.
            snapshot: What the run starts with.
            metadata: More about the input; joins what is in *snapshot*.
            data: See ``StageGraph.run``.
            ports: See ``StageGraph.run``.
            sink: Gets the events too.
            timeout: The limit of the run, in seconds.
            cancel_token: Cancels the run from elsewhere.
            **ids: ``pipeline_run_id``, ``request_id``, ``session_id``, ``user_id``, ``org_id`` and ``interaction_id``,
                as ``UUID`` or text; they win over those in *snapshot*.

        Raises:
            ArgumentTypeError: *pipeline* or *snapshot* is none, or there is no such id.
            ArgumentValueError: An id is no UUID.
        """
        if not isinstance(pipeline, (Pipeline, PipelineBuilder, StageGraph)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("PipelineRunner.run", "pipeline", "a pipeline or a graph", pipeline)
        kinds = (ContextSnapshot, type(None))
        check_type("PipelineRunner.run", "snapshot", snapshot, kinds, "a ContextSnapshot or None")
        started_with = _snapshot(snapshot, execution_mode, ids)
        watching = ObservableEventSink(
            verbose=self.verbose, colorize=self.colorize, capture=self.capture_events, stream=self.stream
        )
        sinks: list[EventSink] = [get_event_sink()] if sink is None else [get_event_sink(), sink]
        if self.verbose or self.capture_events:
            sinks.append(watching)
        # A sink for nobody must not be wrapped: then somebody would be listening.
        heard = [one for one in sinks if not isinstance(one, NoOpEventSink)]
        try:
            graph = pipeline.build() if isinstance(pipeline, (Pipeline, PipelineBuilder)) else pipeline
        except PipelineError as error:
            result = RunResult(False, error=_said(error), error_type=type(error).__name__, exception=error)
        else:
            results = await graph.run(
                started_with,
                input_text=input_text,
                metadata=metadata,
                data=data,
                ports=ports,
                sink=FanOutEventSink(*heard) if heard else NoOpEventSink(),
                timeout=timeout,
                cancel_token=cancel_token,
                raise_errors=False,
            )
            result = _result(results, watching.events)
        if self.verbose:
            _summarize(result, watching)
        return result


async def run_simple_pipeline(
    pipeline: Runnable,
    text: str,
    *,
    execution_mode: str = "practice",
    metadata: Mapping[str, Any] | None = None,
    verbose: bool = False,
    colorize: bool = True,
) -> RunResult:
    """Run a pipeline with a text; see ``PipelineRunner``.

    ```python
    import asyncio

    from stageflow import Pipeline, StageContext, stage
    from stageflow.runner import run_simple_pipeline


    @stage
    async def tone(ctx: StageContext) -> str:
        return ctx.snapshot.metadata["tone"]


    result = asyncio.run(run_simple_pipeline(Pipeline.from_stages(tone), "hi", metadata={"tone": "calm"}))
    print(result.results.value(tone))
    #> calm
    ```
    """
    runner = PipelineRunner(verbose=verbose, colorize=colorize)
    return await runner.run(pipeline, input_text=text, execution_mode=execution_mode, metadata=metadata)


_IDS = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id")


def _snapshot(
    snapshot: ContextSnapshot | None, execution_mode: str | None, ids: Mapping[str, UUID | str | None]
) -> ContextSnapshot:
    for name in ids:
        if name not in _IDS:
            raise wrong_type("PipelineRunner.run", name, f"nothing: there are {', '.join(_IDS)}", ids[name])
    if snapshot is None:
        mode = "practice" if execution_mode is None else execution_mode
        return ContextSnapshot(RunIdentity.from_dict(ids), execution_mode=mode)
    given = {name: value for name, value in ids.items() if value is not None}
    changed = snapshot.with_run_id(RunIdentity.from_dict({**snapshot.run_id.to_dict(), **given}))
    return changed if execution_mode is None else changed.__replace__(execution_mode=execution_mode)


def _said(error: PipelineError) -> str:
    """Return what is wrong with a pipeline: all of it, and not only how much."""
    problems = error.problems if isinstance(error, PipelineValidationError) else ()
    return f"{error.what}: {'; '.join(problem.message for problem in problems)}" if problems else error.what


def _result(results: PipelineResults, events: list[dict[str, Any]]) -> RunResult:
    error = results.error
    cancelled = isinstance(error, PipelineCancelled)
    ended_well = error is None or (cancelled and not isinstance(error, RunTimeoutError))
    return RunResult(
        success=ended_well,
        stages={
            name: {
                "status": output.status.value,
                "data": thaw(output.data),
                "error": output.error,
                "duration_ms": output.duration_ms,
            }
            for name, output in results.items()
        },
        duration_ms=results.duration_ms,
        error=None if ended_well or error is None else error.what,
        error_type=None if ended_well or error is None else type(error).__name__,
        cancelled=cancelled,
        cancel_reason=error.reason if isinstance(error, PipelineCancelled) else None,
        events=events,
        pipeline_run_id=results.run_id,
        results=results,
        exception=error,
    )


def _summarize(result: RunResult, sink: ObservableEventSink) -> None:
    verdict = "cancelled" if result.cancelled else "completed" if result.success else "failed"
    why = result.cancel_reason or result.error
    text = f"Pipeline {verdict} after {result.duration_ms:.1f} ms" + (f": {why}" if why else "")
    sink.write(text, colour="32" if verdict == "completed" else "31")
    for name, stage in result.stages.items():
        sink.write(f"  {name}: {stage['status']}")
