"""Turns what a pipeline says of its stages into what a run needs of them."""

from __future__ import annotations

from inspect import CO_COROUTINE
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, final

from stageflow.errors import BuildProblem, ConfigurationError, PluginError, StageContractError, shown
from stageflow.events import vocabulary
from stageflow.runtime.validation import find_cycles
from stageflow.stages.effect import Effect
from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
    from typing import TypeGuard

    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import Executor, StageResolver
    from stageflow.runtime.guard_retry import GuardLoop, GuardRetryStrategy
    from stageflow.runtime.limits import ConcurrencyLimit
    from stageflow.stages.context import StageContext
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.spec import StageSpec
    from stageflow.stages.stream_edge import StreamEdge

    Runner = Callable[[StageContext], Awaitable[object]]
    Body = Callable[[StageContext], Coroutine[Any, Any, object]]

__all__ = ["CompiledStage", "as_limit", "compile_stages", "order_problems", "resolve_names"]

INLINE = "inline"
"""The executor that is no call at all: the body is awaited where it is."""


class _SeenByLanes:
    """What a lane reads of every stage: a slot of a base class comes first, so all of it is in two lines of the cache.

    Stages of a large graph do not stay in the cache; apart, these cost 3 % of a run.
    """

    __slots__ = (
        "call",
        "completed",
        "dependants",
        "kind",
        "name",
        "number",
        "regular",
        "spec",
        "started",
        "timeout",
    )


@final
class CompiledStage(_SeenByLanes):
    """A stage that knows its neighbours by number and how it is called.

    Attributes:
        number: Its place in the pipeline, from 0.
        name: Its name.
        spec: What it was compiled from.
        call: Makes the coroutine of one attempt; none of the stage's own code runs before its first step.
        kind: What it is for, as events say it.
        started: The type of the event that it starts.
        completed: The type of the event that it has ended well.
        declared: The names of the stages that it may read.
        dependencies: The stages it waits for and may read.
        holders: Guards it waits for because they may send back what it depends on.
        waits_for: How many stages it waits for in all.
        dependants: The stages that wait for it.
        needed: How many of its dependencies, and of the streams it reads, it cannot do without.
        router: The ROUTE stage that decides about it.
        labels: What the router must choose for it to run.
        timeout: The limit of an attempt, in seconds.
        retry: How it is attempted again.
        limit: The bound on how many executions of it run at once.
        loop: What it sends back when it fails, if it is a guard that does.
        sent_back_by: The guards that may send it back, itself included.
        streams: The stages whose streams it reads, each with its edge; they have to start before it does.
        readers: The stages that read its stream.
        has_effect: Whether it does something to the world.
        held: Whether the gates of its pipeline hold that back.
        precedes_gate: Whether a gate waits for it.
        regular: Whether nothing but its dependencies decides when, and whether, it starts.
    """

    __slots__ = (
        "declared",
        "dependencies",
        "has_effect",
        "held",
        "holders",
        "labels",
        "limit",
        "loop",
        "needed",
        "precedes_gate",
        "readers",
        "retry",
        "router",
        "sent_back_by",
        "streams",
        "waits_for",
    )

    def __init__(self, number: int, spec: StageSpec, call: Body) -> None:
        self.number = number
        self.name = spec.name
        self.spec = spec
        self.call = call
        self.kind = spec.kind.value
        self.started = vocabulary.stage_event(spec.name, vocabulary.STAGE_STARTED)
        self.completed = vocabulary.stage_event(spec.name, vocabulary.STAGE_COMPLETED)
        self.regular = spec.when is None and not spec.route
        self.declared = frozenset(spec.dependencies)
        self.dependencies: tuple[int, ...] = ()
        self.holders: tuple[int, ...] = ()
        self.waits_for = 0
        self.dependants: tuple[int, ...] = ()
        self.needed = 0
        self.router: int | None = None
        self.labels: frozenset[str] = frozenset()
        self.timeout: float | None = spec.timeout
        self.retry: RetryPolicy | None = spec.retry
        self.limit: ConcurrencyLimit | None = None
        self.loop: GuardLoop | None = None
        self.sent_back_by: tuple[int, ...] = ()
        self.streams: tuple[tuple[int, StreamEdge], ...] = ()
        self.readers: tuple[int, ...] = ()
        self.has_effect = spec.effect is not Effect.NONE
        self.held = self.has_effect and spec.gated and not spec.gates_effects
        self.precedes_gate = False


