"""Random graphs with effects, gates and runs inside of runs, compared with a small model of the rules.

The model (`predict`) is written from ``docs/explanation/effects.md`` and ``docs/explanation/outcomes.md``, not from the
kernel. It says how each stage ends in a run that nothing stops, when, and what is told of it meanwhile; the runs are on
a virtual clock, on which only what the case says takes time. A stage pauses for a time of its own, so two things that
have nothing to do with each other hardly ever happen at the same moment; where they do, either may come first. What a
run that is stopped has done before must be what the model says, and the rest is decided by when it was stopped.

Under limits to concurrency the model knows no times, only outcomes; there the order of things is checked (`Order`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from enum import IntFlag, StrEnum, auto
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from stageflow import (
    CancellationToken,
    Effect,
    FailureMode,
    PipelineCancelled,
    RetryPolicy,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
)
from stageflow.errors import (
    EffectGateClosed,
    EffectGateDeadlock,
    PipelineValidationError,
    RunTimeoutError,
    StageContractError,
)
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.limits import ConcurrencyLimit
from stageflow.stages.part import Part
from stageflow.testing import LeakWatch, VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator, Iterable, Mapping, Sequence

    from stageflow.runtime.timeline import Timeline

DEEP = settings().max_examples > 100
EXAMPLES = 20_000 if DEEP else 200
SHARDS = 8 if DEEP else 2  # so that every core has a share

UNIT = 1e6
"""What a case counts time in, in seconds; so long that the waits of the default retry policy do not matter."""

NEAR = 5e-6
"""Two times that are no further apart are the same moment, in units."""

FOR_EVER = 1e4
"""A run that has not ended by then, in units, never does."""


# --- the cases -----------------------------------------------------------------------------------------------------


class Does(StrEnum):
    """How an attempt of a stage ends, once it has done its steps."""

    OK = "ok"
    SKIP = "skip"
    FAIL = "fail"
    RAISE = "raise ValueError"
    RETRY = "ask for another attempt"
    ERROR = "raise ConnectionError"
    CANCEL = "cancel the run"
    HANG = "hang until cancelled"


class Act(StrEnum):
    """One step of a stage's body."""

    PAUSE = "pause"
    GATE = "await ctx.gate()"
    GATE_IN_TASK = "have a Task await ctx.gate(), pause meanwhile, await the Task"
    CHILD = "run another graph"


class Stop(StrEnum):
    """Who stops the run from outside."""

    NOBODY = "nobody"
    TOKEN = "the token"  # noqa: S105 - it protects nothing
    CALLER = "its Task is cancelled"
    LIMIT = "the run's limit"


class Switch(IntFlag):
    """What a case is made of, beside stages with effects, and gates."""

    PAUSES = auto()
    TROUBLES = auto()
    RETRIES = auto()
    RULES = auto()  # when=, conditional=, routes
    HANGS = auto()
    LOOPS = auto()  # guards that send back
    ASKS = auto()  # ctx.gate()
    CHILDREN = auto()
    LIMITS = auto()  # time limits of stages
    CROWDED = auto()  # limits to concurrency
    UNTIDY = auto()  # effects that a gate waits for


class Case(NamedTuple):
    """What makes a random graph and a run of it."""

    size: int
    seed: int
    mode: FailureMode
    stop: Stop
    moment: int
    switches: Switch

    @property
    def time(self) -> float:
        """When it is stopped from outside, in units: at a moment at which no stage does anything."""
        return self.moment / 7 + 0.000613


class Step(NamedTuple):
    """One step of a stage's body.

    `pause` is in units; 0 is a turn of the event loop.
    """

    act: Act
    pause: float = 0.0
    child: Pipe | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """One stage of a random graph."""

    name: str
    dependencies: tuple[str, ...] = ()
    does: tuple[Does, ...] = (
        Does.OK,
    )  # attempt by attempt (round by round of a guard); the last for all that follow
    steps: tuple[Step, ...] = ()
    limit: float = inf  # of an attempt, in units
    rule: int = 0  # how it is attempted again
    effect: Effect = Effect.NONE
    says_effect: bool = True  # else it is what its kind says
    gate: bool = False
    gated: bool = True
    kind: StageKind = StageKind.TRANSFORM
    catches: bool = False  # what ctx.gate() raises
    receipts: bool = True
    conditional: bool = False
    when: str | None = None  # "yes", "no", "raises"
    choice: str | None = None  # what it chooses if it is a router
    route: tuple[str, str] | None = None  # which router must choose what for it to run
    sends_back: str | None = None  # the stage that it sends back, if it is a guard that does
    rounds: int = 1
    narrow: bool = False  # it has a concurrency limit of its own

    def __repr__(self) -> str:
        """Show what is special about it."""
        said = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)
            if getattr(self, one.name) != one.default
        ]
        return f"Plan({', '.join(said)})"


@dataclass(frozen=True, slots=True)
class Pipe:
    """A random graph, of a run or of a run inside of it."""

    name: str
    plans: tuple[Plan, ...]
    mode: FailureMode
    key: bool = False  # whether its runs have an idempotency key
    most: int | None = None
    precedes: frozenset[str] = field(default=frozenset(), compare=False)  # the stages that a gate waits for

    @property
    def gates(self) -> tuple[Plan, ...]:
        return tuple(plan for plan in self.plans if plan.gate)

    @property
    def has_effects(self) -> bool:
        return any(plan.effect is not Effect.NONE for plan in self.plans)


class Rule(NamedTuple):
    """A way of attempting a stage again: as the kernel takes it, and what that means."""

    policy: RetryPolicy | None
    most: int
    waits: tuple[float, ...]  # after the first attempt, after the second; in units
    after: frozenset[str]


RULES = (
    Rule(None, 3, (0, 0), frozenset({Does.RETRY})),
    Rule(RetryPolicy(3, base_delay=0, jitter=False), 3, (0, 0), frozenset({Does.RETRY, Does.ERROR, "limit"})),
    Rule(
        RetryPolicy(3, base_delay=UNIT, max_delay=9 * UNIT, jitter=False),
        3,
        (1, 2),
        frozenset({Does.RETRY, Does.ERROR, "limit"}),
    ),
)

SIZES = sorted([*range(1, 9)] * 6 + [*range(9, 15)] * 3 + [*range(15, 41, 3)])
STOPS = [Stop.NOBODY] * 7 + [Stop.TOKEN, Stop.CALLER, Stop.LIMIT]
TROUBLES = [Does.SKIP, Does.SKIP, Does.FAIL, Does.RAISE, Does.RETRY, Does.ERROR, Does.CANCEL]
REPEATABLE = [Does.RETRY, Does.ERROR, Does.ERROR]
EFFECTS = [Effect.NONE] * 5 + [Effect.IDEMPOTENT, Effect.REVERSIBLE, Effect.IRREVERSIBLE, Effect.IRREVERSIBLE]
KINDS = [StageKind.TRANSFORM, StageKind.ENRICH, StageKind.AGENT]


def pipe_of(case: Case, *, name: str = "root", depth: int = 0) -> Pipe:
    """Make the graph of a case, with those that its stages run."""
    rng = random.Random(f"{case.seed}/{name}")
    size = case.size if not depth else rng.randint(1, 5)
    trouble = rng.choice((0.0, 0.05, 0.2, 0.4))
    plans = [
        _plan(random.Random(f"{case.seed}/{name}/{number}"), number, trouble, case) for number in range(size)
    ]
    plans = [
        _with_steps(random.Random(f"{case.seed}/{name}/{plan.name}/steps"), plan, case, name, depth)
        for plan in plans
    ]
    plans = _with_routes(rng, plans, case)
    plans = _with_loops(rng, plans, case, may_be_refused=not depth)
    chosen = set(rng.sample([plan.name for plan in plans], min(rng.choice((0, 1, 1, 1, 2, 3)), size)))
    plans = [_gate(rng, plan, case) if plan.name in chosen else plan for plan in plans]
    precedes = before_gates(plans)
    if depth or Switch.UNTIDY not in case.switches:
        plans = [_tidied(rng, plan) if plan.name in precedes else plan for plan in plans]
    most = rng.choice((None, None, 1, 2, 3)) if Switch.CROWDED in case.switches else None
    mode = case.mode if not depth else rng.choice(list(FailureMode))
    return Pipe(name, tuple(plans), mode, rng.random() < 0.3, most, precedes)


