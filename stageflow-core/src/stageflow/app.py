"""``Stageflow``: the one place where configuration, plugins and pipelines meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary

from stageflow.errors import ContributionInvalidError
from stageflow.events.sink import FanOutEventSink
from stageflow.interceptors.chain import InterceptorChain
from stageflow.plugins.host import PluginHost
from stageflow.plugins.ordering import order_interceptors
from stageflow.runtime.failure import FailureMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.pipeline.builder import Pipeline
    from stageflow.plugins.contributions import Contribution
    from stageflow.plugins.registry import Entry, Registry
    from stageflow.protocols import EventSink, Executor
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.stream import RunStream
    from stageflow.stages.context import StageContext
    from stageflow.stages.pipeline_context import PipelineContext
    from stageflow.stages.stage import StageKind

__all__ = ["Stageflow"]


@final
class Stageflow:
    """Builds and runs pipelines with what plugins contribute: stages, interceptors, sinks and executors by name.

    An ordinary object; make one per configuration. Plugins are found when something is first needed of them.

    Args:
        host: The plugins; by default those that are installed.
        interceptors: What wraps every stage: names of contributed ones, or interceptors, outermost first. None means
            the contributed ones that are meant to be there by default.
        sinks: Where the events of every run go: names of contributed sinks, or sinks.

    ```python
    import asyncio

    from stageflow import Pipeline, Stageflow, stage


    @stage
    async def answer() -> int:
        return 42


    app = Stageflow()
    print(asyncio.run(app.run(Pipeline.from_stages(answer))).value(answer))
    #> 42
    ```
    """

    __slots__ = ("_graphs", "_interceptors", "_resolver", "_sinks", "host")

    def __init__(
        self,
        host: PluginHost | None = None,
        *,
        interceptors: Sequence[str | BaseInterceptor] | None = None,
        sinks: Iterable[str | EventSink] = (),
    ) -> None:
        self.host = PluginHost() if host is None else host
        self._interceptors = interceptors
        self._sinks = tuple(sinks)
        self._resolver = _HostResolver(self.host)
        self._graphs: WeakKeyDictionary[Pipeline, StageGraph] = WeakKeyDictionary()

    def interceptors(self) -> InterceptorChain:
        """Return a fresh chain, in the order in which it will be entered.

        Raises:
            ContributionNotFoundError: A name is nobody's.
            ContributionConflictError: What plugins wish of the order goes round in a circle.
        """
        contributed = self.host.interceptors()
        if self._interceptors is not None:
            return InterceptorChain(
                _made(contributed, one) if isinstance(one, str) else one for one in self._interceptors
            )
        chosen = [entry for entry in contributed.values() if entry.contribution.default]
        return InterceptorChain(_instance(entry) for entry in order_interceptors(chosen))

    def build(
        self,
        pipeline: Pipeline,
        *,
        interceptors: Sequence[BaseInterceptor] | None = None,
        failure_mode: FailureMode = FailureMode.FAIL_FAST,
        cleanup_timeout: float = 10.0,
        executors: Mapping[StageKind, Executor | str] | None = None,
    ) -> StageGraph:
        """Check and compile *pipeline* with this app's interceptors, looking up what it names.

        See ``StageGraph`` for the arguments.

        Raises:
            PipelineValidationError: Something is wrong with the pipeline, or a plugin that it needs is not usable.
        """
        return pipeline.build(
            interceptors=self.interceptors() if interceptors is None else interceptors,
            failure_mode=failure_mode,
            cleanup_timeout=cleanup_timeout,
            resolver=self._resolver,
            executors=executors,
        )

    async def run(
        self,
        pipeline: Pipeline,
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
        """Build *pipeline*, once, and run it; see ``StageGraph.run`` for the arguments."""
        return await self._built(pipeline).run(
            context,
            input_text=input_text,
            metadata=metadata,
            data=data,
            ports=ports,
            sink=self._sink(sink),
            timeout=timeout,
            cancel_token=cancel_token,
            raise_errors=raise_errors,
        )

    def stream(
        self,
        pipeline: Pipeline,
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
        """Build *pipeline*, once, and stream the events of a run; see ``StageGraph.stream`` for the arguments."""
        return self._built(pipeline).stream(
            context,
            input_text=input_text,
            metadata=metadata,
            data=data,
            ports=ports,
            sink=self._sink(sink),
            timeout=timeout,
            cancel_token=cancel_token,
            raise_errors=raise_errors,
            buffer=buffer,
        )

    async def aclose(self) -> None:
        """Close what the app has made: the executors that pipelines name, with their threads and processes.

        ``async with Stageflow() as app:`` does it. An app whose pipelines name no executor need not be closed.
        """
        await self._resolver.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _built(self, pipeline: Pipeline) -> StageGraph:
        graph = self._graphs.get(pipeline)
        if graph is None:
            graph = self._graphs[pipeline] = self.build(pipeline)
        return graph

    def _sink(self, extra: EventSink | None) -> EventSink | None:
        """Return this app's sinks and *extra* as one; None leaves the choice to the run."""
        if not self._sinks:
            return extra
        sinks: list[EventSink] = [
            _made(self.host.sinks(), one) if isinstance(one, str) else one for one in self._sinks
        ]
        if extra is not None:
            sinks.append(extra)
        return FanOutEventSink(*sinks)


@final
class _HostResolver:
    """Finds what pipelines name among what the host's plugins contribute."""

    __slots__ = ("_executors", "_host")

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._executors: dict[str, Executor] = {}

    def stage(self, name: str) -> object:
        return self._host.stages()[name].resolve()

    def executor(self, name: str) -> Executor:
        # One executor per app: it may hold a pool that all its stages share.
        if name not in self._executors:
            self._executors[name] = _made(self._host.executors(), name)
        return self._executors[name]

    async def aclose(self) -> None:
        for executor in self._executors.values():
            close = getattr(executor, "aclose", None)
            if close is not None:
                await close()


def _made(registry: Registry[Any], name: str) -> Any:
    return _instance(registry[name])


def _instance(entry: Entry[Contribution] | Entry[Any]) -> Any:
    """Call the target of a contribution.

    Raises:
        ContributionInvalidError: The call raised.
    """
    factory = entry.resolve()
    try:
        return factory()
    except Exception as exc:
        provenance = entry.provenance
        what = (
            f"Making {entry.contribution.noun} {entry.contribution.key!r} raised {type(exc).__name__}: {exc}"
        )
        fix = "If it needs arguments, make it yourself and pass the object instead of the name"
        raise ContributionInvalidError(
            what, plugin=provenance.plugin, distribution=provenance.release, fix=fix
        ) from exc
