"""``StageGraph``: a pipeline compiled for running, immutable and re-entrant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.errors import BuildProblem, ConfigurationError, PluginError, StageExecutionError
from stageflow.executors.inline import InlineExecutor
from stageflow.interceptors.chain import compile_chain, sort_interceptors
from stageflow.runtime.failure import FailureMode
from stageflow.runtime.run import Run, RunRequest
from stageflow.runtime.validation import validate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import EventSink, StageResolver
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.stream import RunStream
    from stageflow.stages.context import PipelineContext, StageContext
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.spec import StageSpec

    Body = Callable[[StageContext], Awaitable[object]]

__all__ = ["CompiledStage", "StageGraph"]


@final
class CompiledStage:
    """A stage that knows its neighbours by number and how it is called.

    Attributes:
        number: Its place in the pipeline, from 0.
        spec: What it was compiled from.
        call: Starts one attempt: the body of the stage inside the interceptors' hooks.
        dependencies: The stages it waits for.
        dependants: The stages that wait for it.
        branch_count: How many of its dependencies may be skipped before they start.
        timeout: The limit of an attempt, in seconds.
        retry: How it is attempted again.
    """

    __slots__ = (
        "branch_count",
        "call",
        "dependants",
        "dependencies",
        "name",
        "number",
        "retry",
        "spec",
        "timeout",
    )

    def __init__(
        self,
        number: int,
        spec: StageSpec,
        call: Body,
        *,
        dependencies: tuple[int, ...],
        dependants: tuple[int, ...],
        branch_count: int,
        timeout: float | None,
        retry: RetryPolicy | None,
    ) -> None:
        self.number = number
        self.name = spec.name
        self.spec = spec
        self.call = call
        self.dependencies = dependencies
        self.dependants = dependants
        self.branch_count = branch_count
        self.timeout = timeout
        self.retry = retry


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
        "_by_name",
        "cleanup_timeout",
        "failure_mode",
        "interceptors",
        "name",
        "stage_specs",
        "stages",
    )

    def __init__(
        self,
        specs: Iterable[StageSpec],
        interceptors: Sequence[BaseInterceptor] | None = None,
        *,
        name: str = "pipeline",
        failure_mode: FailureMode = FailureMode.FAIL_FAST,
        cleanup_timeout: float = 10.0,
        resolver: StageResolver | None = None,
    ) -> None:
        self.name = name
        self.failure_mode = FailureMode(failure_mode)
        self.cleanup_timeout = cleanup_timeout
        if interceptors is None:
            from stageflow.interceptors.defaults import get_default_interceptors

            interceptors = get_default_interceptors()
        self.interceptors = sort_interceptors(interceptors)
        resolved, problems = _resolve(specs, resolver)
        validate(resolved, pipeline=name, more=problems)
        self.stage_specs: tuple[StageSpec, ...] = tuple(resolved)
        self.stages = _compile(self.stage_specs, self.interceptors)
        self._by_name = {stage.name: stage for stage in self.stages}

    def stage(self, name: str) -> CompiledStage:
        """Return a compiled stage by its name.

        Raises:
            KeyError: There is none.
        """
        return self._by_name[name]

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
        """Run, and yield the run's events as they happen; see ``run`` for the arguments.

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


def _resolve(
    specs: Iterable[StageSpec], resolver: StageResolver | None
) -> tuple[list[StageSpec], list[BuildProblem]]:
    """Put what they stand for in the place of names, and return what was not found beside it."""
    resolved: list[StageSpec] = []
    problems: list[BuildProblem] = []
    for spec in specs:
        runner, executor = spec.runner, spec.executor
        if isinstance(runner, str):
            runner = _find(spec, "stage", runner, resolver, problems)
        if executor == InlineExecutor.name:
            executor = None
        elif isinstance(executor, str):
            executor = _find(spec, "executor", executor, resolver, problems)
        same = runner is spec.runner and executor is spec.executor
        resolved.append(spec if same else spec.placed(runner, executor))
    return resolved, problems


def _find(
    spec: StageSpec, noun: str, name: str, resolver: StageResolver | None, problems: list[BuildProblem]
) -> Any:
    message = f"Stage {spec.name!r} names the contributed {noun} {name!r}"
    if resolver is None:
        message += ", and nothing here can look it up"
        fix = "Run it through Stageflow(): await Stageflow().run(pipeline), or pass build(resolver=...)"
        problems.append(BuildProblem("SF-BUILD-NO-RESOLVER", message, fix=fix, stages=[spec.name]))
        return name if noun == "stage" else None
    try:
        return resolver.stage(name) if noun == "stage" else resolver.executor(name)
    except (ConfigurationError, PluginError) as exc:
        fix = exc.fix or "See what the message says of the cause"
        problems.append(BuildProblem(exc.code, f"{message}: {exc.what}", fix=fix, stages=[spec.name]))
        return name if noun == "stage" else None


def _body(spec: StageSpec) -> Body:
    """Return what to await for one attempt of a stage."""
    runner, executor = spec.runner, spec.executor
    if isinstance(runner, type):
        # One instance per attempt: what a stage keeps on itself is never shared between runs.
        config = dict(spec.config)
        body: Body = lambda ctx: runner(**config).execute(ctx)  # noqa: E731 - it closes over two names
    else:
        body = getattr(runner, "execute", runner)
    if executor is None or isinstance(executor, (str, InlineExecutor)):
        return body
    return lambda ctx: executor.execute(body, ctx)


def _compile(
    specs: Sequence[StageSpec], interceptors: Sequence[BaseInterceptor]
) -> tuple[CompiledStage, ...]:
    """Turn sound specs into stages that know their successors by number."""
    ids = {spec.name: number for number, spec in enumerate(specs)}
    dependencies = [tuple(ids[name] for name in dict.fromkeys(spec.dependencies)) for spec in specs]
    dependants: list[list[int]] = [[] for _ in specs]
    for number, wanted in enumerate(dependencies):
        for dependency in wanted:
            dependants[dependency].append(number)
    branches = _branches(specs, dependencies, dependants)
    stages: list[CompiledStage] = []
    for number, spec in enumerate(specs):
        timeouts = [limit for one in interceptors if (limit := one.timeout(spec)) is not None]
        policies = [policy for one in interceptors if (policy := one.retry(spec)) is not None]
        stages.append(
            CompiledStage(
                number,
                spec,
                compile_chain(spec.name, _body(spec), interceptors),
                dependencies=dependencies[number],
                dependants=tuple(dependants[number]),
                branch_count=sum(branches[dependency] for dependency in dependencies[number]),
                timeout=spec.timeout or min(timeouts, default=None),
                retry=spec.retry or next(iter(policies), None),
            )
        )
    return tuple(stages)


def _branches(
    specs: Sequence[StageSpec], dependencies: Sequence[Sequence[int]], dependants: Sequence[Sequence[int]]
) -> list[bool]:
    """Say for every stage whether its branch may be skipped before it starts."""
    may_skip = [bool(spec.when or spec.conditional or spec.requires) for spec in specs]
    left = [len(wanted) for wanted in dependencies]
    order = [number for number, count in enumerate(left) if not count]
    for number in order:  # grows while it is read
        for dependant in dependants[number]:
            may_skip[dependant] |= may_skip[number]
            left[dependant] -= 1
            if not left[dependant]:
                order.append(dependant)
    return may_skip