def _gate(rng: random.Random, plan: Plan, case: Case) -> Plan:
    """Make a stage a gate, which objects more often than other stages fail."""
    objects, how = rng.random() < 0.35, rng.choice((Does.FAIL, Does.FAIL, Does.RAISE, Does.SKIP))
    if objects and plan.does == (Does.OK,) and plan.sends_back is None and Switch.TROUBLES in case.switches:
        plan = replace(plan, does=(how,) if plan.when is None else plan.does)
    return replace(plan, gate=True)


def _plan(rng: random.Random, number: int, trouble: float, case: Case) -> Plan:
    switches = case.switches
    before = (
        {f"s{rng.randrange(number)}" for _ in range(rng.choice((0, 0, 1, 1, 1, 2, 3)))} if number else set()
    )
    good, bad, first, times = (
        rng.random() > trouble,
        rng.choice(TROUBLES),
        rng.choice(REPEATABLE),
        rng.randint(1, 3),
    )
    repeats, hangs, effect, gated = (
        rng.random() < 0.3,
        rng.random() < 0.1,
        rng.choice(EFFECTS),
        rng.random() > 0.1,
    )
    conditional, when, kind = (
        rng.random() < 0.2,
        rng.choice([None] * 8 + ["yes", "no", "no"]),
        rng.choice(KINDS),
    )
    rule, narrow, receipts, limit = (
        rng.randrange(3),
        rng.random() < 0.15,
        rng.random() < 0.8,
        rng.choice((inf, 1.1, 2.2)),
    )
    says, broken = rng.random() < 0.5, rng.random() < 0.03
    if effect is Effect.IRREVERSIBLE:
        kind = StageKind.WORK
    does = Does.OK if good or Switch.TROUBLES not in switches else bad
    if hangs and Switch.HANGS in switches:
        does = Does.HANG
    return Plan(
        f"s{number}",
        tuple(sorted(before)),
        ((first,) * times if repeats and Switch.RETRIES in switches else ()) + (does,),
        limit=limit + rng.randrange(1, 99_991) / 99_991 if Switch.LIMITS in switches else inf,
        rule=rule if Switch.RETRIES in switches else 0,
        effect=effect,
        says_effect=says or kind is not StageKind.WORK,
        gated=gated,
        kind=kind,
        receipts=receipts or Switch.TROUBLES not in switches,
        conditional=conditional and Switch.RULES in switches,
        when=("raises" if broken else when) if Switch.RULES in switches else None,
        narrow=narrow and Switch.CROWDED in switches,
    )


def _with_steps(rng: random.Random, plan: Plan, case: Case, path: str, depth: int) -> Plan:
    """Give a stage's body something to do."""

    def pause() -> float:
        return rng.choice((0, 0, 1)) + rng.randrange(1, 99_991) / 99_991

    steps: list[Step] = []
    before, after, turns = pause(), pause(), rng.random() < 0.2
    asks, runs, catches = rng.choice((0, 0, 0, 1, 1, 2)), rng.random() < 0.3, rng.random() < 0.3
    way = rng.choice((Act.GATE, Act.GATE_IN_TASK))
    asks = asks if Switch.ASKS in case.switches else 0
    if runs and depth < 2 and Switch.CHILDREN in case.switches and plan.does[0] not in REPEATABLE:
        steps.append(Step(Act.CHILD, child=pipe_of(case, name=f"{path}/{plan.name}", depth=depth + 1)))
    if asks:
        steps.insert(rng.randint(0, len(steps)), Step(way, pause() if way is Act.GATE_IN_TASK else 0))
    if steps or Switch.PAUSES in case.switches:  # so that it asks at a moment of its own
        steps.insert(0, Step(Act.PAUSE, 0 if turns and not steps else before))
        if asks > 1:
            steps.append(Step(Act.PAUSE, after))
    crowded = Switch.CROWDED in case.switches and any(step.act is not Act.PAUSE for step in steps)
    return replace(plan, steps=tuple(steps), catches=catches, limit=inf if crowded else plan.limit)


def _with_routes(rng: random.Random, plans: list[Plan], case: Case) -> list[Plan]:
    """Make some stages routers, and let some of those that depend on one be chosen, or not."""
    routers = {plan.name for plan in plans if rng.random() < 0.15 and plan.effect is Effect.NONE}
    routes, made = {name: rng.choice("xy") for name in sorted(routers)}, []
    for plan in plans:
        mine, label = routers.intersection(plan.dependencies), rng.choice("xxy")
        if Switch.RULES in case.switches:
            route = (min(mine), label) if mine else None
            router = {"choice": routes[plan.name], "kind": StageKind.ROUTE} if plan.name in routers else {}
            made.append(replace(plan, route=route, **router))
        else:
            made.append(plan)
    return made


def _with_loops(rng: random.Random, plans: list[Plan], case: Case, *, may_be_refused: bool) -> list[Plan]:
    """Turn some threes of stages into loops: the first is sent back by the third, the second lies between."""
    number = 0
    while number + 2 < len(plans):
        wanted, rejects, most, how = (
            rng.random() < 0.25,
            rng.randint(0, 3),
            rng.randint(1, 4),
            rng.choice(REJECTS),
        )
        idle, careless = rng.choice((Does.OK, Does.OK, Does.SKIP)), rng.random() < 0.05
        if not wanted or Switch.LOOPS not in case.switches:
            number += 1
            continue
        first, second, third = plans[number : number + 3]
        names = {first.name, second.name, third.name}
        plain = {"rule": 0, "limit": inf, "choice": None, "route": None, "when": None, "conditional": False}
        first = replace(_childless(first), does=(Does.OK,), receipts=True, kind=StageKind.TRANSFORM, **plain)
        second = replace(
            _childless(second),
            dependencies=(first.name, *(one for one in second.dependencies if one not in names)),
            does=(idle,),
            receipts=True,
            kind=StageKind.TRANSFORM,
            **plain,
        )
        third = replace(
            _childless(third),
            dependencies=(first.name, second.name, *(one for one in third.dependencies if one not in names)),
            does=(how,) * rejects + (Does.OK,),
            kind=StageKind.GUARD,
            effect=Effect.NONE,
            sends_back=first.name,
            rounds=most,
            **plain,
        )
        if second.effect is Effect.IRREVERSIBLE and not (
            careless and may_be_refused and Switch.UNTIDY in case.switches
        ):
            second = replace(second, effect=Effect.IDEMPOTENT)
        says = {"says_effect": True}
        plans[number : number + 3] = [replace(first, **says), replace(second, **says), third]
        for later in range(number + 3, len(plans)):
            plan = plans[later]
            moved = tuple(sorted({second.name if one == first.name else one for one in plan.dependencies}))
            route = plan.route if plan.route and plan.route[0] not in names else None
            plans[later] = replace(plan, dependencies=moved, route=route)
        number += 3
    return plans


REJECTS = (Does.FAIL, Does.RAISE)


def _childless(plan: Plan) -> Plan:
    return replace(plan, steps=tuple(step for step in plan.steps if step.act is not Act.CHILD))


def _tidied(rng: random.Random, plan: Plan) -> Plan:
    """Let a stage that a gate waits for say that it comes first, or have no effect, and mostly not ask."""
    exempt, quiet = rng.random() < 0.3, rng.random() < 0.6
    if plan.effect is not Effect.NONE and not plan.gate and not exempt:
        plan = replace(plan, effect=Effect.NONE, says_effect=True)
    if quiet and not plan.gate and not exempt:
        plan = replace(plan, steps=tuple(step for step in plan.steps if step.act in {Act.PAUSE, Act.CHILD}))
    return replace(plan, gated=plan.gated and not exempt)


def guards_of(plans: Sequence[Plan]) -> dict[str, str]:
    """Return, for each stage of a loop, the guard that sends it back."""
    by_name, guards = {plan.name: plan for plan in plans}, {}
    for plan in plans:
        if plan.sends_back is not None:
            middle = [one for one in plan.dependencies if plan.sends_back in by_name[one].dependencies]
            guards |= dict.fromkeys((plan.sends_back, *middle, plan.name), plan.name)
    return guards


