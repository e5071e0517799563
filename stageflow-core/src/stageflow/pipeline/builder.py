"""``Pipeline``: describes a DAG of stages, step by step, without ever changing."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context.checks import check_name, check_type, shown, wrong_type
from stageflow.errors import ConfigurationError
from stageflow.runtime.failure import FailureMode
from stageflow.stages.spec import StageSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.events.wide import WideEventEmitter
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import EventSink, Executor, StageResolver
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.guard_retry import GuardRetryStrategy
    from stageflow.runtime.limits import ConcurrencyLimit
    from stageflow.runtime.recording import Recording
    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.stream import RunStream
    from stageflow.stages.context import StageContext
    from stageflow.stages.effect import Effect
    from stageflow.stages.inputs import StageInputs
    from stageflow.stages.pipeline_context import PipelineContext
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.stage import StageKind
    from stageflow.stages.stream_edge import StreamEdge
    from stageflow.stages.typed import StageDef

__all__ = ["Pipeline"]


@final
class Pipeline:
    """A DAG of stages. Every method returns a new pipeline and leaves this one as it is.

    Args:
        name: What the pipeline is called in events and errors.
        stages: Stages to begin with, by name.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind, StageOutput


    async def greet(ctx):
        return StageOutput.ok(text=f"Hello, {ctx.input_text}")


    async def shout(ctx):
        return StageOutput.ok(text=ctx.inputs.require_from("greet", "text").upper())


    pipeline = (
        Pipeline("greeting")
        .with_stage("greet", greet, StageKind.TRANSFORM)
        .with_stage("shout", shout, StageKind.TRANSFORM, dependencies=["greet"])
    )
    results = asyncio.run(pipeline.run(input_text="Ada"))
    print(results["shout"].data["text"])
    #> HELLO, ADA
    ```
    """

    __slots__ = ("__weakref__", "_count", "_graph", "_specs", "name")

    def __init__(self, name: str = "pipeline", stages: Mapping[str, StageSpec] | None = None) -> None:
        check_name("Pipeline", "name", name)
        self.name = name
        # Pipelines that grew out of each other share one list, of which each sees the beginning. So a pipeline of n
        # stages is built in O(n); only who branches off an older one pays for a copy.
        self._specs: list[StageSpec] = [] if stages is None else _specs_in(stages)
        self._count = len(self._specs)
        self._graph: StageGraph | None = None

    @classmethod
    def from_stages(cls, *stages: StageDef[Any] | StageSpec, name: str = "pipeline") -> Pipeline:
        """Make a pipeline of stages that know their own dependencies, such as those made with ``@stage``.

        Raises:
            ConfigurationError: One of them does not say what it depends on.
        """
        pipeline = cls(name)
        for one in stages:
            pipeline = pipeline._grown(_spec_of(one))
        return pipeline

    @property
    def stages(self) -> Mapping[str, StageSpec]:
        """The stages by name. Of two with the same name, which no build accepts, the later."""
        return MappingProxyType({spec.name: spec for spec in self.specs})

    @property
    def specs(self) -> tuple[StageSpec, ...]:
        """The stages in the order of their declaration."""
        return tuple(self._specs[: self._count])

    def with_stage(
        self,
        name: str,
        runner: Any,
        kind: StageKind,
        dependencies: Iterable[str] | None = None,
        conditional: bool = False,  # noqa: FBT001, FBT002 - the published signature is positional
        config: Mapping[str, Any] | None = None,
        *,
        when: Callable[[StageInputs], bool] | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        executor: Executor | str | None = None,
        route: str | Iterable[str] = (),
        limit: int | ConcurrencyLimit | None = None,
        effect: Effect | None = None,
        gates_effects: bool = False,
        gated: bool = True,
        streams: str | StreamEdge | Iterable[str | StreamEdge] = (),
        restartable: bool = False,
    ) -> Pipeline:
        """Return a pipeline with one more stage; whatever is wrong with it is reported by ``build``.

        Args:
            name: The stage's name.
            runner: A class with ``execute`` (one instance is made per attempt), an instance of one, an async
                callable, a stage made with ``@stage``, or the name of a contributed stage (``"owner.name"``).
            kind: What the stage is for.
            dependencies: The stages it waits for and may read.
            conditional: Skip the stage when one of its dependencies was skipped.
            config: Keyword arguments for the runner's constructor.
            when: Run the stage only if this says so of its inputs; otherwise its branch is skipped.
            timeout: The limit of one attempt, in seconds.
            retry: How the stage is attempted again.
            executor: Where its body runs.
            route: Run the stage only if its ROUTE dependency chose this label, or one of these.
            limit: How many executions of the stage may run at once, over all runs of the built graph.
            effect: What it does to the world; None means ``IRREVERSIBLE`` for WORK and ``NONE`` for other kinds.
            gates_effects: Hold back all effects of the pipeline until this stage has let them pass.
            gated: Whether gates hold this stage's effect.
            streams: The stages whose chunks it reads while they run.
            restartable: Attempt it again even if it has published chunks.
        """
        return self._grown(
            StageSpec(
                name,
                runner,
                kind,
                dependencies or (),
                conditional,
                config,
                when=when,
                timeout=timeout,
                retry=retry,
                executor=executor,
                route=route,
                limit=limit,
                effect=effect,
                gates_effects=gates_effects,
                gated=gated,
                streams=streams,
                restartable=restartable,
            )
        )

    def compose(self, other: Pipeline) -> Pipeline:
        """Return a pipeline with the stages of both and the name of this one. Equal stages are taken once."""
        check_type("Pipeline.compose", "other", other, Pipeline, "a Pipeline")
        known = {spec.name: spec for spec in self.specs}
        pipeline = self
        for spec in other.specs:
            if known.get(spec.name) != spec:
                pipeline = pipeline._grown(spec)
        return pipeline

    def build(
        self,
        *,
        interceptors: Sequence[BaseInterceptor] | None = None,
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
    ) -> StageGraph:
        """Check everything and compile; see ``StageGraph`` for the arguments.

        Raises:
            PipelineValidationError: Something is wrong with the pipeline; ``problems`` lists everything.
        """
        from stageflow.runtime.graph import StageGraph

        return StageGraph(
            self.specs,
            interceptors,
            name=self.name,
            failure_mode=failure_mode,
            cleanup_timeout=cleanup_timeout,
            resolver=resolver,
            guard_retry_strategy=guard_retry_strategy,
            max_concurrency=max_concurrency,
            max_runs=max_runs,
            recording=recording,
            wide_event_emitter=wide_event_emitter,
            emit_stage_wide_events=emit_stage_wide_events,
            emit_pipeline_wide_event=emit_pipeline_wide_event,
            executors=executors,
        )

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
        """Build with the defaults, once, and run; see ``StageGraph.run`` for the arguments."""
        return await self._built().run(
            context,
            input_text=input_text,
            metadata=metadata,
            data=data,
            ports=ports,
            sink=sink,
            timeout=timeout,
            cancel_token=cancel_token,
            raise_errors=raise_errors,
        )

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
        """Build with the defaults, once, and stream the run's events; see ``StageGraph.stream``."""
        return self._built().stream(
            context,
            input_text=input_text,
            metadata=metadata,
            data=data,
            ports=ports,
            sink=sink,
            timeout=timeout,
            cancel_token=cancel_token,
            raise_errors=raise_errors,
            buffer=buffer,
        )

    def _built(self) -> StageGraph:
        if self._graph is None:
            self._graph = self.build()
        return self._graph

    def _grown(self, spec: StageSpec) -> Pipeline:
        grown = Pipeline(self.name)
        specs, count = self._specs, self._count
        specs_end = len(specs)
        if specs_end == count:
            specs.append(spec)
        if specs_end != count or specs[count] is not spec:  # an older pipeline, or another thread was quicker
            specs = [*specs[:count], spec]
        grown._specs = specs
        grown._count = count + 1
        return grown

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r}: {self._count} stages>"


def _specs_in(stages: Any) -> list[StageSpec]:
    """Return the specs of a mapping, each of which must be under its own name."""
    expects = "a mapping of names to their StageSpec"
    check_type("Pipeline", "stages", stages, Mapping, expects)
    for name, spec in cast("Mapping[Any, Any]", stages).items():
        if not isinstance(spec, StageSpec) or spec.name != name:
            raise wrong_type("Pipeline", "stages", expects, spec)
    return list(stages.values())


def _spec_of(one: Any) -> StageSpec:
    if isinstance(one, StageSpec):
        return one
    make = getattr(one, "spec", None)
    spec = make() if callable(make) else None
    if not isinstance(spec, StageSpec):
        msg = f"{shown(one)} does not say what it depends on"
        fix = "Make it with @stage, or add it by with_stage(name, runner, kind, dependencies=[...])"
        raise ConfigurationError(msg, fix=fix)
    return spec