def compile_stages(
    specs: Sequence[StageSpec],
    interceptors: Sequence[BaseInterceptor],
    guard_retry: GuardRetryStrategy | None = None,
) -> tuple[CompiledStage, ...]:
    """Turn sound specs into stages that know their successors by number. Linear in stages and edges."""
    ids = {spec.name: number for number, spec in enumerate(specs)}
    stages = [_compile_stage(number, spec, interceptors) for number, spec in enumerate(specs)]
    dependants: list[list[int]] = [[] for _ in specs]
    for stage in stages:
        stage.dependencies = tuple([ids[name] for name in dict.fromkeys(stage.spec.dependencies)])
        for dependency in stage.dependencies:
            dependants[dependency].append(stage.number)
        if stage.spec.route:
            router, labels = _routing(stage.spec, [specs[number] for number in stage.dependencies])
            stage.router, stage.labels = ids[router], labels
        optional = stage.spec.optional
        stage.needed = len(stage.dependencies) + len(stage.spec.streams)
        if optional:
            stage.needed -= sum(specs[number].name in optional for number in stage.dependencies)
    _connect_streams(stages, ids)
    if guard_retry is not None:
        for guard, held in _loops(stages, ids, dependants, guard_retry).items():
            for number in held:
                stages[number].holders += (guard,)
                dependants[guard].append(number)
    for stage in stages:
        stage.dependants = tuple(dependants[stage.number])
        stage.waits_for = len(stage.dependencies) + len(stage.holders) + len(stage.streams)
    return tuple(stages)


def _connect_streams(stages: Sequence[CompiledStage], ids: Mapping[str, int]) -> None:
    for stage in stages:
        if stage.spec.streams:
            stage.streams = tuple([(ids[edge.producer], edge) for edge in stage.spec.streams])
            for producer, _ in stage.streams:
                stages[producer].readers += (stage.number,)


def order_problems(stages: Sequence[CompiledStage]) -> Iterator[BuildProblem]:
    """Yield what guard retry, gates and streams make impossible; say of each stage whether a gate waits for it."""
    yield from _held_cycles(stages)
    yield from _loop_problems(stages)
    if any(stage.spec.gates_effects or stage.streams for stage in stages):
        from stageflow.runtime.precedence import Precedence

        precedence = Precedence(stages)
        yield from precedence.problems()
        for stage in stages:
            stage.precedes_gate = precedence.precedes_gate(stage.number)


def _loop_problems(stages: Sequence[CompiledStage]) -> Iterator[BuildProblem]:
    """Yield what a guard cannot send back."""
    for guard in stages:
        if guard.loop is None:
            continue
        members = guard.loop.members
        for stage in [stages[number] for number in sorted(members)]:
            outside = [stages[one].name for one in stage.readers if one not in members]
            foreign = [edge.producer for producer, edge in stage.streams if producer not in members]
            # Whoever names the stage to run again has thought of what that does; those in between run again unnamed.
            if stage.spec.effect is Effect.IRREVERSIBLE and stage.number != guard.loop.target:
                problem = f"whose effect is irreversible ({stage.kind})"
                fix = f"Say what it is: effect=Effect.NONE, IDEMPOTENT or REVERSIBLE on {shown(stage.name)}"
            elif outside:
                problem = f"whose stream {shown(outside[0])} reads before the guard has passed"
                fix = f"Let {shown(outside[0])} depend on the guard instead"
            elif foreign:
                problem = f"which reads the stream of {shown(foreign[0])}; that is read only once"
                fix = "Let it depend on the other stage's output instead"
            else:
                continue
            message = f"Guard {shown(guard.name)} would send back {shown(stage.name)}, {problem}"
            yield BuildProblem("SF-BUILD-GUARD-RETRY", message, fix=fix, stages=[guard.name, stage.name])


def _held_cycles(stages: Sequence[CompiledStage]) -> Iterator[BuildProblem]:
    """Yield the guards that hold each other, so that neither could ever run."""
    if not any(stage.holders for stage in stages):
        return
    edges = {
        stage.name: [stages[number].name for number in (*stage.dependencies, *stage.holders)]
        for stage in stages
    }
    for cycle in find_cycles(edges):
        message = f"Guard retry makes these stages wait for each other: {' -> '.join([*cycle, cycle[0]])}"
        fix = "Let one of the guards depend on the other, or give guard retry to one of them only"
        yield BuildProblem("SF-BUILD-GUARD-RETRY", message, fix=fix, stages=cycle)


def as_limit(limit: int | ConcurrencyLimit | None) -> ConcurrencyLimit | None:
    """Return a number as the limit that it stands for."""
    if not isinstance(limit, int):
        return limit
    from stageflow.runtime.limits import ConcurrencyLimit

    return ConcurrencyLimit(limit)


def _compile_stage(number: int, spec: StageSpec, interceptors: Sequence[BaseInterceptor]) -> CompiledStage:
    stage = CompiledStage(number, spec, _body(spec))
    if stage.timeout is None:
        stage.timeout = min(
            (one for each in interceptors if (one := each.stage_timeout(spec)) is not None), default=None
        )
    if stage.retry is None:
        stage.retry = next(
            (policy for each in interceptors if (policy := each.stage_retry(spec)) is not None), None
        )
    stage.limit = as_limit(spec.limit)
    return stage