def waits_for(plans: Sequence[Plan]) -> dict[str, set[str]]:
    """Return, for each stage, those that must settle before it starts: also the guards of what it depends on."""
    guards = guards_of(plans)
    found: dict[str, set[str]] = {}
    for plan in plans:
        holders = {guards[one] for one in plan.dependencies if one in guards}
        found[plan.name] = {*plan.dependencies, *(holders - {guards.get(plan.name)})}
    return found


def before(gate: str, plans: Sequence[Plan]) -> frozenset[str]:
    """Return the stages that a gate waits for, directly or not: until it starts, or until its guard has settled."""
    waits, guard = waits_for(plans), guards_of(plans).get(gate, gate)
    found: set[str] = set()
    pending = [*waits[gate], *({guard} - {gate})]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += waits[name]
    return frozenset(found)


def before_gates(plans: Sequence[Plan]) -> frozenset[str]:
    return frozenset().union(*(before(plan.name, plans) for plan in plans if plan.gate))


def problems_of(pipe: Pipe) -> Counter[str]:
    """Say what the build refuses."""
    guards = guards_of(pipe.plans)
    problems: Counter[str] = Counter()
    for plan in pipe.plans:
        held = plan.effect is not Effect.NONE and plan.gated and not plan.gate
        problems["SF-BUILD-GATE"] += held and plan.name in pipe.precedes
        sent_back = plan.name in guards and plan.name not in {one.sends_back for one in pipe.plans}
        problems["SF-BUILD-GUARD-RETRY"] += sent_back and plan.effect is Effect.IRREVERSIBLE
    return +problems


SWITCHES = [
    switches
    for switches in map(
        Switch, range(sum(Switch) + 1)
    )  # what is refused, and what knows no times, tells less
    if not (Switch.UNTIDY in switches and switches & (Switch.CROWDED | Switch.HANGS))
    and not (Switch.CROWDED in switches and switches & (Switch.LIMITS | Switch.HANGS))
]

CASES = st.builds(
    Case,
    size=st.sampled_from(SIZES),
    seed=st.sampled_from(range(1 << 24)),  # integers() would prefer small ones
    mode=st.sampled_from(FailureMode),
    stop=st.sampled_from(STOPS),
    moment=st.integers(0, 40),
    switches=st.sampled_from(SWITCHES),
)


# --- the model -----------------------------------------------------------------------------------------------------


class TieError(Exception):
    """What happens depends on which of two things that happen at the same moment comes first."""


class Decision(NamedTuple):
    """What gates have come to, and when; which of them closed them, in which run."""

    state: str = "undecided"
    at: float = inf
    by: str = ""
    run: str = ""


class Hold(NamedTuple):
    """What holds the effects of a stage.

    That is what gates come to, if there are any, whether one of them waits for the stage, and which do.
    """

    decision: Decision | None = None
    circle: bool = False
    behind: frozenset[tuple[str, str]] = frozenset()

    def at_time(self, now: float) -> str:
        """Return what the gates have come to at a time at which the stage is running."""
        if self.decision is None:
            return "open"
        state, at, by, run = self.decision
        if (run, by) in self.behind:
            return "undecided"
        if self.circle and abs(now - at) < NEAR:
            raise TieError
        return state if at <= now else "undecided"


FREE = Hold()
"""Nothing does."""


@dataclass(slots=True)
class End:
    """What becomes of a stage in a run that nothing stops.

    `how` is ``"ok" "skip" "fail" "cancel"`` of stages that ran, ``"closed"`` of one that ran and found the gate closed,
    ``"kept"`` of those that did not start, and ``"never"`` of those that do not end. Times are in units.
    """

    how: str
    ready: float
    ended: float
    begun: float = inf  # when its body began
    starts: int = 0  # how often it did
    words: list[str] = field(default_factory=list)
    reasons: frozenset[str] = frozenset()  # why it was kept, or skipped
    held: bool | None = False  # whether it waited for the gate before it started; None if that may be
    asked: list[tuple[float, float]] = field(default_factory=list)  # when it waited for the gate while it ran
    attempt: int = 1
    refused: int = 0  # the attempt that was not repeated
    receipts: list[int] = field(default_factory=list)  # the attempts that left one
    error: type[BaseException] | None = None
    settled: float = inf  # when it had, for good


@dataclass(slots=True)
class ChildRun:
    """A run that a stage started."""

    key: str
    pipe: Pipe
    hold: Hold
    model: Model | None  # None if it was refused
    begun: float
    cut: float  # when the stage was over its limit


@dataclass(slots=True)
class Model:
    """What becomes of one run that nobody stops from outside."""

    begun: float
    ends: dict[str, End]
    decision: Decision | None  # of its gates and those above
    children: list[ChildRun]
    stop: float  # when one of its stages ends it; inf if none does

    @property
    def ended(self) -> float:
        return min(self.stop, max(end.ended for end in self.ends.values()))


def predict(pipe: Pipe, key: str = "root", now: float = 0.0, above: Hold = FREE) -> Model:
    """Say how and when each stage ends in a run that nothing stops and nothing limits."""
    # What a gate comes to does not depend on when the others do: whom it waits for is never held. But a stage that
    # a gate waits for may ask when another gate has closed, so the first closing comes first.
    undecided = _Prediction(pipe, key, now, above, None).model()
    own = _own_decision(pipe, key, undecided) if pipe.gates else None
    return _Prediction(pipe, key, now, above, own).model()


def _own_decision(pipe: Pipe, key: str, model: Model) -> Decision:
    said: list[Decision] = []
    for gate in pipe.gates:
        end = model.ends[gate.name]
        passed = end.how in {"ok", "skip"} or end.reasons == {"condition_false"}
        said.append(
            Decision("open" if passed and end.how != "closed" else "closed", end.settled, gate.name, key)
        )
        if end.settled == inf:
            said[-1] = Decision()
    closed = [one for one in said if one.state == "closed"]
    return min(closed, key=lambda one: one.at) if closed else max(said, key=lambda one: one.at)


def _both(own: Decision | None, above: Decision | None) -> Decision | None:
    """Return what gates of a run and those of the runs above come to together."""
    several = [one for one in (own, above) if one is not None]
    closed = [one for one in several if one.state == "closed"]
    if closed:
        return min(closed, key=lambda one: one.at)
    return max(several, key=lambda one: one.at, default=None)


