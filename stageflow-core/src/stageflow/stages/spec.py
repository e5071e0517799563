"""``StageSpec``: one stage as a pipeline describes it, before it is compiled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.context.checks import check_type, wrong_type
from stageflow.context.frozen import FrozenDict
from stageflow.context.record import Record
from stageflow.stages.effect import Effect, effect_of_kind
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stageflow.protocols import Executor
    from stageflow.stages.inputs import StageInputs
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.stream_edge import StreamEdge

__all__ = ["StageSpec"]

_NO_CONFIG: Mapping[str, Any] = FrozenDict()
_STREAMS = "names of stages, or StreamEdge objects"


@final
class StageSpec(Record):
    """One stage of a pipeline. Immutable; checked when the pipeline is built, not here.

    Args:
        name: The stage's name, unique in its pipeline.
        runner: A class with ``execute``, an instance of one, an async callable, a stage made with ``@stage``, or
            the name of a contributed stage (``"owner.name"``).
        kind: What the stage is for.
        dependencies: The stages it waits for and may read.
        conditional: Skip the stage when one of its dependencies was skipped.
        config: Keyword arguments for the constructor, if the runner is a class or a name.
        when: Run the stage only if this says so of its inputs; otherwise its branch is skipped.
        timeout: The limit of one attempt, in seconds.
        retry: How the stage is attempted again.
        executor: Where its body runs; on the event loop by default.
        requires: Dependencies without whose value the stage cannot run; it is skipped then.
        optional: Dependencies that the stage can do without: it has a default for their values.
        route: Run the stage only if its ROUTE dependency chose this label, or one of these; otherwise its branch is
            skipped. ``"router:label"`` says which router is meant where there are two.
        limit: How many executions of the stage may run at once, over all runs of the graph: a number, or a
            ``ConcurrencyLimit``.
        effect: What the stage does to the world; None means ``IRREVERSIBLE`` for WORK and ``NONE`` for other kinds.
        gates_effects: Hold back all effects of the pipeline until this stage has let them pass.
        gated: Whether the gates of its pipeline hold this stage's effect; False is for one that must come first.
        streams: The stages whose chunks it reads while they run: names, or ``StreamEdge`` for other bounds than the
            usual ones. It starts when they start.
        restartable: Attempt it again even if it has published chunks; its readers find a restart marker then.

    ```python
    import asyncio

    from stageflow import StageGraph, StageSpec


    async def step(ctx):
        return {"after": sorted(ctx.inputs.prior_outputs)}


    graph = StageGraph([StageSpec("a", step), StageSpec("b", step, dependencies=["a"])])
    print(asyncio.run(graph.run())["b"].data)
    #> {'after': ['a']}
    ```
    """

    __match_args__ = (
        "name",
        "runner",
        "kind",
        "dependencies",
        "conditional",
        "config",
        "when",
        "timeout",
        "retry",
        "executor",
        "requires",
        "optional",
        "route",
        "limit",
        "effect",
        "gates_effects",
        "gated",
        "streams",
        "restartable",
    )
    __slots__ = __match_args__
    name: str
    runner: Any
    kind: StageKind
    dependencies: tuple[str, ...]
    conditional: bool
    config: Mapping[str, Any]
    when: Callable[[StageInputs], bool] | None
    timeout: float | None
    retry: RetryPolicy | None
    executor: Executor | str | None
    requires: frozenset[str]
    optional: frozenset[str]
    route: tuple[str, ...]
    limit: Any
    effect: Effect
    gates_effects: bool
    gated: bool
    streams: tuple[StreamEdge, ...]
    restartable: bool

    def __init__(
        self,
        name: str,
        runner: Any,
        kind: StageKind = StageKind.TRANSFORM,
        dependencies: Iterable[str] = (),
        conditional: bool = False,  # noqa: FBT001, FBT002 - the published signature is positional
        config: Mapping[str, Any] | None = None,
        when: Callable[[StageInputs], bool] | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | None = None,
        executor: Executor | str | None = None,
        requires: Iterable[str] = (),
        optional: Iterable[str] = (),
        route: str | Iterable[str] = (),
        limit: Any = None,
        effect: Effect | None = None,
        gates_effects: bool = False,  # noqa: FBT001, FBT002 - as above
        gated: bool = True,  # noqa: FBT001, FBT002 - as above
        streams: str | StreamEdge | Iterable[str | StreamEdge] = (),
        restartable: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "runner", runner)
        put(self, "kind", kind)
        put(self, "dependencies", _names("dependencies", dependencies))
        put(self, "conditional", conditional)
        put(self, "config", config or _NO_CONFIG)
        put(self, "when", when)
        put(self, "timeout", timeout)
        put(self, "retry", retry)
        put(self, "executor", executor)
        needs: Any = getattr(runner, "needs", None)  # a stage made with @stage knows which values it needs
        put(self, "requires", _name_set("requires", requires) | (needs[0] if needs else frozenset()))
        put(self, "optional", _name_set("optional", optional) | (needs[1] if needs else frozenset()))
        put(self, "route", _names("route", route))
        put(self, "limit", limit)
        put(self, "effect", effect_of_kind(kind) if effect is None else effect)
        put(self, "gates_effects", gates_effects)
        put(self, "gated", gated)
        put(self, "streams", _edges(streams) if streams else ())
        put(self, "restartable", restartable)

    def placed(self, runner: Any, executor: Executor | None) -> StageSpec:
        """Return a copy whose runner and executor are those that the names stood for."""
        return self.__replace__(runner=runner, executor=executor)


def _names(argument: str, names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a lone text is one name, and taken apart into letters would only be a mistake."""
    if isinstance(names, str):
        return (names,)
    if not isinstance(names, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise wrong_type("StageSpec", argument, "names of stages", names)
    return tuple(names)


def _edges(streams: Any) -> tuple[StreamEdge, ...]:
    """Return the edges that *streams* stands for: a name is an edge with the usual bounds."""
    from stageflow.stages.stream_edge import StreamEdge

    if isinstance(streams, (str, StreamEdge)):
        streams = (streams,)
    elif not isinstance(streams, Iterable):
        raise wrong_type("StageSpec", "streams", _STREAMS, streams)
    edges: list[StreamEdge] = []
    for one in cast("Iterable[Any]", streams):
        if isinstance(one, StreamEdge):
            edges.append(one)
        elif isinstance(one, str):
            edges.append(StreamEdge(one))
        else:
            raise wrong_type("StageSpec", "streams", _STREAMS, one)
    return tuple(edges)


def _name_set(argument: str, names: str | Iterable[str]) -> frozenset[str]:
    found = _names(argument, names)
    for name in found:
        check_type("StageSpec", argument, name, str, "names of stages")
    return frozenset(found)
