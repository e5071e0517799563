"""``StageGraph``: a pipeline compiled for running, immutable and re-entrant."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, final

from stageflow.context.checks import (
    check_count,
    check_name,
    check_type,
    items_of,
    number_of,
    require_mapping,
    shown,
    wrong_type,
    wrong_value,
)
from stageflow.context.record import ReadOnlyFieldError
from stageflow.errors import ConfigurationError, StageExecutionError, close_matches
from stageflow.interceptors.chain import (
    asked_at_start,
    compile_chain,
    has_facts,
    hears_of_failures,
    sort_interceptors,
)
from stageflow.runtime.compilation import as_limit, compile_stages, order_problems, resolve_names
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.request import RunRequest
from stageflow.runtime.run import Run
from stageflow.runtime.validation import raise_problems, validate
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.events.wide import WideEventEmitter
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import EventSink, Executor, StageResolver
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.compilation import Body, CompiledStage
    from stageflow.runtime.guard_retry import GuardRetryStrategy
    from stageflow.runtime.limits import ConcurrencyLimit
    from stageflow.runtime.recording import Recording
    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.stream import RunStream
    from stageflow.stages.context import StageContext
    from stageflow.stages.pipeline_context import PipelineContext

    Calls = tuple[tuple[Body, ...], tuple[BaseInterceptor, ...]]

__all__ = ["StageGraph", "WideEvents"]

_logger = logging.getLogger("stageflow.interceptors")


class WideEvents(NamedTuple):
    """Which wide events a graph emits beside the usual ones."""

    emitter: WideEventEmitter
    stages: bool
    pipeline: bool


@final
class StageGraph:
    """A pipeline compiled for running. Nothing in it changes, so any number of runs may share it.

    Args:
        specs: The stages.
        interceptors: What wraps every stage; None means the defaults, an empty list means nothing.
        name: The pipeline's name.
        failure_mode: What a run does when a stage has failed.
        cleanup_timeout: The limit for all cleanup callbacks of a run together, in seconds.
        resolver: Finds stages that are named as ``"owner.name"``.
        guard_retry_strategy: Which guards send back what they guard.
        max_concurrency: How many stages of one run may run at once; None means any number.
        recording: The store and the loggers that hear of the runs.
        wide_event_emitter: Builds the wide events; one with the usual types by default.
        emit_stage_wide_events: Whether every settled stage emits one.
        emit_pipeline_wide_event: Whether every run emits one when it ends.
        max_runs: How many runs of the graph there may be at once: a number, or a ``ConcurrencyLimit``.
        executors: Where stages of a kind run, if they do not say it themselves: ``{StageKind.TRANSFORM: executor}``.

    Raises:
        PipelineValidationError: Something is wrong with the stages; ``problems`` lists everything.

    ```python
    import asyncio

    from stageflow import StageGraph, StageKind, StageOutput, StageSpec


    async def greet(ctx):
        return StageOutput.ok(text="hi")


    graph = StageGraph([StageSpec("greet", greet, StageKind.TRANSFORM)])
    print(asyncio.run(graph.run())["greet"].data)
    #> {'text': 'hi'}
    ```
    """

    __slots__ = (
        "_asked",
        "_calls",
        "_sealed",
        "_watchers",
        "cleanup_timeout",
        "failure_mode",
        "gated",
        "has_effects",
        "informants",
        "interceptors",
        "is_asking",
        "limited",
        "max_concurrency",
        "max_runs",
        "name",
        "recording",
        "roots",
        "stage_specs",
        "stages",
        "stages_by_name",
        "streamed",
        "waits",
        "wide_events",
    )

    def __init__(
        self,
        specs: Sequence[StageSpec],
        interceptors: Sequence[BaseInterceptor] | None = None,
        *,
        name: str = "pipeline",
        failure_mode: FailureMode = FailureMode.FAIL_FAST,
        cleanup_timeout: float = 10.0,
        resolver: StageResolver | None = None,
        guard_retry_strategy: GuardRetryStrategy | None = None,
        max_concurrency: int | None = None,
        max_runs: int | ConcurrencyLimit | None = None,
        recording: Recording | None = None,
        wide_event_emitter: WideEventEmitter | None = None,
        emit_stage_wide_events: bool = False,
        emit_pipeline_wide_event: bool = False,
        executors: Mapping[StageKind, Executor | str] | None = None,
    ) -> None:
        self.name = name
        _check_options(name, specs, interceptors, failure_mode, resolver)
        _check_parts(max_concurrency, max_runs, guard_retry_strategy, recording, wide_event_emitter)
        expects, problem = "a number of seconds", "must be positive"
        self.cleanup_timeout = number_of(
            "StageGraph",
            "cleanup_timeout",
            cleanup_timeout,
            expects=expects,
            problem=problem,
            positive=True,
            infinite=True,
        )
        self.failure_mode = FailureMode(failure_mode)
        if interceptors is None:
            from stageflow.interceptors.defaults import get_default_interceptors

            interceptors = get_default_interceptors()
        self.interceptors = sort_interceptors(interceptors)
        resolved, problems = resolve_names(specs, resolver, _by_kind(executors))
        if guard_retry_strategy is not None:
            problems += guard_retry_strategy.problems({spec.name: spec for spec in resolved})
        validate(resolved, pipeline=name, more=problems)
        self.stage_specs: tuple[StageSpec, ...] = tuple(resolved)
        self.stages = compile_stages(self.stage_specs, self.interceptors, guard_retry_strategy)
        raise_problems(list(order_problems(self.stages)), pipeline=name)
        self.waits = [stage.waits_for for stage in self.stages]
        self.roots = [stage.number for stage in self.stages if not stage.waits_for]
        self.max_concurrency = max_concurrency
        self.max_runs = as_limit(max_runs)
        self.recording = recording
        self.wide_events: WideEvents | None = None
        if emit_stage_wide_events or emit_pipeline_wide_event:
            from stageflow.events.wide import WideEventEmitter

            emitter = WideEventEmitter() if wide_event_emitter is None else wide_event_emitter
            self.wide_events = WideEvents(emitter, emit_stage_wide_events, emit_pipeline_wide_event)
        self.limited = max_concurrency is not None or any(stage.limit is not None for stage in self.stages)
        self.gated = any(stage.spec.gates_effects for stage in self.stages)
        self.streamed = any(stage.streams for stage in self.stages)
        self.has_effects = any(stage.has_effect for stage in self.stages)
        # What runs of such graphs use is imported now, and not on the time of the first.
        for used, room in ((self.gated, "gate"), (self.gated, "pauses"), (self.streamed, "streams")):
            if used:
                import_module(f"stageflow.runtime.{room}")
        self.stages_by_name = {stage.name: stage for stage in self.stages}
        self._asked = list(asked_at_start(self.interceptors))
        self.is_asking = bool(self._asked)
        self.informants = [one for one in self.interceptors if has_facts(one)]
        self._watchers = [one for one in self.interceptors if hears_of_failures(one)]
        self._calls: dict[tuple[int, ...], Calls] = {}
        self._sealed = True

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "_sealed"):
            raise ReadOnlyFieldError("StageGraph", name)
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise ReadOnlyFieldError("StageGraph", name)

    def stage(self, name: str) -> CompiledStage:
        """Return a compiled stage by its name.

        Raises:
            ConfigurationError: There is none.
        """
        try:
            return self.stages_by_name[name]
        except (KeyError, TypeError):
            msg = f"Pipeline {self.name!r} has no stage {shown(name)}"
            fix = close_matches(name, self.stages_by_name) or f"It has {', '.join(self.stages_by_name)}"
            raise ConfigurationError(msg, fix=fix) from None

    def active_in(self, run: Run) -> list[BaseInterceptor]:
        """Return the interceptors whose hooks concern a run, outermost first; called in the run's context."""
        active: list[BaseInterceptor] = []
        for one, attach, outer in self._asked:
            try:
                concerned = attach is None or attach(run, outer)
            except Exception:
                what = "Interceptor %r raised in attach(); its hooks are called"
                _logger.warning(what, one.name, exc_info=True)
                concerned = True
            if concerned:
                active.append(one)
        active.reverse()
        return active

    def calls(self, active: Sequence[BaseInterceptor]) -> Calls:
        """Return, for every stage, what makes the coroutine of an attempt inside the hooks of *active*.

        They are put together once for each choice of interceptors, of which there are few.

        Returns:
            These, and the interceptors beside the active ones that want to hear of failures.
        """
        key = tuple(map(id, active))
        calls = self._calls.get(key)
        if calls is None:
            inside = compile_chain(active)
            bodies = tuple([inside(stage.name, stage.call) for stage in self.stages])
            watchers = tuple([one for one in self._watchers if one not in active])
            calls = self._calls[key] = bodies, watchers
        return calls

    async def run(
        self,
        context: PipelineContext | ContextSnapshot | StageContext | None = None,
        *,
        input_text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        ports: Any = None,
        sink: EventSink | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - it becomes the run's deadline
        cancel_token: CancellationToken | None = None,
        raise_errors: bool = True,
    ) -> PipelineResults:
        """Run every stage as soon as the stages it depends on have settled.

        Neither returns nor raises while anything that the run started is alive.

        Args:
            context: Who asks, for whom, with what. Nothing makes a run without ids but its own.
            input_text: The text that the run works on; wins over the one in *context*.
            metadata: More about the input; joins what is in *context*.
            data: What interceptors find under ``ctx.data``.
            ports: What stages find under ``ctx.inputs.ports``.
            sink: Where events go; by default the context's, or the current one.
            timeout: The limit of the run, in seconds.
            cancel_token: Cancels the run from elsewhere.
            raise_errors: False returns the results with ``.error`` set instead of raising.

        Raises:
            StageExecutionError: A stage failed; ``results`` holds what had settled.
            PipelineCancelled: A stage or the token cancelled the run; ``results`` holds what had settled.
            RunTimeoutError: The limit passed; also a ``PipelineCancelled`` and a ``TimeoutError``.
        """
        request = RunRequest(context, input_text, metadata, data, ports, sink, timeout, cancel_token)
        results = await Run(self, request).execute()
        if raise_errors and results.error is not None and self._raises(results.error):
            raise results.error
        return results

    def stream(
        self,
        context: PipelineContext | ContextSnapshot | StageContext | None = None,
        *,
        input_text: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        ports: Any = None,
        sink: EventSink | None = None,
        timeout: float | None = None,
        cancel_token: CancellationToken | None = None,
        raise_errors: bool = True,
        buffer: int = 1024,
    ) -> RunStream:
        """Run, and yield the run's events, and the chunks that stages publish, as they happen and in that order.

        A chunk comes as a ``stream.chunk`` event. See ``run`` for the arguments.

        Args:
            context: See ``run``.
            input_text: See ``run``.
            metadata: See ``run``.
            data: See ``run``.
            ports: See ``run``.
            sink: Gets the events too.
            timeout: See ``run``.
            cancel_token: See ``run``.
            raise_errors: Whether a run that did not end well raises, after its last event.
            buffer: How many events may wait for a slow reader; beyond it the oldest are dropped, and a
                ``stream.gap`` event says how many.
        """
        from stageflow.runtime.stream import RunStream

        request = RunRequest(context, input_text, metadata, data, ports, sink, timeout, cancel_token)

        def raises(results: PipelineResults) -> bool:
            return raise_errors and results.error is not None and self._raises(results.error)

        return RunStream(lambda sink: Run(self, request, sink).execute(), buffer=buffer, raises=raises)

    def _raises(self, error: Exception) -> bool:
        return self.failure_mode is not FailureMode.BEST_EFFORT or not isinstance(error, StageExecutionError)

    def __repr__(self) -> str:
        return f"<StageGraph {self.name!r}: {len(self.stages)} stages>"