class _Prediction:
    """Goes over the stages of one run, each after those that it waits for."""

    def __init__(self, pipe: Pipe, key: str, now: float, above: Hold, own: Decision | None) -> None:
        self.pipe, self.key, self.now, self.above = pipe, key, now, above
        self.plans = {plan.name: plan for plan in pipe.plans}
        self.waits, self.guards = waits_for(pipe.plans), guards_of(pipe.plans)
        self.before = {gate.name: before(gate.name, pipe.plans) for gate in pipe.gates}
        if own is None and pipe.gates:
            own = Decision()
        self.decision = _both(own, above.decision)
        self.ends: dict[str, End] = {}
        self.children: list[ChildRun] = []

    def model(self) -> Model:
        rest = list(self.pipe.plans)
        while rest:
            plan = next(one for one in rest if self.waits[one.name] <= self.ends.keys())
            rest.remove(plan)
            self.ends[plan.name] = end = self.settle(plan, self.ready(plan))
            if plan.sends_back is not None:
                self.go_round(plan, end)
        for name, end in self.ends.items():
            end.settled = self.ends[self.guards[name]].ended if name in self.guards else end.ended
        stops = [end.ended for end in self.ends.values() if end.how == "cancel"]
        if self.pipe.mode is FailureMode.FAIL_FAST:
            stops += [end.ended for end in self.ends.values() if end.how == "fail"]
        return Model(self.now, self.ends, self.decision, self.children, min(stops, default=inf))

    def ready(self, plan: Plan) -> float:
        return max((self.ends[one].ended for one in self.waits[plan.name]), default=self.now)

    def hold(self, plan: Plan) -> Hold:
        """Return what holds the effects of a stage."""
        if plan.gate or not plan.gated:
            return self.above
        behind = {(self.key, gate) for gate, first in self.before.items() if plan.name in first}
        return Hold(self.decision, bool(behind) or self.above.circle, self.above.behind | behind)

    # --- one stage --------------------------------------------------------------------------------------

    def settle(self, plan: Plan, ready: float) -> End:
        if ready == inf:
            return End("never", inf, inf, words=["skipped"])
        if reasons := self.kept(plan):
            return End("kept", ready, ready, words=["skipped"], reasons=reasons, attempt=0)
        if plan.when == "raises":
            return End("fail", ready, ready, words=["started", "failed"], error=KeyError)
        hold = self.hold(plan)
        end = End("never", ready, inf, words=["started"])
        now = ready
        if plan.effect is not Effect.NONE and hold.decision is not None:
            assert not hold.circle or hold.decision.state == "closed", "who would hold itself is refused"
            now = max(ready, hold.decision.at)
            end.held = None if abs(hold.decision.at - ready) < NEAR else hold.decision.at > ready
            if hold.decision.state != "open":
                closed = hold.decision.state == "closed"
                how, ended = ("kept", now) if closed else ("never", inf)
                reasons = frozenset({"gate_closed"}) if closed else frozenset()
                return End(how, ready, ended, words=["skipped"], reasons=reasons, held=end.held, attempt=0)
        end.begun = now
        self.attempt(plan, end, now)
        return end

    def kept(self, plan: Plan) -> frozenset[str]:
        """Return the first rule that keeps a ready stage from starting; two where the page does not say which."""
        before = [self.ends[one] for one in plan.dependencies]
        own = self.guards.get(plan.name)
        before += [self.ends[one] for one in self.waits[plan.name] - {*plan.dependencies, own}]
        rule_one = {"dependency_failed"} if any(end.how == "fail" for end in before) else set()
        rule_one |= {one for end in before for one in end.reasons & {"dependency_failed", "gate_closed"}}
        if rule_one:
            return frozenset(rule_one)
        before = [self.ends[one] for one in plan.dependencies]
        kept = [end.how == "kept" for end in before]
        if kept and all(kept):
            return frozenset({"branch_not_taken"})
        if plan.conditional and any(end.how in {"kept", "skip"} for end in before):
            return frozenset({"dependency_skipped"})
        if plan.route is not None:
            router, label = plan.route
            if self.ends[router].how != "ok" or self.plans[router].choice != label:
                return frozenset({"route_not_taken"})
        return frozenset({"condition_false"}) if plan.when == "no" else frozenset()

    def attempt(self, plan: Plan, end: End, now: float) -> None:
        """Say how a stage ends that starts."""
        rule = RULES[plan.rule]
        for number in itertools.count(1):
            end.starts, end.attempt = end.starts + 1, number
            what, now, left = self.body(plan, end, number, now)
            if what == "done":
                end.receipts += [number] * (plan.receipts and plan.effect is Effect.REVERSIBLE)
                what = plan.does[min(number, len(plan.does)) - 1]
            if what is Does.HANG:
                what, now = ("never", inf) if left == inf else ("limit", now + left)
            if what == "never":
                return
            if what in rule.after and number < rule.most:
                final = plan.effect is Effect.IRREVERSIBLE and what is not Does.RETRY and not self.pipe.key
                if not final:
                    end.words.append("retrying")
                    now += rule.waits[number - 1]
                    continue
                end.refused = number
            self.finish(plan, end, what, now)
            return

    def finish(self, plan: Plan, end: End, what: str, now: float) -> None:
        hows = {Does.OK: "ok", "caught": "ok", Does.SKIP: "skip", Does.CANCEL: "cancel", "closed": "closed"}
        end.how, end.ended, end.error = hows.get(what, "fail"), now, None
        if end.how == "ok" and plan.effect is Effect.REVERSIBLE and end.attempt not in end.receipts:
            end.how, end.error = "fail", StageContractError
        if what == "deadlock":
            end.error = EffectGateDeadlock
        if end.how in {"closed", "skip"}:
            end.reasons = frozenset({"gate_closed" if end.how == "closed" else "own wish"})
        terminal = {"ok": "completed", "skip": "skipped", "closed": "skipped", "cancel": "cancelled"}
        end.words.append(terminal.get(end.how, "failed"))

    def body(self, plan: Plan, end: End, number: int, now: float) -> tuple[str, float, float]:
        """Say how the steps of an attempt go, when they are done, and how much is left of its time limit then.

        The time limit does not run while the stage waits for the gate.
        """
        left = plan.limit
        hold = self.hold(plan)
        decision = hold.decision or Decision("open", -inf)
        for index, step in enumerate(plan.steps):
            raised, waits, until = "", now, now + step.pause  # it waits until then, and works from then on
            if step.act is Act.CHILD:
                key = f"{self.key}/{plan.name}.{number}.{index}"
                raised, until = self.run_child(step, key, now, hold, left)
            elif step.act is not Act.PAUSE:
                state = hold.at_time(now)
                raised = "closed" if state == "closed" else ""
                if state == "undecided" and hold.circle:
                    raised = "deadlock"
                elif state == "undecided":
                    end.asked.append((now, decision.at))
                    raised = "closed" if decision.state == "closed" else ""
                    waits, until = decision.at, max(until, decision.at)
            if waits == inf:
                return "never", inf, left
            if until - min(waits, until) > left:
                return "limit", waits + left, 0.0
            if until == inf:
                return "never", inf, left
            left -= until - min(waits, until)
            now = until
            if raised:
                return ("caught" if plan.catches else raised), now, left
        return "done", now, left

    def run_child(self, step: Step, key: str, now: float, hold: Hold, left: float) -> tuple[str, float]:
        child = step.child
        assert child is not None
        if hold.circle and child.has_effects and hold.at_time(now) == "undecided":
            self.children.append(ChildRun(key, child, hold, None, now, inf))
            return "deadlock", now
        model = predict(child, key, now, hold)
        self.children.append(ChildRun(key, child, hold, model, now, now + left))
        return "", model.ended

    def go_round(self, guard: Plan, end: End) -> None:
        """Let a guard send back what it guards, as often as it does."""
        first = self.plans[guard.sends_back or ""]
        second = next(
            self.plans[one] for one in guard.dependencies if first.name in self.plans[one].dependencies
        )
        now, between = end.ended, ((first, self.ends[first.name]), (second, self.ends[second.name]))
        for number in range(2, guard.rounds + 1):
            if end.how != "fail":
                return
            end.words[-1] = "retrying"
            for plan, one in between:
                if one.how == "kept":  # it is asked once more whether it starts, and the answer is the same
                    one.words.append("skipped")
                    one.ended = now
                    continue
                one.words.append("retrying")
                one.starts += 1
                what, now, _ = self.body(plan, one, number, now)
                one.receipts += [1] * (plan.effect is Effect.REVERSIBLE)
                self.finish(plan, one, plan.does[0] if what == "done" else what, now)
            end.starts += 1
            what, now, _ = self.body(guard, end, number, now)
            self.finish(
                guard, end, guard.does[min(number, len(guard.does)) - 1] if what == "done" else what, now
            )


# --- the same in the kernel --------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An event of a run, or something that the body of a stage says of itself."""

    at: float  # in units
    run: str
    type: str
    data: Mapping[str, Any]

    @property
    def stage(self) -> str | None:
        return self.data.get("stage")

    @property
    def word(self) -> str | None:
        """What happened to a stage, in one word, if the event is about that."""
        return self.data.get("status") if self.type.startswith("stage.") else None


@dataclass(frozen=True, slots=True)
class Sink:
    """Where one run's events go."""

    log: Log
    run: str

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.log.add(self.run, type, data or {})


class Receipt(NamedTuple):
    receipt_id: str

    def to_dict(self) -> dict[str, Any]:
        return {"receipt_id": self.receipt_id}