def _body(spec: StageSpec) -> Body:
    """Return what makes the coroutine of one attempt of a stage."""
    runner, executor = spec.runner, spec.executor
    if isinstance(runner, type):
        run: Runner = _Instance(runner, dict(spec.config))
    else:
        run = getattr(runner, "execute", runner)
    if executor is not None and not isinstance(executor, str):
        body = _awaiting(spec.name, lambda ctx: executor.execute(run, ctx))
    else:
        body = run if _is_async_def(run) else _awaiting(spec.name, run)
    return _leaving_receipts(spec.name, body) if spec.effect is Effect.REVERSIBLE else body


@final
class _Instance:
    """Runs a new instance of a class in each attempt: what a stage keeps on itself is never shared between runs.

    It pickles if the class and the config do, for executors that take it elsewhere.
    """

    __slots__ = ("_config", "_runner")

    def __init__(self, runner: Callable[..., Any], config: dict[str, Any]) -> None:
        self._runner = runner
        self._config = config

    def __call__(self, ctx: StageContext) -> Awaitable[object]:
        running: Awaitable[object] = self._runner(**self._config).execute(ctx)
        return running


def _is_async_def(runner: object) -> TypeGuard[Body]:
    """Say whether calling *runner* does nothing but make a coroutine."""
    function = runner.__func__ if isinstance(runner, MethodType) else runner
    return isinstance(function, FunctionType) and bool(function.__code__.co_flags & CO_COROUTINE)


def _awaiting(stage: str, run: Runner) -> Body:
    """Return *run* as an async function, so that what it does before it returns something happens in its stage."""

    async def body(ctx: StageContext) -> object:
        result: Any = run(ctx)
        if not hasattr(result, "__await__"):
            what = f"Its runner returned {type(result).__name__} instead of something to await"
            raise StageContractError(stage, what, fix="Write the stage as 'async def'")
        return await result

    return body


def _leaving_receipts(stage: str, run: Body) -> Body:
    """Return *run* as a body that fails if it ends well and has left no undo receipt."""

    async def body(ctx: StageContext) -> object:
        value = await run(ctx)
        done = not isinstance(value, StageOutput) or value.status is StageStatus.OK
        if done and not ctx.scope.has_receipt(stage, ctx.attempt):
            what = "It is declared as reversible, and has left no undo receipt: nobody could undo it"
            fix = "Call ctx.leave_receipt(...) when the effect has happened, or declare another effect"
            raise StageContractError(stage, what, fix=fix)
        return value

    return body


def _routing(spec: StageSpec, dependencies: Iterable[StageSpec]) -> tuple[str, frozenset[str]]:
    """Return the router that decides about a stage, and the labels it must choose."""
    routers = [one.name for one in dependencies if one.kind is StageKind.ROUTE]
    router = routers[0]
    labels: set[str] = set()
    for text in spec.route:
        prefix, colon, label = text.partition(":")
        if colon and prefix in routers:
            router = prefix
            labels.add(label)
        else:
            labels.add(text)
    return router, frozenset(labels)


def _loops(
    stages: Sequence[CompiledStage],
    ids: dict[str, int],
    dependants: Sequence[Sequence[int]],
    guard_retry: GuardRetryStrategy,
) -> dict[int, list[int]]:
    """Give guards their loops, and return for each the stages that it must hold until it passes."""
    from stageflow.runtime.guard_retry import GuardLoop

    # What runs again is what lies between: over streams as well as over dependencies.
    before = [(*stage.dependencies, *[producer for producer, _ in stage.streams]) for stage in stages]
    after = [(*dependants[stage.number], *stage.readers) for stage in stages]
    held: dict[int, list[int]] = {}
    for name, policy in guard_retry.policies.items():
        guard = ids[name]
        loop = GuardLoop.between(policy, ids[policy.retry_stage], guard, before, after)
        stages[guard].loop = loop
        for member in loop.members:
            stages[member].sent_back_by += (guard,)
        outside = {number for member in loop.members for number in dependants[member]} - loop.members
        held[guard] = sorted(number for number in outside if guard not in stages[number].dependencies)
    return held


def resolve_names(
    specs: Iterable[StageSpec],
    resolver: StageResolver | None,
    executors: Mapping[StageKind, Executor | str] | None = None,
) -> tuple[list[StageSpec], list[BuildProblem]]:
    """Put what they stand for in the place of names, and return what was not found beside it.

    Args:
        specs: The stages.
        resolver: Finds what is named.
        executors: Where stages run that do not say it themselves, by kind.
    """
    resolved: list[StageSpec] = []
    problems: list[BuildProblem] = []
    for spec in specs:
        runner, executor = spec.runner, spec.executor
        if executor is None and executors:
            executor = executors.get(spec.kind)
        if isinstance(runner, str):
            runner = _find(spec, "stage", runner, resolver, problems)
        if executor == INLINE:
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
