"""Random graphs with random outcomes, compared with a small model of the rules.

The model (`predict`) is written from DESIGN section 4 and ``docs/explanation/outcomes.md``, not from the kernel. It
says how each stage ends in a run that nothing stops, and when: the runs are on a virtual clock, on which only what the
case says takes time. Of a run that is stopped early (`Verdict`) the events up to the stop must be those of the model,
and they alone decide what becomes of every other stage. Where two things happen at the same moment, either may come
first.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import random
from collections import Counter
from dataclasses import dataclass, replace
from enum import IntFlag, StrEnum, auto
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from stageflow import (
    CancellationToken,
    FailureMode,
    PipelineCancelled,
    PipelineContext,
    RetryPolicy,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    stage,
    use,
)
from stageflow.errors import RunTimeoutError, StageContractError, StageTimeoutError
from stageflow.runtime.limits import ConcurrencyLimit
from stageflow.stages.retry import BackoffStrategy
from stageflow.testing import LeakWatch, VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence

    from stageflow import PipelineResults, StageDef

DEEP = settings().max_examples > 100
# What `make test` does in seconds, `make test-deep` does a hundred times over.
EXAMPLES = 20_000 if DEEP else 200
SHARDS = 8 if DEEP else 2  # so that every core has a share

UNIT = 20_000.0
"""What a case counts time in, in seconds; so long that no real microsecond of the machine matters."""

NEAR = 0.05
"""Two times that are no further apart are the same moment, in units."""


# --- the cases -----------------------------------------------------------------------------------------------------


class Does(StrEnum):
    """How an attempt of a stage ends, once it has done with its pauses."""

    OK = "ok"
    SKIP = "skip"
    FAIL = "fail"
    RAISE = "raise"
    WRONG = "return something that is no output"
    CANCELLED_ERROR = "raise CancelledError"
    RETRY = "ask for another attempt"
    RETRY_LATER = "ask for another attempt in two units"
    ERROR = "raise ConnectionError"
    CANCEL = "cancel the run"
    HANG = "hang until cancelled"
    HANG_THEN_OK = "hang until cancelled, swallow that, return ok"
    HANG_THEN_RAISE = "hang until cancelled, raise something else"
    CANCEL_ITSELF = "cancel its own Task, swallow that, return ok"
    OBEY_ITSELF = "cancel its own Task, and give way"
    OVER_LIMIT = "(be over the time limit)"
    NOT_EVEN_START = "(fail because it cannot be decided whether it starts)"


HANGING = frozenset({Does.HANG, Does.HANG_THEN_OK, Does.HANG_THEN_RAISE})


class Shape(StrEnum):
    """Which stages a stage depends on."""

    CHAINS = "chains of some length"
    FAN = "fan out, fan in, and again"
    TREE = "a tree"
    LAYERS = "layers, each stage with some of the layer before"
    DIAMONDS = "diamonds in a row, some with a short cut"
    SPARSE = "none, one or two of all stages before"
    DENSE = "half of the sixteen stages before"
    MIXED = "each stage has another shape"


class Stop(StrEnum):
    """Who stops the run from outside."""

    NOBODY = "nobody"
    TOKEN = "the token"  # noqa: S105 - it protects nothing
    CONTEXT = "ctx.mark_canceled()"
    CALLER = "its Task is cancelled"
    LIMIT = "the run's limit"
    BEFORE = "the token, before the run"


class At(StrEnum):
    """At which moment."""

    EVENT = "while an event is emitted"
    TURN = "in some turn of the event loop"
    TIME = "while everything waits"


class Switch(IntFlag):
    """What a case is made of, beside stages that end well at once."""

    PAUSES = auto()
    CONDITIONS = auto()
    RETRIES = auto()
    USES = auto()
    ROUTES = auto()
    HANGS = auto()
    ODDITIES = auto()
    RAISES = auto()  # raise_errors=
    SHUFFLED = auto()  # declared in another order than they depend on each other
    LIMITED = auto()  # there are limits to concurrency
    TYPED = auto()  # stages are functions with use(...)


class Case(NamedTuple):
    """What makes a random graph and a run of it.

    Stages depend on earlier ones only, so a smaller size cuts the graph short.
    """

    size: int
    seed: int
    mode: FailureMode
    stop: Stop
    at: At
    moment: int
    switches: Switch

    @property
    def time(self) -> float:
        """When it is stopped at a time or by its limit: a moment at which no stage does anything, in units."""
        return self.moment // 4 + (0.1, 0.3, 0.5, 0.7)[self.moment % 4]


@dataclass(frozen=True, slots=True)
class Plan:
    """One stage of a random graph."""

    name: str
    dependencies: tuple[str, ...] = ()
    does: tuple[Does, ...] = (Does.OK,)  # attempt by attempt; the last for all that follow
    pauses: tuple[int, ...] = ()  # in units; 0 is a turn of the event loop
    limit: float = inf  # of an attempt, in units
    rule: int = 0  # how it is attempted again
    conditional: bool = False
    when: str | None = None  # "yes", "no", "raises"
    requires: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    router: bool = False
    choice: Any = "x"  # what it chooses if it is a router
    route: tuple[str, frozenset[str]] | None = None  # which router must choose what for it to run
    limited: bool = False
    cleans: bool = False


class Rule(NamedTuple):
    """A way of attempting a stage again: as the kernel takes it, and what that means."""

    policy: RetryPolicy | None
    most: int
    waits: tuple[float, ...]  # after the first attempt, after the second; in units
    after: frozenset[Does]


ASKED = frozenset({Does.RETRY, Does.RETRY_LATER})
TRANSIENT = ASKED | {Does.ERROR, Does.OVER_LIMIT}
RULES = (
    Rule(None, 3, (0, 0), ASKED),  # its waits are below a second, which is nothing here
    Rule(RetryPolicy(3, base_delay=0, jitter=False), 3, (0, 0), TRANSIENT),
    Rule(RetryPolicy(3, base_delay=UNIT, max_delay=9 * UNIT, jitter=False), 3, (1, 2), TRANSIENT),
    Rule(
        RetryPolicy(4, base_delay=UNIT, max_delay=2.5 * UNIT, jitter=False, backoff=BackoffStrategy.LINEAR),
        4,
        (1, 2, 2.5),
        TRANSIENT,
    ),
    Rule(
        RetryPolicy(
            3,
            base_delay=UNIT,
            max_delay=9 * UNIT,
            jitter=False,
            backoff=BackoffStrategy.CONSTANT,
            retry_on=ValueError,
            retry_on_status=("retry", "failed"),
        ),
        3,
        (1, 1),
        ASKED | {Does.RAISE, Does.FAIL},
    ),
    Rule(RetryPolicy(1), 1, (), frozenset()),
)

# Mostly small, as small cases have no fewer surprises and are many more in the same time.
SIZES = sorted([*range(1, 13)] * 24 + [*range(13, 41)] * 4 + [*range(43, 101, 3)] + [*range(120, 301, 18)])
STOPS = [(Stop.NOBODY, At.TIME)] * 12
STOPS += [(who, at) for who in (Stop.TOKEN, Stop.CONTEXT, Stop.CALLER) for at in At]
STOPS += [(Stop.LIMIT, At.TIME), (Stop.LIMIT, At.TIME), (Stop.BEFORE, At.TIME)]

SHAPES = list(Shape)
REGULAR = [one for one in Shape if one is not Shape.MIXED]
CHOICES: list[Any] = ["x"] * 6 + ["y"] * 4 + [["x", "y"], ["x", "z"], ["y"], "z", []]
LABELS = [frozenset("x")] * 3 + [frozenset("y"), frozenset("xy")]
LIMITS = [inf] * 8 + [1.4, 2.4, 4.4]
PAUSES = [(0,), (1,), (0, 1), (2,), (0, 0, 0), (1, 0, 2)]
WHENS = [None] * 24 + ["yes"] * 3 + ["no"] * 3
TROUBLES = [Does.SKIP] * 5 + [Does.FAIL, Does.RAISE, Does.RETRY, Does.ERROR]
HANGS = [Does.HANG, Does.HANG_THEN_OK, Does.HANG_THEN_OK, Does.HANG_THEN_RAISE, Does.HANG_THEN_RAISE]
ODDITIES = [Does.CANCEL, Does.CANCEL, Does.WRONG, Does.CANCELLED_ERROR]
ODDITIES += [Does.CANCEL_ITSELF, Does.CANCEL_ITSELF, Does.CANCEL_ITSELF, Does.OBEY_ITSELF]
REPEATABLE = [Does.RETRY, Does.RETRY, Does.RETRY_LATER, Does.ERROR, Does.RAISE, Does.FAIL]


class Draw:
    """The random numbers of one stage."""

    def __init__(self, rng: random.Random) -> None:
        self.numbers = iter(memoryview(rng.randbytes(64)).cast("H"))

    def below(self, number: int) -> int:
        return next(self.numbers) * number >> 16

    def among(self, several: Sequence[Any]) -> Any:
        return several[next(self.numbers) * len(several) >> 16]

    def often(self, share: float) -> bool:
        return next(self.numbers) < share * 65536


def plans(case: Case) -> list[Plan]:
    """Make the stages of a case, each after all that it depends on.

    Whatever is switched off, a stage takes the same draws: a case with fewer switches on is simpler, not another one.
    """
    rng = random.Random(case.seed)
    shape, width = rng.choice(SHAPES), rng.choice((2, 3, 5, 10, 40, 300))
    trouble = rng.choice((0.0, 0.03, 0.08, 0.2, 0.5))
    hangs = HANGS if Switch.HANGS in case.switches else []
    menu = TROUBLES + hangs + (ODDITIES if Switch.ODDITIES in case.switches else [])
    made: list[Plan] = []
    for number in range(case.size):
        draw = Draw(rng)
        own_shape, bad, good = draw.among(REGULAR), draw.among(menu), not draw.often(trouble)
        first, times, repeats = draw.among(REPEATABLE + hangs), 1 + draw.below(3), draw.often(0.25)
        before = _before(shape if shape is not Shape.MIXED else own_shape, width, number, draw)
        repeats = repeats and Switch.RETRIES in case.switches
        does = ((first,) * times if repeats else ()) + (Does.OK if good else bad,)
        made.append(_plan(number, tuple(dict.fromkeys(before)), made, does, case.switches, draw, trouble))
    return made


def _plan(
    number: int,
    before: tuple[int, ...],
    made: Sequence[Plan],
    does: tuple[Does, ...],
    switches: Switch,
    draw: Draw,
    trouble: float,
) -> Plan:
    pauses, pausing, limit = draw.among(PAUSES), draw.often(0.4), draw.among(LIMITS)
    rule, conditional, when = draw.below(len(RULES)), draw.often(0.3), draw.among(WHENS)
    router, choice, lost = draw.often(0.2), draw.among(CHOICES), draw.often(trouble / 4)
    routed, labels, which = draw.often(0.7), draw.among(LABELS), draw.below(97)
    uses = [draw.below(10) for _ in range(3)]  # the first three dependencies may be used
    limited, cleans, bad = draw.often(0.5), draw.often(0.1), draw.often(trouble / 8)
    names = tuple(f"s{one}" for one in before)
    used = dict(zip(names, uses, strict=False)) if Switch.USES in switches else {}
    routers = [name for one, name in zip(before, names, strict=True) if made[one].router]
    return Plan(
        name=f"s{number}",
        dependencies=names,
        does=does,
        pauses=pauses if pausing and Switch.PAUSES in switches else (),
        limit=limit if switches & (Switch.PAUSES | Switch.HANGS) else inf,
        rule=rule if Switch.RETRIES in switches else 0,
        conditional=conditional and Switch.CONDITIONS in switches,
        when=("raises" if bad else when) if Switch.CONDITIONS in switches else None,
        requires=frozenset(name for name, use in used.items() if use < 4),
        optional=frozenset(name for name, use in used.items() if use > 7),
        router=router and Switch.ROUTES in switches,
        choice=None if lost else choice,
        route=(routers[which % len(routers)], labels) if routers and routed else None,
        limited=limited,
        cleans=cleans and Switch.ODDITIES in switches,
    )


def _before(shape: Shape, width: int, number: int, draw: Draw) -> list[int]:
    """Say which stages a stage waits for."""
    few, three = draw.below(3), [draw.below(1 << 16) for _ in range(3)]
    if number == 0:
        return []
    match shape:
        case Shape.CHAINS:
            return [number - 1] if number % width else []
        case Shape.FAN:  # a head, and as many beside each other as it is wide
            within = number % (width + 1)
            return [number - within] if within else list(range(number - width, number))
        case Shape.TREE:
            return [(number - 1) // width]
        case Shape.LAYERS:
            start = number // width * width - width
            return [start + (one * width >> 16) for one in three[: 1 + few]] if start >= 0 else []
        case Shape.DIAMONDS:  # head, left, right, tail
            within = number % 4
            if within in {0, 1}:
                return [number - 1]
            return [number - 2] if within == 2 else [number - 2, number - 1] + [number - 3] * (few == 0)
        case Shape.DENSE:
            return [number - 1 - back for back in range(min(16, number)) if three[0] >> back & 1]
        case _:
            return [one * number >> 16 for one in three[:few]]


def case_of(stop: tuple[Stop, At], switches: int, **more: Any) -> Case:
    return Case(stop=stop[0], at=stop[1], switches=Switch(switches), **more)


CASES = st.builds(
    case_of,
    size=st.sampled_from(SIZES),
    seed=st.sampled_from(range(1 << 24)),  # integers() would prefer small ones
    mode=st.sampled_from(FailureMode),
    stop=st.sampled_from(STOPS),
    moment=st.integers(0, 40),
    switches=st.sampled_from(range(sum(Switch) + 1)),
)


# --- the model -----------------------------------------------------------------------------------------------------


class End(NamedTuple):
    """What becomes of a stage in a run that nothing stops.

    `how` is ``"ok" "skip" "fail" "cancel"`` of stages that ran, ``"not: <rule>"`` of those that were kept, and
    ``"never"`` of those that never end by themselves, or are never ready. Times are in units.
    """

    how: str
    ready: float
    ended: float
    attempts: int = 0
    why: Does | None = None


def predict(made: Sequence[Plan]) -> dict[str, End]:
    """Say how and when each stage ends in a run that nothing stops and nothing limits."""
    plans = {plan.name: plan for plan in made}
    ends: dict[str, End] = {}
    for plan in made:
        ready = max((ends[one].ended for one in plan.dependencies), default=0.0)
        if ready == inf:
            ends[plan.name] = End("never", inf, inf)
        elif kept := _kept(plan, ends, plans):
            ends[plan.name] = End(f"not: {kept}", ready, ready)
        elif plan.when == "raises" or (plan.route and _choice(plan, ends, plans) is None):
            ends[plan.name] = End("fail", ready, ready, 1, Does.NOT_EVEN_START)
        else:
            ends[plan.name] = _attempted(plan, ready)
    return ends


def _kept(plan: Plan, ends: Mapping[str, End], plans: Mapping[str, Plan]) -> str | None:
    """Return the first rule that keeps a ready stage from starting, if there is one."""
    before = {one: ends[one].how for one in plan.dependencies}
    kept = {one for one, how in before.items() if how.startswith("not: ")}
    skipped = kept | {one for one, how in before.items() if how == "skip"}
    if any(how in {"fail", "not: dependency_failed"} for how in before.values()):
        return "dependency_failed"
    needed = before.keys() - plan.optional
    if needed and needed <= kept:
        return "branch_not_taken"
    if plan.conditional and skipped:
        return "dependency_skipped"
    if plan.requires & skipped:
        return "value_missing"
    if plan.route is not None:
        chosen = _choice(plan, ends, plans)
        if chosen is None:
            return None  # it fails; its `when=` is asked on a route that was taken, and nowhere else
        if not plan.route[1] & chosen:
            return "route_not_taken"
    return "condition_false" if plan.when == "no" else None


def _choice(plan: Plan, ends: Mapping[str, End], plans: Mapping[str, Plan]) -> set[str] | None:
    """Return the labels that the router of a stage chose; None if it named no route."""
    assert plan.route is not None
    router = plan.route[0]
    choice = plans[router].choice if ends[router].how == "ok" else ()
    return {choice} if isinstance(choice, str) else None if choice is None else set(choice)


def _attempted(plan: Plan, ready: float) -> End:
    """Say how a stage ends that starts."""
    rule, now = RULES[plan.rule], ready
    for number in itertools.count(1):
        does = plan.does[min(number, len(plan.does)) - 1]
        takes = inf if does in HANGING else float(sum(plan.pauses))
        if takes > plan.limit:
            does, takes = Does.OVER_LIMIT, plan.limit
        elif takes == inf:
            break
        now += takes
        if does not in rule.after or number >= rule.most:
            how = {
                Does.OK: "ok",
                Does.CANCEL_ITSELF: "ok",
                Does.SKIP: "skip",
                Does.CANCEL: "cancel",
            }.get(does, "fail")
            return End(how, ready, now, number, does)
        now += max(rule.waits[number - 1], 2 if does is Does.RETRY_LATER else 0)
    return End("never", ready, inf, number)


# --- the same in the kernel --------------------------------------------------------------------------------------


class Event(NamedTuple):
    type: str
    data: dict[str, Any]
    at: float  # in units

    @property
    def word(self) -> str | None:
        """What happened to a stage, in one word, if the event is about that."""
        return self.data.get("status") if "stage" in self.data else None

    @property
    def cut_short(self) -> bool:
        """Whether it tells of a stage that gave way; one that cancels the run says why."""
        return self.word == "cancelled" and "reason" not in self.data


class Asked(NamedTuple):
    """A stage was asked to stop."""

    position: int  # how many events there had been
    over_limit: bool  # it was time for that anyway


class Log:
    """What a run does: its events, and what its stages say of themselves. It stops the run when its time has come."""

    def __init__(self, case: Case) -> None:
        self.loop = asyncio.get_running_loop()
        self.began_at = self.loop.time()
        self.events: list[Event] = []
        self.attempts: Counter[str] = Counter()
        self.began: dict[str, float] = {}  # when the last attempt of a stage began
        self.asked: dict[str, list[Asked]] = {}  # of the last attempt
        self.acts: dict[str, tuple[int, str]] = {}  # after how many events the last attempt ended, and how
        self.now_inside = {True: 0, False: 0}  # how many stages are at work, with a limit and without
        self.most_inside = 0
        self.most_limited = 0
        self.to_clean: list[str] = []
        self.cleaned: list[str] = []
        self.wrong: list[str] = []
        self.task: asyncio.Task[Any] | None = None  # the caller's
        self.fire: Callable[[], object] | None = None  # stops the run
        self.fire_at_event = int(case.moment**1.7) + 1 if case.at is At.EVENT else 0
        self.given_up = False
        # After how many events it was stopped, and -1 if in the middle of the last one, else 1.
        self.fired: tuple[int, int] | None = None

    @property
    def time(self) -> float:
        return (self.loop.time() - self.began_at) / UNIT

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append(Event(type, data or {}, self.time))
        if len(self.events) == self.fire_at_event and asyncio.current_task() is not self.task:
            self.stop(-1)

    def stop(self, when: int = 1) -> None:
        """Stop the run, if that has not been done; *when* is -1 in the middle of an event, and else 1."""
        if self.fire is not None and self.fired is None:
            self.fired = (len(self.events), when)
            self.fire()

    def give_up(self) -> None:
        """Stop a run that does not end by itself."""
        self.given_up = True
        self.stop()

    def enter(self, plan: Plan) -> None:
        self.attempts[plan.name] += 1
        if self.attempts[plan.name] > 10:
            self.wrong.append(f"{plan.name} is attempted for ever")
            self.stop()
        self.began[plan.name] = self.time
        self.asked[plan.name] = []
        self.now_inside[plan.limited] += 1
        self.most_limited = max(self.most_limited, self.now_inside[True])
        self.most_inside = max(self.most_inside, sum(self.now_inside.values()))

    def note_asked(self, plan: Plan) -> None:
        over = self.time - self.began[plan.name] > plan.limit - NEAR
        self.asked[plan.name].append(Asked(len(self.events), over))


ENDS = {"pipeline.completed", "pipeline.failed", "pipeline.cancelled"}


def body_of(plan: Plan, ends: Mapping[str, End], log: Log) -> Callable[..., Any]:
    """Make the function of a stage."""

    async def body(ctx: StageContext, **values: Any) -> Any:
        log.enter(plan)
        if plan.cleans and ctx.attempt == 1:
            register_cleanup(ctx)
        for name, value in values.items():
            expected = name if ends[name].how == "ok" else "default"
            if (value["name"] if isinstance(value, dict) else value) != expected:
                log.wrong.append(f"{plan.name} got {value!r} from {name}")
        try:
            output = await do(plan, log, ctx.attempt)
        except BaseException as exc:
            act = "cancelled" if isinstance(exc, asyncio.CancelledError) else "failed"
            log.acts[plan.name] = (len(log.events), act)
            raise
        else:
            log.acts[plan.name] = (len(log.events), "completed")
            return output
        finally:
            log.now_inside[plan.limited] -= 1

    def register_cleanup(ctx: StageContext) -> None:
        async def clean() -> None:
            await asyncio.sleep(0)
            log.cleaned.append(plan.name)

        ctx.register_cleanup(clean)
        log.to_clean.append(plan.name)

    return body


async def do(plan: Plan, log: Log, attempt: int) -> Any:
    does = plan.does[min(attempt, len(plan.does)) - 1]
    try:
        for pause in plan.pauses:
            await asyncio.sleep(pause * UNIT)
    except asyncio.CancelledError:
        log.note_asked(plan)
        raise
    match does:
        case Does.SKIP:
            return StageOutput.skip("own wish")
        case Does.FAIL:
            return StageOutput.fail("own wish")
        case Does.RAISE:
            raise ValueError(plan.name)
        case Does.WRONG:
            return 42
        case Does.CANCELLED_ERROR:
            raise asyncio.CancelledError
        case Does.RETRY:
            return StageOutput.retry("again")
        case Does.RETRY_LATER:
            return StageOutput.retry("again", retry_after=2 * UNIT)
        case Does.ERROR:
            raise ConnectionError(plan.name)
        case Does.CANCEL:
            return StageOutput.cancel(plan.name)
        case Does.HANG | Does.HANG_THEN_OK | Does.HANG_THEN_RAISE:
            await hang(plan, does, log)
        case Does.CANCEL_ITSELF | Does.OBEY_ITSELF:
            asyncio.current_task().cancel()
            if plan.pauses or does is Does.OBEY_ITSELF:
                with contextlib.suppress(asyncio.CancelledError if does is Does.CANCEL_ITSELF else ()):
                    await asyncio.sleep(0)
    return {"name": plan.name, "attempt": attempt, **({"route": plan.choice} if plan.router else {})}


async def hang(plan: Plan, does: Does, log: Log) -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        log.note_asked(plan)
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            log.note_asked(plan)
            raise
        if does is Does.HANG_THEN_RAISE:
            raise ConnectionError(plan.name) from None  # while the run is being stopped, nothing is repeated
        if does is Does.HANG:
            raise


def condition(plan: Plan, log: Log) -> Any:
    def ask(inputs: Any) -> bool:
        if set(inputs.prior_outputs) != set(plan.dependencies):
            log.wrong.append(f"{plan.name} saw {set(inputs.prior_outputs)}")
        if plan.when == "raises":
            raise KeyError(plan.name)
        return plan.when == "yes"

    return None if plan.when is None else ask


def function_of(
    plan: Plan, body: Callable[..., Any], known: Mapping[str, StageDef[Any]], **options: Any
) -> Any:
    """Make a typed stage: its function has a signature of its own, as if it had been written so."""
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("ctx", positional)]
    for name in plan.dependencies:
        if name in plan.requires:
            parameters.append(inspect.Parameter(name, keyword, default=use(known[name])))
        elif name in plan.optional:
            parameters.append(inspect.Parameter(name, keyword, default=use(known[name], default="default")))
    body.__signature__ = inspect.Signature(parameters)
    body.__annotations__ = {"return": dict}
    return stage(name=plan.name, after=plan.dependencies, **options)(body)


def specs_of(case: Case, made: Sequence[Plan], ends: Mapping[str, End], log: Log) -> list[StageSpec]:
    limit = ConcurrencyLimit(2) if Switch.LIMITED in case.switches else None
    known: dict[str, StageDef[Any]] = {}
    specs: list[StageSpec] = []
    for plan in made:
        router, labels = plan.route or ("", ())
        kind = StageKind.ROUTE if plan.router else StageKind.TRANSFORM
        options: dict[str, Any] = {
            "conditional": plan.conditional,
            "when": condition(plan, log),
            "timeout": None if plan.limit == inf else plan.limit * UNIT,
            "retry": RULES[plan.rule].policy,
            "route": [f"{router}:{label}" for label in labels],
            "limit": limit if plan.limited else None,
        }
        body = body_of(plan, ends, log)
        if Switch.TYPED in case.switches:
            known[plan.name] = function_of(plan, body, known, kind=kind, **options)
            specs.append(known[plan.name].spec())
        else:
            needs = {"requires": plan.requires, "optional": plan.optional}
            specs.append(StageSpec(plan.name, body, kind, plan.dependencies, **needs, **options))
    if Switch.SHUFFLED in case.switches:
        random.Random(case.seed).shuffle(specs)
    return specs


def graph_of(case: Case, specs: list[StageSpec]) -> StageGraph:
    most = 3 if Switch.LIMITED in case.switches else None
    return StageGraph(specs, [], failure_mode=case.mode, max_concurrency=most)


class Ran(NamedTuple):
    """What a run has left behind."""

    log: Log
    declared: list[str]
    results: PipelineResults | None
    raised: BaseException | None


async def run(case: Case, made: Sequence[Plan], ends: Mapping[str, End]) -> Ran:
    """Run a case, and look for what it leaves behind at the very moment at which the call ends."""
    log = Log(case)
    specs = specs_of(case, made, ends, log)
    graph = graph_of(case, specs)
    token, context = CancellationToken(), PipelineContext() if case.stop is Stop.CONTEXT else None
    leaks: list[Any] = []

    async def call() -> PipelineResults:
        try:
            return await graph.run(
                context,
                sink=log,
                cancel_token=token,
                timeout=case.time * UNIT if case.stop is Stop.LIMIT else None,
                raise_errors=Switch.RAISES in case.switches,
            )
        finally:
            log.fire = None
            for timer in timers:
                timer.cancel()
            leaks.extend(watch.found(ignore=[main]))

    main = asyncio.current_task()
    with LeakWatch() as watch:
        log.task = task = asyncio.create_task(call())
        if case.stop is Stop.CONTEXT:
            log.fire = context.mark_canceled
        elif case.stop is Stop.CALLER:
            log.fire = task.cancel
        else:
            log.fire = lambda: token.cancel("by the test")
        timers = _set_timers(case, log, ends)
        await asyncio.wait([task])
    assert not leaks, leaks
    raised = task.exception() if not task.cancelled() else asyncio.CancelledError()
    results = task.result() if raised is None else getattr(raised, "results", None)
    return Ran(log, [spec.name for spec in specs], results, raised)


def _set_timers(case: Case, log: Log, ends: Mapping[str, End]) -> list[asyncio.TimerHandle]:
    """Set when the run is stopped; in the end it is in any case, since some stages hang."""
    ended = sum(end.ended - end.ready for end in ends.values() if end.ended < inf)
    timers = [log.loop.call_later((ended + 20) * UNIT, log.give_up)]
    if case.stop is Stop.NOBODY:
        log.fire_at_event = 0
    elif case.stop is Stop.BEFORE:
        log.stop()
    elif case.at is At.TIME and case.stop is not Stop.LIMIT:
        timers.append(log.loop.call_later(case.time * UNIT, log.stop))
    elif case.at is At.TURN:
        timers.append(log.loop.call_later(case.moment // 14 * UNIT, _stop_later, log, case.moment % 14))
    return timers


def _stop_later(log: Log, turns: int) -> None:
    if turns and log.fire is not None:
        log.loop.call_soon(_stop_later, log, turns - 1)
    else:
        log.stop()


# --- what a run did, held against the model ----------------------------------------------------------------------


class Cause(NamedTuple):
    """What stopped a run: a stage, something from outside ("<external>"), or nothing ("")."""

    position: int  # how many events there had been
    order: int  # in the middle of the last one (-1), by it (0) or after it (1)
    who: str
    at: float


class Verdict:
    """Holds one run against the model.

    Attributes:
        told: The events of each stage, with their places among all.
        cause: What stopped the run.
        settled: The status of every stage that must be in the results.
        settled_at: The places of their last events.
    """

    def __init__(self, case: Case, made: Sequence[Plan], ends: Mapping[str, End], ran: Ran) -> None:
        self.case, self.made, self.ends = case, made, ends
        self.log, self.events, self.ran = ran.log, ran.log.events, ran
        self.timed = Switch.LIMITED not in case.switches
        self.told: dict[str, list[tuple[int, Event]]] = {plan.name: [] for plan in made}
        for index, event in enumerate(self.events):
            if event.word is not None:
                assert event.type == f"stage.{event.data['stage']}.{event.word}"
                self.told[event.data["stage"]].append((index, event))
        self.exhausted = {
            event.data["stage"]: index
            for index, event in enumerate(self.events)
            if event.type == "stage.retry_exhausted"
        }
        self.scheduled = Counter(
            event.data["stage"] for event in self.events if event.type == "stage.retry_scheduled"
        )
        self.cause = self.find_cause()
        self.settled: dict[str, str] = {}
        self.settled_at: dict[str, int] = {}

    def check(self) -> None:
        log, case = self.log, self.case
        assert not log.wrong, log.wrong
        self.check_run()
        for plan in self.made:
            self.check_stage(plan, self.ends[plan.name])
        self.check_end()
        if self.ran.results is not None:
            self.check_results(self.ran.results)
        assert not log.given_up or "never" in {end.how for end in self.ends.values()}
        assert log.cleaned == log.to_clean[::-1]
        assert log.now_inside == {True: 0, False: 0}
        assert Switch.LIMITED not in case.switches or (log.most_inside <= 3 and log.most_limited <= 2)

    def find_cause(self) -> Cause:
        """Find out what stopped the run first, and after which event."""
        events, causes = self.events, [Cause(len(self.events), 2, "", inf)]
        for index, event in enumerate(events):
            failed = event.word == "failed" and self.case.mode is FailureMode.FAIL_FAST
            if failed or (event.word == "cancelled" and not event.cut_short):
                causes.append(Cause(index + 1, 0, event.data["stage"], event.at))
                break
        if self.case.stop is Stop.LIMIT:
            position = sum(event.at < self.case.time for event in events)
            if position < len(events):
                causes.append(Cause(position, 1, PipelineCancelled.EXTERNAL, self.case.time))
        elif self.log.fired is not None:
            position, order = self.log.fired
            at = events[position - 1].at if position else 0.0
            if self.case.stop is Stop.CALLER:  # the run hears of it when its own Task comes next
                position, order = self._first_effect(position), 1
            at = max(at, events[min(position, len(events) - 1)].at)
            causes.append(Cause(position, order, PipelineCancelled.EXTERNAL, at))
        return min(causes)

    def _first_effect(self, position: int) -> int:
        """Find the first sign, after so many events, that the run is stopping."""
        effects = [
            index
            for index, event in enumerate(self.events)
            if index >= position
            and (event.cut_short or event.type in ENDS or event.data.get("reason") == "run_stopped")
        ]
        effects += [
            asked.position
            for several in self.log.asked.values()
            for asked in several
            if asked.position >= position and not asked.over_limit
        ]
        return min(effects)

    # --- the stages -------------------------------------------------------------------------------------

    def check_stage(self, plan: Plan, end: End) -> None:
        """Check what was told of a stage: in itself, against the model, and against its dependencies."""
        told, position = self.told[plan.name], self.cause.position
        words = [event.word for _, event in told]
        index, last = told[-1]
        assert words == ["skipped"] or (
            words[0] == "started"
            and words[1:-1] == ["retrying"] * (len(words) - 2)
            and words[-1] in {"completed", "failed", "skipped", "cancelled"}
        ), (plan, words)
        if words[0] == "started":
            assert [event.data["attempt"] for _, event in told[1:-1]] == list(range(2, len(words)))
        left_behind = words == ["skipped"] and last.data["reason"] == "run_stopped"
        if not left_behind:
            first = told[0][0]
            for one in plan.dependencies:
                assert self.settled_at.get(one, inf) < first, f"{plan.name} began before {one} had settled"
        if index < position:
            self.check_settled(plan, end, words, last)
        elif told[0][0] >= position:
            assert left_behind, (plan, end, words, self.cause)
            assert not self.log.attempts[plan.name]
            assert not self.timed or end.ready > self.cause.at - NEAR, (plan, end, self.cause)
            return
        else:
            self.check_stopped(plan, end, words)
        if words[-1] != "cancelled" or not last.cut_short:
            self.settled_at[plan.name] = index

    def check_settled(self, plan: Plan, end: End, words: list[str | None], last: Event) -> None:
        """Check a stage that had settled before anything stopped the run: it must have ended as the model says."""
        how, told = end.how, self.told[plan.name]
        if how.startswith("not: "):
            assert words == ["skipped"], (plan, end, words)
            assert last.data["reason"] == how[5:], (plan, end, last)
        else:
            terminal = {"ok": "completed", "skip": "skipped", "fail": "failed", "cancel": "cancelled"}
            expected = ["started", *["retrying"] * (end.attempts - 1), terminal.get(how)]
            assert words == expected, (plan, end, words)
            assert last.data["attempt"] == end.attempts
            assert self.scheduled[plan.name] == end.attempts - 1
        starts = end.attempts if end.why is not Does.NOT_EVEN_START else 0
        assert self.log.attempts[plan.name] == starts, (plan, end)
        if self.timed:
            assert abs(told[0][1].at - end.ready) < NEAR, (plan, end, told[0])
            assert abs(last.at - end.ended) < NEAR, (plan, end, last)
        self.settled[plan.name] = "skip" if how.startswith("not: ") else how

    def check_stopped(self, plan: Plan, end: End, words: list[str | None]) -> None:
        """Check a stage that had started, and not ended, when something stopped the run."""
        name, position, at = plan.name, self.cause.position, self.cause.at
        if self.timed:
            assert abs(self.told[name][0][1].at - end.ready) < NEAR, (plan, end)
            assert end.ended > at - NEAR, (plan, end, self.cause)
        assert end.how == "never" or len(words) - 2 < end.attempts, (plan, end, words)
        asked = self.log.asked.get(name, [])
        acted_after, act = self.log.acts.get(name, (-1, ""))
        if end.why is Does.NOT_EVEN_START or self.exhausted.get(name, inf) < position:
            expected = {"failed"}  # it was about to
        elif acted_after < position:  # it waited for another attempt, or had only been announced
            expected = {"cancelled"}
        else:
            over = [one for one in asked if one.over_limit]
            by_itself = {Does.CANCEL_ITSELF, Does.OBEY_ITSELF}
            assert asked or not by_itself.isdisjoint(plan.does), f"{plan}: not asked to stop"
            assert len(asked) <= 1 + bool(over), f"{plan}: asked more than once: {asked}"
            expected = {act}
            if over:
                expected = {"failed"} if over[0].position < position else {"failed", act}
        assert words[-1] in expected, (plan, end, words, asked, self.cause)
        if words[-1] != "cancelled":
            self.settled[name] = {"completed": "ok", "failed": "fail"}[words[-1] or ""]

    # --- the run ----------------------------------------------------------------------------------------

    def check_run(self) -> None:
        types, events = [event.type for event in self.events], self.events
        assert types[0] == "pipeline.started"
        assert types[-1] in ENDS, f"the run has no terminal event, or something came after it: {types[-3:]}"
        assert sum(type.startswith("pipeline.") for type in types) == 2
        assert [event.data["sequence"] for event in events] == list(range(1, len(events) + 1))
        stamps = [event.data["monotonic_ns"] for event in events]
        assert stamps == sorted(stamps)
        assert len({event.data["pipeline_run_id"] for event in events}) == 1
        assert self.told.keys() == {plan.name for plan in self.made}
        untold = [name for name, told in self.told.items() if not told]
        assert not untold, f"nothing was told of {untold}"

    def check_end(self) -> None:
        """Check how the run ended: its last event, what the call raised or returned, and what that says."""
        case, cause, ran = self.case, self.cause, self.ran
        failures = [event.data["stage"] for event in self.events if event.word == "failed"]
        cancelled = cause.who and not (failures and cause.who == failures[0] and cause.order == 0)
        caller = case.stop is Stop.CALLER and self.log.fired is not None
        if caller and self.settled.keys() == self.told.keys():
            # All was done but the cleanup, say: then the caller has ended the run, if nobody had before.
            cancelled = cancelled or not (failures and case.mode is FailureMode.FAIL_FAST)
        if cancelled:
            assert self.events[-1].type == "pipeline.cancelled", (cause, self.events[-1])
            assert self.events[-1].data["cancelled_by"] == (cause.who or PipelineCancelled.EXTERNAL)
        elif failures and case.mode is not FailureMode.BEST_EFFORT:
            assert self.events[-1].type == "pipeline.failed", (cause, self.events[-1])
            assert self.events[-1].data["failed_stage"] == failures[0]
        else:
            assert self.events[-1].type == "pipeline.completed", (cause, self.events[-1])
        statuses = Counter(self.settled.values())
        assert self.events[-1].data["stage_counts"] == statuses
        if caller:
            assert isinstance(ran.raised, asyncio.CancelledError), ran.raised
            return
        bad = cancelled or (failures and case.mode is not FailureMode.BEST_EFFORT)
        assert (ran.raised is not None) == bool(bad and Switch.RAISES in case.switches), (ran.raised, cause)
        assert ran.results is not None
        error = ran.results.error if ran.raised is None else ran.raised
        if cancelled:
            kind = RunTimeoutError if case.stop is Stop.LIMIT and cause.order else PipelineCancelled
            assert type(error) is kind, error
            assert error.stage == cause.who
            if cause.order:
                reasons = {Stop.CONTEXT: "the context was marked as cancelled", Stop.LIMIT: error.reason}
                assert error.reason == reasons.get(case.stop, "by the test")
            else:
                assert error.reason == cause.who
        elif failures:
            self.check_failure(error, failures)
        else:
            assert error is None, error
        assert error is None or error.results is ran.results

    def check_failure(self, error: Any, failures: list[str]) -> None:
        """Check the error of a run whose first failure is what counts."""
        assert type(error) is StageExecutionError, error
        assert error.stage == failures[0]
        end = self.ends[error.stage]
        assert isinstance(error.original, ORIGINALS[end.why]), (end, error.original)
        assert error.attempts == end.attempts
        notes = getattr(error, "__notes__", [])
        assert len(notes) == len(failures) - 1
        assert all(repr(name) in note for name, note in zip(failures[1:], notes, strict=True))
        if self.timed and not self.cause.who:
            assert end.ended < min(one.ended for one in self.ends.values() if one.how == "fail") + NEAR

    def check_results(self, results: PipelineResults) -> None:
        assert list(results) == [name for name in self.ran.declared if name in self.settled]
        plans = {plan.name: plan for plan in self.made}
        for name, output in results.items():
            assert output.status == self.settled[name], (plans[name], output)
            end, data = self.ends[name], dict(output.data)
            if output.status == "ok":
                attempt = self.log.attempts[name]
                route = {"route": plans[name].choice} if plans[name].router else {}
                assert data == {"name": name, "attempt": attempt, **route}
            elif output.status == "skip":
                assert data == {"reason": "own wish" if end.how == "skip" else end.how[5:]}
            elif output.status == "cancel":
                assert data == {"cancel_reason": name}
            elif end.why in SAID and self.settled_at[name] < self.cause.position:
                assert output.error == SAID[end.why] or (end.why is Does.RAISE and output.error == name)


ORIGINALS: dict[Does | None, Any] = {
    Does.FAIL: RuntimeError,
    Does.RETRY: RuntimeError,
    Does.RETRY_LATER: RuntimeError,
    Does.RAISE: ValueError,
    Does.ERROR: ConnectionError,
    Does.WRONG: StageContractError,
    Does.OVER_LIMIT: StageTimeoutError,
    Does.CANCELLED_ERROR: asyncio.CancelledError,
    Does.OBEY_ITSELF: asyncio.CancelledError,
    Does.NOT_EVEN_START: (KeyError, StageContractError),
}
SAID = {Does.FAIL: "own wish", Does.RETRY: "again", Does.RETRY_LATER: "again", Does.RAISE: ""}


class Bench:
    """An event loop on a virtual clock that many examples share; one that failed leaves it to nobody."""

    def __init__(self) -> None:
        self.runner: asyncio.Runner | None = None
        self.complaints: list[Any] = []

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        if self.runner is None:
            self.runner = asyncio.Runner(loop_factory=lambda: VirtualClockLoop(patience=0.01))
            self.runner.get_loop().set_exception_handler(lambda _, told: self.complaints.append(told))
        try:
            result = self.runner.run(coro)
        except BaseException:
            self.close()
            raise
        assert not self.complaints, self.complaints
        return result

    def close(self) -> None:
        runner, self.runner = self.runner, None
        if runner is not None:
            runner.close()


@pytest.fixture(scope="module")
def bench() -> Generator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def try_case(case: Case, bench: Bench) -> Verdict:
    made = plans(case)
    ends = predict(made)
    try:
        verdict = Verdict(case, made, ends, bench.run(run(case, made, ends)))
        verdict.check()
    except BaseException as exc:
        lines = "\n".join(f"  {plan}\n    {ends[plan.name]}" for plan in made)
        exc.add_note(f"The stages, and what the model says of them:\n{lines}")
        raise
    return verdict


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.timeout(1800 if DEEP else 60)
def test_random_graphs(shard: int, bench: Bench):
    @settings(max_examples=EXAMPLES // SHARDS)
    @given(case=CASES)
    def examples(case: Case) -> None:
        try_case(case, bench)

    # The quick tier takes the same examples each time, but each shard its own.
    (seed(shard)(examples) if settings().derandomize else examples)()


@given(case=CASES)
def test_a_run_is_repeatable(bench: Bench, case: Case):
    """Two runs of one graph, at once and after each other, do not see each other."""
    case = case._replace(mode=FailureMode.BEST_EFFORT, stop=Stop.NOBODY)
    ending = {one: Does.OK if one in HANGING or one is Does.CANCEL else one for one in Does}
    made = [replace(plan, does=tuple(ending[one] for one in plan.does)) for plan in plans(case)]
    ends = predict(made)

    async def several() -> list[PipelineResults]:
        graph = graph_of(case, specs_of(case, made, ends, Log(case)))
        first = await graph.run(raise_errors=False)
        return [first, *await asyncio.gather(*(graph.run(raise_errors=False) for _ in range(3)))]

    first, *others = bench.run(several())
    statuses = {name: end.how if end.how[:5] != "not: " else "skip" for name, end in ends.items()}
    assert {name: output.status for name, output in first.items()} == statuses
    for other in others:
        assert {name: output.data for name, output in other.items()} == {
            name: output.data for name, output in first.items()
        }


# --- the model and the cases themselves --------------------------------------------------------------------------


def plan(name: str, *dependencies: str, does: Does = Does.OK, **more: Any) -> Plan:
    return Plan(name, dependencies, (does,), **more)


FAILS = plan("a", does=Does.FAIL)
SKIPS = plan("a", does=Does.SKIP)
KEPT = plan("a", when="no")
ROUTES = plan("a", router=True)
LOST = plan("a", router=True, choice=None)
TO_Y = ("a", frozenset("y"))
TO_XY = ("a", frozenset("xy"))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([SKIPS, plan("b", "a"), plan("c", "a", conditional=True)], "skip, ok, not: dependency_skipped"),
        ([FAILS, plan("b", "a"), plan("c", "b")], "fail, not: dependency_failed, not: dependency_failed"),
        ([FAILS, plan("b", "a", when="no")], "fail, not: dependency_failed"),
        ([KEPT, plan("b", "a"), plan("c", "b")], "not: condition_false" + ", not: branch_not_taken" * 2),
        ([KEPT, plan("b"), plan("c", "a", "b")], "not: condition_false, ok, ok"),
        ([KEPT, plan("b", "a", optional={"a"})], "not: condition_false, ok"),
        (
            [KEPT, plan("b"), plan("c", "a", "b", optional={"b"})],
            "not: condition_false, ok, not: branch_not_taken",
        ),
        (
            [KEPT, plan("b"), plan("c", "a", "b", requires={"a"})],
            "not: condition_false, ok, not: value_missing",
        ),
        ([SKIPS, plan("b", "a", requires={"a"})], "skip, not: value_missing"),
        (
            [ROUTES, plan("b", "a", route=TO_Y), plan("c", "b")],
            "ok, not: route_not_taken, not: branch_not_taken",
        ),
        ([ROUTES, plan("b", "a", route=TO_XY)], "ok, ok"),
        ([LOST, plan("b", "a", route=TO_XY), plan("c", "a")], "ok, fail, ok"),
        ([plan("a", when="raises"), plan("b")], "fail, ok"),
        ([plan("a", does=Does.HANG), plan("b", "a"), plan("c")], "never, never, ok"),
    ],
    ids=[
        "skip",
        "failure",
        "failure before condition",
        "branch",
        "join",
        "default",
        "default and branch",
        "value missing",
        "value of a skip",
        "route",
        "route taken",
        "no route",
        "condition raises",
        "hang",
    ],
)
def test_the_model_knows_the_rules(made, expected):
    assert ", ".join(end.how for end in predict(made).values()) == expected


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (Plan("a", pauses=(1, 0, 2)), ("ok", 3, 1)),
        (Plan("a", pauses=(1, 2), limit=1.4), ("fail", 1.4, 1)),
        (Plan("a", pauses=(1, 2), limit=1.4, rule=2), ("fail", 1.4 * 3 + 1 + 2, 3)),
        (Plan("a", does=(Does.HANG_THEN_OK, Does.OK), limit=2.4, rule=1), ("ok", 2.4, 2)),
        (Plan("a", does=(Does.HANG,)), ("never", inf, 1)),
        (Plan("a", does=(Does.RETRY, Does.RETRY, Does.SKIP)), ("skip", 0, 3)),
        (Plan("a", does=(Does.RETRY,)), ("fail", 0, 3)),
        (Plan("a", does=(Does.RETRY,), rule=5), ("fail", 0, 1)),
        (Plan("a", does=(Does.RETRY_LATER, Does.OK), rule=3), ("ok", 2, 2)),
        (Plan("a", does=(Does.ERROR, Does.OK)), ("fail", 0, 1)),
        (Plan("a", does=(Does.ERROR, Does.ERROR, Does.ERROR, Does.OK), rule=3), ("ok", 1 + 2 + 2.5, 4)),
        (Plan("a", does=(Does.RAISE, Does.FAIL, Does.OK), rule=4), ("ok", 2, 3)),
        (Plan("a", does=(Does.ERROR, Does.OK), rule=4), ("fail", 0, 1)),
    ],
    ids=[
        "pauses",
        "limit",
        "limit, repeated",
        "limit, then ok",
        "hang",
        "asked, then skip",
        "asked too often",
        "asked in vain",
        "asked for a wait",
        "error",
        "errors repeated",
        "failures repeated",
        "error not named",
    ],
)
def test_the_model_knows_how_long_attempts_take(of, expected):
    end = predict([of])["a"]
    assert (end.how, end.ended, end.attempts) == (expected[0], pytest.approx(expected[1]), expected[2])


def test_the_cases_have_everything_in_them():
    nobody = {"mode": FailureMode.FAIL_FAST, "stop": Stop.NOBODY, "at": At.TIME, "moment": 0}
    cases = [Case(size=60, seed=number, switches=Switch(sum(Switch)), **nobody) for number in range(200)]
    made = [plans(case) for case in cases]
    hows = {(end.how, end.why) for several in made for end in predict(several).values()}
    rules = (
        "dependency_failed branch_not_taken dependency_skipped value_missing route_not_taken condition_false"
    )
    assert {how for how, _ in hows} == {"ok", "skip", "fail", "cancel", "never"} | {
        f"not: {rule}" for rule in rules.split()
    }
    assert {why for _, why in hows} >= set(Does) - HANGING
    assert {does for several in made for plan in several for does in plan.does} >= HANGING
    assert (min(SIZES), max(SIZES)) == (1, 300)
    (largest,) = [plans(case._replace(size=300)) for case in cases[:1]]
    assert all(
        one in {plan.name for plan in largest[:at]}
        for at, plan in enumerate(largest)
        for one in plan.dependencies
    )