class Log:
    """What all runs of a case do, in order, and what their results are."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.began_at = self.loop.time()
        self.entries: list[Entry] = []
        self.starts: Counter[tuple[str, str]] = Counter()
        self.waiting: Counter[tuple[str, str]] = Counter()  # how many Tasks of a stage wait for the gate
        self.timelines: dict[str, Timeline] = {}
        self.wrong: list[str] = []
        self.token = CancellationToken()
        self.given_up = False

    @property
    def time(self) -> float:
        return (self.loop.time() - self.began_at) / UNIT

    def add(self, run: str, type: str, data: Mapping[str, Any]) -> None:
        self.entries.append(Entry(self.time, run, type, data))

    def note(self, run: str, stage: str, what: str) -> None:
        self.add(run, f"body.{what}", {"stage": stage})

    def give_up(self) -> None:
        self.given_up = True
        self.token.cancel("it never ends")


class Builder:
    """Makes the graphs of a case, those of runs inside of runs included."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.graphs: dict[str, StageGraph] = {}

    def build(self, pipe: Pipe) -> StageGraph:
        for plan in pipe.plans:
            for step in plan.steps:
                if step.child is not None:
                    self.build(step.child)
        narrow = ConcurrencyLimit(1)
        policies = {
            plan.name: GuardRetryPolicy(plan.sends_back, plan.rounds, stagnation_limit=99)
            for plan in pipe.plans
            if plan.sends_back is not None
        }
        graph = self.graphs[pipe.name] = StageGraph(
            [self.spec(plan, narrow) for plan in pipe.plans],
            [],
            name=pipe.name,
            failure_mode=pipe.mode,
            guard_retry_strategy=GuardRetryStrategy(policies) if policies else None,
            max_concurrency=pipe.most,
        )
        return graph

    def spec(self, plan: Plan, narrow: ConcurrencyLimit) -> StageSpec:
        return StageSpec(
            plan.name,
            self.function(plan),
            plan.kind,
            plan.dependencies,
            conditional=plan.conditional,
            when=condition(plan),
            timeout=None if plan.limit == inf else plan.limit * UNIT,
            retry=RULES[plan.rule].policy,
            route=f"{plan.route[0]}:{plan.route[1]}" if plan.route else (),
            limit=narrow if plan.narrow else None,
            effect=plan.effect if plan.says_effect else None,
            gates_effects=plan.gate,
            gated=plan.gated,
        )

    def function(self, plan: Plan) -> Any:
        log = self.log

        async def body(ctx: StageContext) -> Any:
            run = ctx.data["run"]
            log.starts[run, plan.name] += 1
            number = log.starts[run, plan.name]
            if number > 20:
                log.wrong.append(f"{plan.name} is attempted for ever")
                log.give_up()
            log.note(run, plan.name, "begin")
            try:
                for index, step in enumerate(plan.steps):
                    await self.act(plan, step, f"{run}/{plan.name}.{number}.{index}", ctx)
            except (EffectGateClosed, EffectGateDeadlock):
                if plan.catches:
                    return {"route": plan.choice} if plan.choice else {"caught": True}
                raise
            else:
                if plan.receipts and plan.effect is Effect.REVERSIBLE:
                    ctx.leave_receipt(Receipt(plan.name))
                return await end(plan, number)
            finally:
                log.note(run, plan.name, "end")

        return body

    async def act(self, plan: Plan, step: Step, key: str, ctx: StageContext) -> None:
        match step.act:
            case Act.PAUSE:
                await asyncio.sleep(step.pause * UNIT)
            case Act.GATE:
                await self.ask(plan, ctx)
            case Act.GATE_IN_TASK:
                task = asyncio.create_task(self.ask(plan, ctx))
                try:
                    await asyncio.sleep(step.pause * UNIT)
                    await task
                finally:
                    if not task.done():
                        task.cancel()
                        await asyncio.wait([task])
                    if not task.cancelled():
                        task.exception()
            case Act.CHILD:
                await self.run_child(plan, step, key, ctx)

    async def ask(self, plan: Plan, ctx: StageContext) -> None:
        run, log = ctx.data["run"], self.log
        log.waiting[run, plan.name] += 1
        log.note(run, plan.name, "asks")
        try:
            await ctx.gate()
        except (EffectGateClosed, EffectGateDeadlock):
            log.note(run, plan.name, "is told no")
            raise
        finally:
            log.waiting[run, plan.name] -= 1
        log.note(run, plan.name, "passes")

    async def run_child(self, plan: Plan, step: Step, key: str, ctx: StageContext) -> None:
        child = step.child
        assert child is not None
        run = ctx.data["run"]
        self.log.note(run, plan.name, "runs")
        try:
            results = await self.graphs[child.name].run(sink=Sink(self.log, key), data=data_of(child, key))
            self.log.timelines[key] = results.timeline
        except EffectGateDeadlock:
            self.log.note(run, plan.name, "has run")
            raise
        except (StageExecutionError, PipelineCancelled) as exc:
            self.log.timelines[key] = exc.results.timeline
            if isinstance(exc, PipelineCancelled) and exc.stage == PipelineCancelled.EXTERNAL:
                raise  # who is asked to stop takes no place again
        self.log.note(run, plan.name, "has run")


def data_of(pipe: Pipe, key: str) -> dict[str, Any]:
    return {"run": key, "idempotency_key": "key"} if pipe.key else {"run": key}


def condition(plan: Plan) -> Any:
    def ask(inputs: Any) -> bool:
        if plan.when == "raises":
            raise KeyError(plan.name)
        return plan.when == "yes"

    return None if plan.when is None else ask


async def end(plan: Plan, number: int) -> Any:
    match plan.does[min(number, len(plan.does)) - 1]:
        case Does.SKIP:
            return StageOutput.skip("own wish")
        case Does.FAIL:
            return StageOutput.fail("own wish")
        case Does.RAISE:
            raise ValueError(plan.name)
        case Does.RETRY:
            return StageOutput.retry("again")
        case Does.ERROR:
            raise ConnectionError(plan.name)
        case Does.CANCEL:
            return StageOutput.cancel(plan.name)
        case Does.HANG:
            await asyncio.Event().wait()
    return {"route": plan.choice} if plan.choice else {"name": plan.name}


class Ran(NamedTuple):
    """What a case has left behind."""

    log: Log
    raised: BaseException | None


async def run(case: Case, pipe: Pipe) -> Ran:
    """Run a case, and look for what it leaves behind at the very moment at which the call ends."""
    log = Log()
    graph = Builder(log).build(pipe)
    leaks: list[Any] = []
    limit = case.time * UNIT if case.stop is Stop.LIMIT else None

    async def call() -> None:
        try:
            results = await graph.run(
                sink=Sink(log, "root"), data=data_of(pipe, "root"), cancel_token=log.token, timeout=limit
            )
            log.timelines["root"] = results.timeline
        except (StageExecutionError, PipelineCancelled) as exc:
            log.timelines["root"] = exc.results.timeline
            raise
        finally:
            for timer in timers:
                timer.cancel()
            leaks.extend(watch.found(ignore=[main]))

    main: Any = asyncio.current_task()
    with LeakWatch() as watch:
        task = asyncio.create_task(call())
        timers = [log.loop.call_later(FOR_EVER * UNIT, log.give_up)]
        if case.stop is Stop.TOKEN:
            timers.append(log.loop.call_later(case.time * UNIT, log.token.cancel, "by the test"))
        elif case.stop is Stop.CALLER:
            timers.append(log.loop.call_later(case.time * UNIT, task.cancel))
        await asyncio.wait([task])
    assert not leaks, leaks
    return Ran(log, asyncio.CancelledError() if task.cancelled() else task.exception())


# --- what a run did, held against the rules ----------------------------------------------------------------------

ENDS = frozenset({"pipeline.completed", "pipeline.failed", "pipeline.cancelled"})
TERMINAL = frozenset({"completed", "failed", "skipped", "cancelled"})


