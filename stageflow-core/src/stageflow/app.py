"""``Stageflow``: the one place where configuration, plugins and pipelines meet."""

from __future__ import annotations

from contextlib import AsyncExitStack
from os import PathLike
from typing import TYPE_CHECKING, Any, final
from weakref import WeakKeyDictionary

from stageflow.errors import ConfigurationError, ContributionInvalidError, PluginError
from stageflow.events.sink import FanOutEventSink
from stageflow.interceptors.chain import InterceptorChain
from stageflow.plugins.ordering import order_interceptors
from stageflow.runtime.failure import FailureMode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self

    from stageflow.config import Configuration
    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.pipeline.builder import Pipeline
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.registry import Entry
    from stageflow.plugins.sections import Sections
    from stageflow.protocols import EventSink, Executor
    from stageflow.runtime.cancellation import CancellationToken
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.results import PipelineResults
    from stageflow.runtime.stream import RunStream
    from stageflow.stages.context import StageContext
    from stageflow.stages.pipeline_context import PipelineContext
    from stageflow.stages.spec import StageSpec
    from stageflow.stages.stage import StageKind

__all__ = ["Stageflow"]


@final
class Stageflow:
    """Builds and runs pipelines with what plugins contribute: stages, interceptors, sinks and executors by name.

    An ordinary object; make one per configuration. Files are read and plugins are found when something is first needed
    of them. What stands in the configuration is checked when a pipeline is first built.

    Args:
        host: The plugins; by default those that are installed and the project's own, as ``[plugins]`` says.
        config: The configuration; by default what ``Configuration.find()`` finds. A mapping is laid over that, and a
            path names the file to read in place of those that would be found.
        interceptors: What wraps every stage: names of contributed ones, or interceptors, outermost first. None means
            the contributed ones that are meant to be there by default, as ``[interceptors]`` says.
        sinks: Where the events of every run go: names of contributed sinks, or sinks. None means what ``[events]``
            says.

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

    __slots__ = (
        "_config",
        "_executors",
        "_given",
        "_graphs",
        "_host",
        "_interceptors",
        "_opened",
        "_sections",
        "_sinks",
    )

    def __init__(
        self,
        host: PluginHost | None = None,
        *,
        config: Configuration | Mapping[str, Any] | str | PathLike[str] | None = None,
        interceptors: Sequence[str | BaseInterceptor] | None = None,
        sinks: Iterable[str | EventSink] | None = None,
    ) -> None:
        self._given = config
        self._config: Configuration | None = None
        self._host = host
        self._sections: Sections | None = None
        self._interceptors = interceptors
        self._sinks = None if sinks is None else tuple(sinks)
        self._opened: tuple[EventSink, ...] | None = None
        self._executors: dict[str, Executor] = {}
        self._graphs: WeakKeyDictionary[Pipeline, StageGraph] = WeakKeyDictionary()

    @property
    def config(self) -> Configuration:
        """The configuration; reading it is what the first access does."""
        if self._config is None:
            from stageflow.config.configuration import Configuration

            given = self._given
            if isinstance(given, Configuration):
                self._config = given
            elif isinstance(given, (str, PathLike)):
                self._config = Configuration.load(given)
            else:
                self._config = Configuration.find(given)
        return self._config

    @property
    def host(self) -> PluginHost:
        """The plugins.

        Raises:
            SettingsError: Something is wrong with a file, or with ``[plugins]``.
        """
        if self._host is None:
            from stageflow.plugins.composition import compose_host

            self._host = compose_host(self.config)
        return self._host

    @property
    def sections(self) -> Sections:
        """The configuration, section by section, through the models of the plugins."""
        if self._sections is None:
            from stageflow.plugins.sections import Sections

            self._sections = Sections(self.config, self.host)
        return self._sections

    def settings(self, section: str) -> Any:
        """Return a section of the configuration as its validated model.

        Args:
            section: The section: a plugin's name, ``owner.thing``, or one of the core's.

        Raises:
            SettingsError: Something is wrong with the section, or with a file.
            ContributionNotFoundError: Nobody contributes such a section.

        ```python
        from stageflow import Stageflow

        app = Stageflow(config={"interceptors": {"disabled": ["tracing"]}})
        print(app.settings("interceptors").disabled)
        #> ['tracing']
        ```
        """
        return self.sections.read(section)

    def make(self, entry: Entry[Any], *arguments: Any) -> Any:
        """Call the target of a contribution; one that takes ``settings`` is given those of its plugin.

        Args:
            entry: What is contributed, as ``app.host.tools()["acme.search"]``.
            *arguments: What its kind of target takes, as a URL for a run store.

        Raises:
            ContributionInvalidError: The call raised.
            LazyImportError: The target does not resolve.
            SettingsError: Something is wrong with the settings.

        ```python
        from stageflow import Stageflow

        app = Stageflow()
        print(type(app.make(app.host.sinks()["noop"])).__name__)
        #> NoOpEventSink
        ```
        """
        settings = self.sections.given_to(entry)
        factory = entry.resolve()
        try:
            return factory(*arguments, **settings)
        except Exception as exc:
            provenance = entry.provenance
            what = f"Making {entry.contribution.noun} {entry.contribution.key!r} raised {type(exc).__name__}: {exc}"
            fix = "If it needs arguments, make it yourself and pass the object instead of the name"
            raise ContributionInvalidError(
                what, plugin=provenance.plugin, distribution=provenance.release, fix=fix
            ) from exc

    def interceptors(self) -> InterceptorChain:
        """Return a fresh chain, in the order in which it will be entered.

        Raises:
            ContributionNotFoundError: A name is nobody's.
            ContributionConflictError: What plugins wish of the order goes round in a circle.
            SettingsError: Something is wrong with the configuration.
        """
        self.sections.check()
        contributed = self.host.interceptors()
        if self._interceptors is not None:
            return InterceptorChain(
                self.make(contributed[one]) if isinstance(one, str) else one for one in self._interceptors
            )
        order, disabled, order_in = self._configured_chain()
        chosen = [
            entry
            for name, entry in contributed.items()
            if name in order or (entry.contribution.default and name not in disabled)
        ]
        return InterceptorChain(
            self.make(entry) for entry in order_interceptors(chosen, order, order_in=order_in)
        )

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
            SettingsError: Something is wrong with the configuration.
        """
        from stageflow.runtime.graph import StageGraph

        self.sections.check()
        return StageGraph(
            [self._with_settings(spec) for spec in pipeline.specs],
            self.interceptors() if interceptors is None else interceptors,
            name=pipeline.name,
            failure_mode=failure_mode,
            cleanup_timeout=cleanup_timeout,
            resolver=_Resolver(self, self._executors),
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
        """Close what the app has made: the executors that pipelines name, with their threads and processes, and sinks.

        ``async with Stageflow() as app:`` does it. An app that has made neither need not be closed.
        """
        made = [*self._executors.values(), *self._own_sinks()]
        self._executors.clear()
        self._opened = None
        async with AsyncExitStack() as stack:  # each is closed, whatever happens to another
            for one in made:
                close = getattr(one, "aclose", None)
                if close is not None:
                    stack.push_async_callback(close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _built(self, pipeline: Pipeline) -> StageGraph:
        graph = self._graphs.get(pipeline)
        if graph is None:
            graph = self._graphs[pipeline] = self.build(pipeline)
        return graph

    def _own_sinks(self) -> list[EventSink]:
        """Return the sinks that the app has made itself."""
        given = {id(sink) for sink in self._sinks or ()}
        return [sink for sink in self._opened or () if id(sink) not in given]

    def _configured_chain(self) -> tuple[Sequence[str], Sequence[str], str]:
        """Return order and disabled of ``[interceptors]``, and where the order stands."""
        if not self.config.mentions("interceptors"):  # nothing is said, and pydantic need not be imported
            return (), (), "interceptors.order"
        values = self.settings("interceptors")
        (order,) = (one for one in self.sections.settings("interceptors") if one.path == "interceptors.order")
        return values.order, values.disabled, f"{order.path} ({order.origin})" if values.order else order.path

    def _with_settings(self, spec: StageSpec) -> StageSpec:
        """Return a stage that is named with the settings that its class takes, unless its config has them."""
        if not isinstance(spec.runner, str) or "settings" in spec.config:
            return spec
        try:
            entry = self.host.stages()[spec.runner]
            target = entry.resolve()
        except (PluginError, ConfigurationError):
            return spec  # the build says so, together with everything else
        given = self.sections.given_to(entry) if isinstance(target, type) else {}
        return spec.__replace__(config={**spec.config, **given}) if given else spec

    def _sink(self, extra: EventSink | None) -> EventSink | None:
        """Return this app's sinks and *extra* as one; None leaves the choice to the run."""
        if self._opened is None:
            wanted = self._sinks
            if wanted is None:
                wanted = self.settings("events").sinks if self.config.mentions("events") else ()
            self._opened = tuple(
                self.make(self.host.sinks()[one]) if isinstance(one, str) else one for one in wanted
            )
        sinks = self._opened if extra is None else (*self._opened, extra)
        return FanOutEventSink(*sinks) if self._opened else extra


@final
class _Resolver:
    """Finds what pipelines name among what the app's plugins contribute."""

    __slots__ = ("_app", "_executors")

    def __init__(self, app: Stageflow, executors: dict[str, Executor]) -> None:
        self._app = app
        self._executors = executors

    def stage(self, name: str) -> object:
        return self._app.host.stages()[name].resolve()

    def executor(self, name: str) -> Executor:
        # One executor per app: it may hold a pool that all its stages share.
        if name not in self._executors:
            self._executors[name] = self._app.make(self._app.host.executors()[name])
        return self._executors[name]