def _check_options(name: Any, specs: Any, interceptors: Any, failure_mode: Any, resolver: Any) -> None:
    """Refuse what no type checker was there to refuse.

    Raises:
        ArgumentTypeError, ArgumentValueError: Naming the argument.
    """
    owner = "StageGraph"
    check_name(owner, "name", name)
    if specs is None:
        raise wrong_type(owner, "specs", "a list of StageSpec", specs)
    for spec in items_of(owner, "specs", specs):
        check_type(owner, "specs", spec, StageSpec, "a list of StageSpec")
    for one in items_of(owner, "interceptors", [] if interceptors is None else interceptors):
        if isinstance(one, type) or not (hasattr(one, "priority") and hasattr(one, "before")):
            expects = "a list of interceptors (objects, not classes)"
            raise wrong_type(owner, "interceptors", expects, one, fix="Pass instances of BaseInterceptor")
    if failure_mode not in list(FailureMode):
        raise wrong_value(owner, "failure_mode", "is no FailureMode", failure_mode)
    if resolver is not None and not (hasattr(resolver, "stage") and hasattr(resolver, "executor")):
        raise wrong_type(owner, "resolver", "a StageResolver", resolver)


def _by_kind(executors: Any) -> Mapping[StageKind, Executor | str] | None:
    """Refuse what no type checker was there to refuse.

    Raises:
        ArgumentTypeError, ArgumentValueError: Naming the argument.
    """
    if executors is None:
        return None
    owner, argument = "StageGraph", "executors"
    for kind, executor in require_mapping(owner, argument, executors).items():
        if kind not in list(StageKind):
            raise wrong_value(owner, argument, "has a key that is no StageKind", kind)
        if not isinstance(executor, str) and not hasattr(executor, "execute"):
            raise wrong_type(owner, argument, "an executor, or the name of one, for each kind", executor)
    return {StageKind(kind): executor for kind, executor in executors.items()}


def _check_parts(max_concurrency: Any, max_runs: Any, strategy: Any, recording: Any, emitter: Any) -> None:
    """Refuse limits that are none, and parts of another kind.

    Raises:
        ArgumentTypeError, ArgumentValueError: Naming the argument.
    """
    owner = "StageGraph"
    if max_concurrency is not None:
        check_count(owner, "max_concurrency", max_concurrency, least=1)
    if isinstance(max_runs, int):
        check_count(owner, "max_runs", max_runs, least=1)
    elif max_runs is not None:
        from stageflow.runtime.limits import ConcurrencyLimit

        check_type(owner, "max_runs", max_runs, ConcurrencyLimit, "an int or a ConcurrencyLimit")
    if strategy is not None:
        from stageflow.runtime.guard_retry import GuardRetryStrategy

        check_type(owner, "guard_retry_strategy", strategy, GuardRetryStrategy, "a GuardRetryStrategy")
    if recording is not None:
        from stageflow.runtime.recording import Recording

        check_type(owner, "recording", recording, Recording, "a Recording")
    if emitter is not None:
        from stageflow.events.wide import WideEventEmitter

        check_type(owner, "wide_event_emitter", emitter, WideEventEmitter, "a WideEventEmitter")