class Order:
    """What holds of every run, whatever it is: which things come before which, and which come once."""

    def __init__(self, pipe: Pipe, log: Log) -> None:
        self.log = log
        self.of_run: dict[str, list[tuple[int, Entry]]] = {}
        for index, entry in enumerate(log.entries):
            self.of_run.setdefault(entry.run, []).append((index, entry))
        self.runs: dict[str, Pipe] = {}
        self.above: dict[str, tuple[str, Plan]] = {}
        self._name_runs("root", pipe)
        self.opened = {key: self._opened(key) for key in self.runs}

    def _name_runs(self, key: str, pipe: Pipe) -> None:
        if key not in self.of_run:
            return
        self.runs[key] = pipe
        for plan in pipe.plans:
            for number in range(1, self.log.starts[key, plan.name] + 1):
                for index, step in enumerate(plan.steps):
                    if step.child is not None:
                        below = f"{key}/{plan.name}.{number}.{index}"
                        self.above[below] = key, plan
                        self._name_runs(below, step.child)

    def check(self) -> None:
        assert set(self.of_run) == set(self.runs)
        for key, pipe in self.runs.items():
            self.check_run(key, pipe)
            self.check_effects(key, pipe)
            self.check_places(key, pipe)
            self.check_timeline(key, pipe)
        assert not any(self.log.waiting.values())

    def last(self, key: str, stage: str) -> tuple[int, Entry] | None:
        """Return the last terminal event of a stage."""
        told = [one for one in self.of_run[key] if one[1].stage == stage and one[1].word in TERMINAL]
        return told[-1] if told else None

    def _opened(self, key: str) -> float:
        """Return after which entry all gates of a run had opened: -1 if there are none, inf if never."""
        pipe = self.runs[key]
        guards, position = guards_of(pipe.plans), -1.0
        for gate in pipe.gates:
            last = self.last(key, gate.name)
            if last is None or last[1].word not in {"completed", "skipped"}:
                return inf
            if last[1].word == "skipped" and last[1].data["reason"] not in {"own wish", "condition_false"}:
                return inf
            guard = self.last(key, guards.get(gate.name, gate.name))
            position = max(position, last[0], guard[0] if guard is not None else inf)
        return position

    def held_until(self, key: str, plan: Plan) -> float:
        """Return after which entry the effects of a stage may happen."""
        position = -1.0 if plan.gate or not plan.gated else self.opened[key]
        return max(position, self.held_until(*self.above[key])) if key in self.above else position

    def check_run(self, key: str, pipe: Pipe) -> None:
        """Check that it begins and ends once, and each of its stages, too."""
        events = [entry for _, entry in self.of_run[key] if not entry.type.startswith("body.")]
        types = [event.type for event in events]
        assert types[0] == "pipeline.started"
        assert types[-1] in ENDS, f"{key} has no terminal event, or something came after it: {types[-3:]}"
        assert sum(type.startswith("pipeline.") for type in types) == 2
        told = [type for type in types if type in {"effect.gate_opened", "effect.gate_closed"}]
        assert len(told) <= bool(pipe.gates), (key, told)
        loops = guards_of(pipe.plans)
        for plan in pipe.plans:
            words = [event.word for event in events if event.stage == plan.name and event.word]
            assert words, f"nothing was told of {plan.name} in {key}"
            kept = set(words) == {"skipped"} and (len(words) == 1 or plan.name in loops)
            assert kept or words[0] == "started", (key, plan, words)
            ends = sum(word in TERMINAL for word in words)
            rounds = 1 + words.count("retrying") if plan.name in loops and plan.sends_back is None else 1
            assert kept or 1 <= ends <= rounds, (key, plan, words)
            assert words[-1] in TERMINAL, (key, plan, words)
            left = [event.data["receipt"] for event in events if event.type == "effect.receipt"]
            assert (
                {"receipt_id": plan.name} in left
                or plan.effect is not Effect.REVERSIBLE
                or (words[-1] != "completed")
            ), (key, plan)

    def check_effects(self, key: str, pipe: Pipe) -> None:
        """Check that no effect happens before it may."""
        plans = {plan.name: plan for plan in pipe.plans}
        for index, entry in self.of_run[key]:
            if entry.type == "body.passes" or (
                entry.type == "body.begin" and plans[entry.stage or ""].effect is not Effect.NONE
            ):
                until = self.held_until(key, plans[entry.stage or ""])
                assert index > until, (
                    f"{entry.stage} in {key}: {entry.type} is entry {index}, the gate {until}"
                )

    def check_places(self, key: str, pipe: Pipe) -> None:
        """Check that no more run at once than may, and that nobody waits for a place while there is one.

        Who waits for the gate is not counted; who runs another graph may lend its place, or not.
        """
        narrow = {plan.name for plan in pipe.plans if plan.narrow}
        inside: Counter[str] = Counter()
        asking: Counter[str] = Counter()
        running: set[str] = set()
        entries = self.of_run[key]
        for (index, entry), (_, following) in itertools.pairwise(entries):
            if (entry.word == "failed" and pipe.mode is FailureMode.FAIL_FAST) or entry.word == "cancelled":
                break  # nothing starts any more
            name = entry.stage or ""
            inside[name] += {"body.begin": 1, "body.end": -1}.get(entry.type, 0)
            asking[name] += {"body.asks": 1, "body.passes": -1, "body.is told no": -1}.get(entry.type, 0)
            asking[name] *= entry.type != "body.end"
            if entry.type == "body.runs":
                running.add(name)
            elif entry.type in {"body.has run", "body.end"}:
                running.discard(name)
            at_work = {one for one, number in inside.items() if number and not asking[one]}
            assert pipe.most is None or len(at_work - running) <= pipe.most, (key, at_work)
            assert len((at_work - running) & narrow) <= 1, (key, at_work)
            if following.at > entry.at + NEAR and not (narrow and pipe.most):
                for plan in self._startable(key, pipe, index) | {one for one in asking if asking[one]}:
                    if plan in narrow or pipe.most:
                        self._check_full(key, pipe, plan, index, at_work, narrow)

    def _startable(self, key: str, pipe: Pipe, index: int) -> set[str]:
        """Return the stages that have neither started nor been kept, and wait for no other stage."""
        waits = waits_for(pipe.plans)
        told = {entry.stage for one, entry in self.of_run[key] if one <= index and entry.word}
        settled = {plan.name for plan in pipe.plans if (self.last(key, plan.name) or (inf,))[0] <= index}
        return {plan.name for plan in pipe.plans if plan.name not in told and waits[plan.name] <= settled}

    def _check_full(
        self, key: str, pipe: Pipe, stage: str, index: int, at_work: set[str], narrow: set[str]
    ) -> None:
        """Check that there is no place for a stage, unless it waits for the gate."""
        plan = next(plan for plan in pipe.plans if plan.name == stage)
        asks = self.log.starts[key, stage] and stage not in at_work
        if (plan.effect is not Effect.NONE or asks) and self.held_until(key, plan) > index:
            return
        most, there = (pipe.most, at_work) if pipe.most is not None else (1, at_work & narrow)
        assert len(there) >= most, f"{stage} in {key} waits for a place after entry {index}, and {there} run"

    def check_timeline(self, key: str, pipe: Pipe) -> None:
        """Check that the time of a run adds up."""
        if key not in self.log.timelines:  # its caller was cancelled
            return
        timeline = self.log.timelines[key]
        path = sum(step.duration_ns for step in timeline.critical_path)
        assert path + timeline.tail_ns == timeline.total_ns
        asked = {entry.stage for _, entry in self.of_run[key] if entry.type == "effect.held"}
        for name, of in timeline.items():
            assert of.started_ns == timeline.started_ns, (key, of)
            assert all(type(stamp) is int for span in of.spans for stamp in span[1:3])
            stamps = [of.started_ns, *(span.ended_ns for span in of.spans)]
            assert [span.started_ns for span in of.spans] == stamps[:-1], (key, of)
            assert all(span.duration_ns > 0 for span in of.spans), (key, of)
            assert stamps[-1] == of.ended_ns <= timeline.ended_ns, (key, of)
            assert sum(of.totals.values()) == of.total_ns, (key, of)
            told = self.last(key, name)
            stopped = told is not None and told[1].data.get("reason") in {"run_stopped", "gate_closed"}
            if name in asked and not stopped:
                assert Part.GATE in of.totals, (key, of)


class Verdict:
    """Holds one run against the model, and those inside of it."""

    def __init__(self, order: Order, key: str, pipe: Pipe, model: Model, hold: Hold, stopped: float) -> None:
        self.order, self.key, self.pipe, self.model, self.hold = order, key, pipe, model, hold
        self.stop = min(model.stop, stopped)
        self.events = [entry for _, entry in order.of_run.get(key, []) if not entry.type.startswith("body.")]
        self.loops = guards_of(pipe.plans)

    def check(self) -> None:
        for plan in self.pipe.plans:
            self.check_stage(plan, self.model.ends[plan.name])
        self.check_gate()
        last = self.events[-1]
        assert abs(last.at - min(self.stop, self.model.ended)) < NEAR, (
            self.key,
            last,
            self.stop,
            self.model.ended,
        )
        for child in self.model.children:
            cut = min(self.stop, child.cut)
            if child.begun < cut - NEAR:
                self.check_child(child, cut)

    def check_child(self, child: ChildRun, cut: float) -> None:
        if child.model is None:
            assert child.key not in self.order.of_run, f"{child.key} should have been refused"
        else:
            assert child.key in self.order.of_run, f"{child.key} has not begun"
            Verdict(self.order, child.key, child.pipe, child.model, child.hold, cut).check()

    def check_stage(self, plan: Plan, end: End) -> None:
        told = [event for event in self.events if event.stage == plan.name and event.word]
        begun = [
            entry.at
            for _, entry in self.order.of_run[self.key]
            if entry[2:] == ("body.begin", {"stage": plan.name})
        ]
        words = [event.word for event in told]
        where = (self.key, plan, end, words, self.stop)
        if end.ended < self.stop - NEAR:
            self.check_settled(plan, end, told, begun)
        elif end.ended > self.stop + NEAR or words != end.words:
            self.check_stopped(plan, end, told, begun)
        else:
            assert abs(told[-1].at - end.ended) < NEAR, where
        assert end.begun < inf or not begun, where
        if begun and plan.name not in self.loops:
            assert abs(begun[0] - end.begun) < NEAR, where
        held = sum(event.type == "effect.held" and event.stage == plan.name for event in self.events)
        if end.held is None or abs(end.ready - self.stop) < NEAR:
            assert held <= 1, where
        else:
            assert held == (end.held and end.ready < self.stop), where

    def check_settled(self, plan: Plan, end: End, told: list[Entry], begun: list[float]) -> None:
        """Check a stage that had settled before anything stopped the run."""
        words, last = [event.word for event in told], told[-1]
        where = (self.key, plan, end, words, last.at)
        assert words == end.words, where
        assert len(begun) == end.starts, where
        assert abs(last.at - end.ended) < NEAR, where
        if last.word == "skipped":
            assert last.data["reason"] in end.reasons, where
        if end.error is not None:
            assert last.data["error_type"] == end.error.__name__, where
        about = [event for event in self.events if event.stage == plan.name]
        refused = [event.data for event in about if event.type == "stage.retry_refused"]
        assert [data["attempt"] for data in refused] == [end.refused] * (end.refused > 0), where
        assert {data["reason"] for data in refused} <= {"irreversible_effect"}, where
        left = [event.data["attempt"] for event in about if event.type == "effect.receipt"]
        assert left == end.receipts, where
        timeline = self.order.log.timelines.get(self.key)
        if timeline is not None:
            waited = end.held or any(to - since > NEAR for since, to in end.asked)
            assert not waited or Part.GATE in timeline[plan.name].totals, where

    def check_stopped(self, plan: Plan, end: End, told: list[Entry], begun: list[float]) -> None:
        """Check a stage that had not settled when something stopped the run."""
        words, last = [event.word for event in told], told[-1]
        where = (self.key, plan, end, words, self.stop)
        assert all(at < self.stop + NEAR for at in begun), where
        assert abs(last.at - self.stop) < NEAR or plan.name in self.loops, where
        if plan.name in self.loops and (len(words) > 1 or last.at < self.stop - NEAR):
            return
        first = min(end.begun, end.ended) if end.error is not KeyError else end.ready
        if first > self.stop + NEAR:
            assert words == ["skipped"], where
        elif first < self.stop - NEAR:
            assert words[0] == "started", where
        if words == ["skipped"]:
            reasons = {"run_stopped"}
            if (
                end.held
                or end.held is None
                or (plan.effect is not Effect.NONE and end.ready < self.stop + NEAR)
            ):
                reasons = self.reasons_of_held(end)
            if plan.name in self.loops:  # it had settled in its first round, in that moment
                reasons |= end.reasons
            assert last.data["reason"] in reasons, (where, reasons)
        else:
            assert set(words[1:-1]) <= {"retrying"}, where
            gate_closed = words[-1] == "skipped" and last.data["reason"] == "gate_closed" and end.asked
            assert words[-1] == "cancelled" or gate_closed, where

    def reasons_of_held(self, end: End) -> set[str]:
        """Say what is told of a stage that was held when the run ended."""
        decision = self.model.decision or Decision()
        if decision.state != "closed" or decision.at > self.stop + NEAR:
            return {"run_stopped"}
        failed = [event for event in self.events if event.word in {"failed", "cancelled"}]
        own = {gate.name for gate in self.pipe.gates}
        caused = [event for event in failed if event.word == "failed" or "reason" in event.data]
        certain = (
            end.held
            and end.ready < self.stop - NEAR
            and caused
            and caused[0].stage == decision.by
            and decision.by in own
        )
        return {"gate_closed"} if certain and self.stop == self.model.stop else {"gate_closed", "run_stopped"}

    def check_gate(self) -> None:
        """Check what was told of the gates."""
        told = [event for event in self.events if event.type in {"effect.gate_opened", "effect.gate_closed"}]
        decision = self.model.decision
        if not self.pipe.gates or decision is None or decision.at > self.stop + NEAR:
            assert not told, (self.key, told, decision)
            return
        ended = min(self.stop, self.model.ended)
        if decision.at < ended - NEAR:
            assert told, (self.key, decision)
        for event in told:
            assert event.type == {"open": "effect.gate_opened", "closed": "effect.gate_closed"}.get(
                decision.state
            )
            assert abs(event.at - max(decision.at, self.model.begun)) < NEAR, (self.key, event, decision)
            assert decision.state == "open" or event.data["gate"], event
            for index, entry in self.order.of_run[self.key]:
                if entry is event:
                    started = self._started_after_waiting()
                    assert all(index < one for one in started), (self.key, event)

    def _started_after_waiting(self) -> Iterable[int]:
        waited = {name for name, end in self.model.ends.items() if end.held}
        exempt = {plan.name for plan in self.pipe.plans if plan.gate or not plan.gated}
        return [
            index
            for index, entry in self.order.of_run[self.key]
            if entry.stage in waited - exempt and entry.word == "started"
        ]


def check_pure(pipe: Pipe, model: Model) -> None:
    """Check, in the model, that who depends on no effect begins when it would without gates."""
    if any(step.act is not Act.PAUSE for plan in pipe.plans for step in plan.steps):
        return
    free = predict(replace(pipe, plans=tuple(replace(plan, gate=False) for plan in pipe.plans)))
    waits = waits_for(pipe.plans)
    tainted: set[str] = set()
    for plan in pipe.plans:
        if (plan.effect is not Effect.NONE and plan.gated and not plan.gate) or waits[plan.name] & tainted:
            tainted.add(plan.name)
        else:
            assert free.ends[plan.name].begun == model.ends[plan.name].begun


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


def all_pipes(pipe: Pipe) -> list[Pipe]:
    """Return a graph and those that its stages run."""
    below = [step.child for plan in pipe.plans for step in plan.steps if step.child is not None]
    return [pipe, *(one for child in below for one in all_pipes(child))]


def all_plans(pipe: Pipe) -> list[Plan]:
    return [plan for one in all_pipes(pipe) for plan in one.plans]


def try_case(case: Case, bench: Bench) -> str:
    """Run a case and hold it against the rules; returns what kind of a case it was."""
    pipe = pipe_of(case)
    if problems := problems_of(pipe):
        with pytest.raises(PipelineValidationError) as caught:
            bench.run(run(case, pipe))
        assert Counter(problem.code for problem in caught.value.problems) == problems
        return "refused"
    try:
        model = predict(pipe)
    except TieError:
        return "tie"
    check_pure(pipe, model)
    crowded = any(plan.narrow for plan in all_plans(pipe)) or any(one.most for one in all_pipes(pipe))
    try:
        ran = bench.run(run(case, pipe))
        assert not ran.log.wrong, ran.log.wrong
        order = Order(pipe, ran.log)
        order.check()
        if crowded:
            check_crowded(case, pipe, model, ran, order)
        else:
            stopped = FOR_EVER if case.stop is Stop.NOBODY else case.time
            Verdict(order, "root", pipe, model, Hold(), stopped).check()
            assert ran.log.given_up == (model.ended == inf and stopped == FOR_EVER)
            check_call(case, pipe, model, ran)
    except BaseException as exc:
        lines = "\n".join(f"  {plan}\n    {model.ends[plan.name]}" for plan in pipe.plans)
        exc.add_note(f"The stages, and what the model says of them:\n{lines}\n  {model.decision}")
        raise
    return "crowded" if crowded else "ran"


def check_call(case: Case, pipe: Pipe, model: Model, ran: Ran) -> None:
    """Check how the call ended."""
    kinds = {Stop.CALLER: asyncio.CancelledError, Stop.LIMIT: RunTimeoutError}
    stopped = FOR_EVER if case.stop is Stop.NOBODY else case.time
    if model.ended > stopped:
        assert type(ran.raised) is kinds.get(case.stop, PipelineCancelled), ran.raised
        return
    raises = pipe.mode is not FailureMode.BEST_EFFORT
    last = {end.how for end in model.ends.values() if abs(end.ended - model.stop) < NEAR or model.stop == inf}
    failed = StageExecutionError if raises and "fail" in last else type(None)
    expected = {PipelineCancelled} if "cancel" in last else {failed}
    if pipe.mode is FailureMode.FAIL_FAST:
        expected.add(failed)
    assert type(ran.raised) in expected, (ran.raised, expected)


def check_crowded(case: Case, pipe: Pipe, model: Model, ran: Ran, order: Order) -> None:
    """Check what does not depend on who gets a place when."""
    hangs = any(Does.HANG in plan.does for plan in all_plans(pipe))
    assert hangs or not ran.log.given_up, "nobody hangs, and yet the run would never end"
    if hangs or case.stop is not Stop.NOBODY or model.stop < inf or pipe.precedes:
        return
    for plan in pipe.plans:
        end, told = model.ends[plan.name], order.last("root", plan.name)
        assert told is not None
        assert told[1].word == end.words[-1], (plan, end, told)
        assert told[1].word != "skipped" or told[1].data["reason"] in end.reasons, (plan, end, told)
        assert ran.log.starts["root", plan.name] == end.starts, (plan, end)


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.timeout(1800 if DEEP else 60)
def test_random_graphs_with_effects(shard: int, bench: Bench):
    @settings(max_examples=EXAMPLES // SHARDS)
    @given(case=CASES)
    def examples(case: Case) -> None:
        try_case(case, bench)

    # The quick tier takes the same examples each time, but each shard its own.
    (seed(shard)(examples) if settings().derandomize else examples)()


# --- the model and the cases themselves --------------------------------------------------------------------------


def plan(name: str, *dependencies: str, does: Does = Does.OK, takes: float = 0.0, **more: Any) -> Plan:
    return Plan(name, dependencies, (does,), (Step(Act.PAUSE, takes),) * (takes > 0), **more)


def asking(name: str, *dependencies: str, takes: float = 0.0, **more: Any) -> Plan:
    steps = Step(Act.PAUSE, takes), Step(Act.GATE)
    return replace(plan(name, *dependencies, **more), steps=steps)


def acting(name: str, *dependencies: str, **more: Any) -> Plan:
    return plan(name, *dependencies, effect=Effect.IDEMPOTENT, **more)


def piped(*plans: Plan, mode: FailureMode = FailureMode.BEST_EFFORT) -> Pipe:
    return Pipe("root", plans, mode, precedes=before_gates(plans))


OPENS = plan("gate", takes=2, gate=True)
CLOSES = plan("gate", does=Does.FAIL, takes=2, gate=True)
HANGS = plan("other", does=Does.HANG, gate=True)
CHILD = Step(Act.CHILD, child=replace(piped(acting("below")), name="root/runs"))


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ([OPENS, acting("a"), plan("b", "a"), plan("c")], "ok 2, ok 2, ok 2, ok 0"),
        ([CLOSES, acting("a"), plan("b", "a"), plan("c")], "fail 2, gate_closed 2, gate_closed 2, ok 0"),
        (
            [CLOSES, HANGS, acting("a"), acting("b", takes=1, gated=False)],
            "fail 2, never, gate_closed 2, ok 1",
        ),
        ([OPENS, HANGS, acting("a")], "ok 2, never, never"),
        ([OPENS, asking("a", takes=1), asking("b", takes=3)], "ok 2, ok 2, ok 3"),
        ([CLOSES, asking("a", takes=1), plan("b", "a")], "fail 2, closed 2, gate_closed 2"),
        ([CLOSES, asking("a", takes=1, catches=True), plan("b", "a")], "fail 2, ok 2, ok 2"),
        (
            [asking("a", takes=1), plan("gate", "a", gate=True), acting("b")],
            "fail 1, dependency_failed 1, gate_closed 1",
        ),
        ([CLOSES, asking("a", takes=3), plan("second", "a", gate=True)], "fail 2, closed 3, gate_closed 3"),
        ([plan("gate", when="no", gate=True), acting("a")], "condition_false 0, ok 0"),
        (
            [plan("x", when="no"), plan("gate", "x", gate=True), acting("a")],
            "condition_false 0, branch_not_taken 0, gate_closed 0",
        ),
        ([OPENS, replace(acting("a", limit=1), steps=(Step(Act.PAUSE, 2),))], "ok 2, fail 3"),
        ([OPENS, replace(asking("a", takes=1), limit=1.5)], "ok 2, ok 2"),
        ([OPENS, plan("a", effect=Effect.REVERSIBLE, receipts=False)], "ok 2, fail 2"),
        ([OPENS, replace(plan("runs"), steps=(CHILD,))], "ok 2, ok 2"),
        ([OPENS, replace(plan("runs", gated=False), steps=(CHILD,))], "ok 2, ok 0"),
        (
            [
                replace(plan("runs", takes=1), steps=(Step(Act.PAUSE, 1), CHILD)),
                plan("gate", "runs", gate=True),
            ],
            "fail 1, dependency_failed 1",
        ),
    ],
    ids=[
        "open",
        "closed",
        "closed and undecided",
        "undecided",
        "asks",
        "asks in vain",
        "catches",
        "deadlock",
        "closed before a deadlock",
        "nothing to object",
        "kept from starting",
        "limit after the wait",
        "limit without the wait",
        "no receipt",
        "run below",
        "run below, exempt",
        "run below, refused",
    ],
)
def test_the_model_knows_the_rules(made, expected):
    ends = predict(piped(*made)).ends.values()
    told = [f"{next(iter(end.reasons)) if end.how == 'kept' else end.how} {end.ended:g}" for end in ends]
    assert ", ".join(told).replace("never inf", "never") == expected


@pytest.mark.parametrize(("key", "starts"), [(False, 1), (True, 3)])
def test_the_model_knows_what_is_repeated(key, starts):
    stage = plan("a", does=Does.ERROR, rule=1, effect=Effect.IRREVERSIBLE)
    end = predict(replace(piped(stage), key=key)).ends["a"]
    assert (end.starts, end.refused) == (starts, not key)


def test_the_model_knows_what_is_refused():
    guard = plan("guard", "write", "gate", "act", kind=StageKind.GUARD, sends_back="write")
    made = [plan("write"), plan("gate", "write", gate=True), acting("act"), guard]
    assert problems_of(piped(*made)) == {"SF-BUILD-GATE": 1}
    assert problems_of(piped(acting("a"), plan("b", "a"), plan("gate", "b", gate=True))) == {
        "SF-BUILD-GATE": 1
    }


def test_the_cases_have_everything_in_them():
    seen: Counter[str] = Counter()
    for number in range(400):
        switches = Switch(sum(Switch)) if number % 2 else ~Switch.UNTIDY & ~Switch.HANGS
        case = Case(12, number, FailureMode.BEST_EFFORT, Stop.NOBODY, 0, switches)
        pipe = pipe_of(case)
        problems = problems_of(pipe)
        seen.update(problems)
        if not problems:
            look_at(pipe, seen)
    rules = (
        "dependency_failed branch_not_taken dependency_skipped route_not_taken condition_false gate_closed"
    )
    hows = "ok skip fail cancel closed kept never open undecided"
    assert {*rules.split(), *hows.split(), "SF-BUILD-GATE", "SF-BUILD-GUARD-RETRY"} <= seen.keys()
    assert {
        "held",
        "asked",
        "not repeated",
        "run below",
        "run refused",
        "sent back",
        "deadlock",
    } <= seen.keys()


def look_at(pipe: Pipe, seen: Counter[str]) -> None:
    try:
        model = predict(pipe)
    except TieError:
        return
    seen[model.decision.state if model.decision else "no gate"] += 1
    for end in model.ends.values():
        seen.update([end.how, *end.reasons])
        facts = {
            "held": end.held,
            "asked": end.asked,
            "not repeated": end.refused,
            "sent back": end.words.count("completed") > 1,
            "deadlock": end.error is EffectGateDeadlock,
        }
        seen.update([what for what, fact in facts.items() if fact])
    seen.update(["run below" if child.model else "run refused" for child in model.children])
