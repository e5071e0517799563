"""Random graphs with streams, held against a small model of the rules.

The model is written from ``docs/explanation/streams.md``, ``outcomes.md`` and ``effects.md``, not from the kernel. It
does not foresee a run: it follows one, step by step. What a stage does and what is told of it make one list, in the
order in which it happens, and for each entry the model (`Ends`) says whether it may come now: which item a reader must
find, whether a publisher has to wait, who is served first, what a stream counts when it ends. Each time the virtual
clock is about to jump, nobody may be waiting for what is there already (`Ends.quiet`); so a run that never ends is
found, too. What the stages then come to must follow from what they did (`Verdict`).

Which pipelines do not build says a fixed point over "can start", "can go on" and "can end" (`can_end`). A second test
holds the build against it: what builds must come to its end, though every stage publishes more than fits; and what does
not build would come to a halt, as a simulation shows (`halts`).
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, deque
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from enum import IntFlag, StrEnum, auto
from functools import cached_property
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
from stageflow.errors import PipelineValidationError, RunTimeoutError
from stageflow.runtime.channels import StreamBrokenError
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.limits import ConcurrencyLimit
from stageflow.stages import Overflow, StreamEdge, StreamGap, StreamRestart
from stageflow.stages.part import Part
from stageflow.testing import LeakWatch, VirtualClockLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence

    from stageflow import PipelineResults

DEEP = settings().max_examples > 100
EXAMPLES = 20_000 if DEEP else 200
SHARDS = 8 if DEEP else 2  # so that every core has a share

UNIT = 1e6
"""What a case counts time in, in seconds; so long that the waits of the default retry policy do not matter."""

NEAR = 5e-6
"""Two times that are no further apart are the same moment, in units."""

FOR_EVER = 300.0
"""A run in which a stage hangs is stopped then, in units."""


# --- the cases -----------------------------------------------------------------------------------------------------


class Does(StrEnum):
    """How an attempt of a stage ends, once it has read and published what it was to."""

    OK = "ok"
    SKIP = "skip"
    FAIL = "fail"
    RAISE = "raise ValueError"
    RETRY = "ask for another attempt"
    ERROR = "raise ConnectionError"
    CANCEL = "cancel the run"
    HANG = "hang until cancelled"


class Reads(StrEnum):
    """How far a stage reads a stream."""

    ALL = "to the end"
    AGAIN = "to the end, and looks for more"
    CATCHES = "to the end, and catches its break"
    SOME = "some of it"
    NEVER = "nothing"


class Order(StrEnum):
    """When a stage reads, and when it publishes."""

    TOGETHER = "in Tasks of its own"
    READ_FIRST = "reads, then publishes"
    PUBLISH_FIRST = "publishes, then reads"


class Stop(StrEnum):
    """Who stops the run from outside."""

    NOBODY = "nobody"
    TOKEN = "the token"  # noqa: S105 - it protects nothing
    CALLER = "its Task is cancelled"
    LIMIT = "the run's limit"
    VIEWER = "who reads pipeline.stream() leaves"


class At(StrEnum):
    """At which moment."""

    ENTRY = "in the middle of a step"
    TIME = "while everything waits"


class Switch(IntFlag):
    """What a case is made of, beside stages that publish, and stages that read."""

    PAUSES = auto()
    TROUBLES = auto()
    RETRIES = auto()
    RULES = auto()  # when=, conditional=
    HANGS = auto()
    LOOPS = auto()  # guards that send back
    GATES = auto()
    LIMITS = auto()  # time limits, of stages and of waits
    CROWDED = auto()  # limits to concurrency
    LOSSES = auto()  # edges that do not block
    WATCHED = auto()  # somebody reads pipeline.stream()


class Case(NamedTuple):
    """What makes a random graph and a run of it."""

    size: int
    seed: int
    mode: FailureMode
    stop: Stop
    at: At
    moment: int
    switches: Switch

    @property
    def time(self) -> float:
        """When it is stopped, in units: at a moment at which no stage does anything."""
        return self.moment / 7 + 0.000613

    @property
    def watched(self) -> bool:
        return Switch.WATCHED in self.switches or self.stop is Stop.VIEWER


class Edge(NamedTuple):
    """How a stage reads a stream."""

    producer: str
    size: int = 1
    overflow: Overflow = Overflow.BLOCK
    breaks: int = 0  # which call of its `coalesce=` raises
    reads: Reads = Reads.ALL
    most: int = 0  # how many items, of SOME
    pauses: tuple[float, ...] = ()  # after each item, in units; 0 is a turn of the event loop
    patience: float = inf  # how long it waits at once

    @property
    def blocks(self) -> bool:
        return self.overflow is Overflow.BLOCK


class Script(NamedTuple):
    """One attempt of a stage."""

    does: Does = Does.OK
    publishes: int = 0
    pauses: tuple[float, ...] = ()  # before each chunk
    last: float | None = None  # before it ends
    most: int | None = None  # how many items it reads of the stream, if it reads but one


@dataclass(frozen=True)
class Plan:
    """One stage of a random graph."""

    name: str
    dependencies: tuple[str, ...] = ()
    edges: tuple[Edge, ...] = ()
    scripts: tuple[Script, ...] = (Script(),)  # attempt by attempt; the last for all that follow
    order: Order = Order.TOGETHER
    publishers: int = 1  # how many Tasks publish
    patience: float = inf  # how long it waits for room at once
    restartable: bool = False
    limit: float = inf  # of an attempt, in units
    rule: int = 0  # how it is attempted again
    conditional: bool = False
    when: str | None = None  # "yes", "no", "raises"
    gate: bool = False
    held: bool = False  # it has an effect
    narrow: bool = False  # it has a concurrency limit, with all others that have it
    sends_back: str | None = None  # the stage that it sends back, if it is a guard that does
    rejects: int = 0
    rounds: int = 1

    @cached_property
    def producers(self) -> tuple[str, ...]:
        return tuple(edge.producer for edge in self.edges)

    @property
    def tasks(self) -> int:
        """How many Tasks its body is made of."""
        publishes = any(script.publishes for script in self.scripts)
        reads = sum(edge.reads is not Reads.NEVER for edge in self.edges)
        return reads + publishes * self.publishers

    @cached_property
    def is_alone(self) -> bool:
        """Whether its body is one Task."""
        reads = sum(edge.reads is not Reads.NEVER for edge in self.edges)
        return self.tasks <= 1 or (self.order is not Order.TOGETHER and reads <= 1 and self.publishers == 1)


class Rule(NamedTuple):
    """A way of attempting a stage again: as the kernel takes it, and what that means."""

    policy: RetryPolicy | None
    most: int
    after: frozenset[str]


ALL = frozenset({Does.RETRY, Does.ERROR, "limit"})
RULES = (
    Rule(None, 3, frozenset({Does.RETRY})),
    Rule(RetryPolicy(3, base_delay=0, jitter=False), 3, ALL),
    Rule(RetryPolicy(3, base_delay=UNIT, max_delay=9 * UNIT, jitter=False), 3, ALL),
)

SIZES = sorted([*range(1, 9)] * 6 + [*range(9, 15)] * 3 + [*range(15, 26, 2)])
STOPS = [(Stop.NOBODY, At.TIME)] * 9 + [
    (who, at) for who in (Stop.TOKEN, Stop.CALLER) for at in (At.ENTRY, At.ENTRY, At.TIME)
]
STOPS += [(Stop.LIMIT, At.TIME), (Stop.VIEWER, At.ENTRY)]
TROUBLES = [Does.SKIP, Does.SKIP, Does.FAIL, Does.RAISE, Does.RETRY, Does.ERROR, Does.CANCEL]
READS = [Reads.ALL] * 8 + [Reads.AGAIN, Reads.CATCHES, Reads.CATCHES, Reads.SOME, Reads.SOME, Reads.NEVER]
LOSING = [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST, Overflow.COALESCE, Overflow.COALESCE]


def plans_of(case: Case) -> list[Plan]:
    """Make the stages of a case, each after all that it waits for."""
    rng = random.Random(case.seed)
    trouble, dense = rng.choice((0.0, 0.05, 0.2, 0.4)), rng.choice((0.3, 0.6, 0.9))
    made: list[Plan] = []
    while len(made) < case.size:
        own = random.Random(f"{case.seed}/{len(made)}")
        looped = own.random() < 0.15 and Switch.LOOPS in case.switches and len(made) + 3 <= case.size
        new = _loop(own, made, trouble, dense, case) if looped else [_plan(own, made, trouble, dense, case)]
        made += _tidied(made, new)
    return _publishing(case, made)


def _pause(rng: random.Random) -> float:
    return rng.choice((0, 0, 1)) + rng.randrange(1, 99_991) / 99_991


def _pauses(rng: random.Random, case: Case) -> tuple[float, ...]:
    how = rng.choice(("none", "none", "turns", "some", "all"))
    if how == "none" or (how != "turns" and Switch.PAUSES not in case.switches):
        return ()
    if how == "turns":
        return (0.0,) * rng.randint(1, 3)
    return tuple(_pause(rng) if how == "all" or rng.random() < 0.5 else 0.0 for _ in range(8))


def _plan(rng: random.Random, made: Sequence[Plan], trouble: float, dense: float, case: Case) -> Plan:
    switches, outer = case.switches, _outside(made)
    producers: list[str] = []
    if outer and rng.random() < dense:
        recent = outer[-6:] if rng.random() < 0.7 else outer
        producers = rng.sample(recent, min(rng.choice((1, 1, 1, 2, 2, 3)), len(recent)))
    others = [plan.name for plan in made if plan.name not in producers]
    before = rng.sample(others, min(rng.choice((0, 0, 0, 1, 1, 2)), len(others)))
    edges = tuple(_edge(rng, name, len(producers), case) for name in producers)
    good, bad, first, times = (
        rng.random() > trouble,
        rng.choice(TROUBLES),
        rng.choice((Does.RETRY, Does.ERROR)),
        rng.randint(1, 3),
    )
    repeats, hangs = rng.random() < 0.35, rng.random() < 0.06
    does = Does.OK if good or Switch.TROUBLES not in switches else bad
    if hangs and Switch.HANGS in switches:
        does = Does.HANG
    scripts = [_script(rng, does, edges, case, is_last=True)]
    if repeats and Switch.RETRIES in switches:
        scripts = [_script(rng, first, edges, case, is_last=False) for _ in range(times)] + scripts
    order, publishers = rng.choice(list(Order)), rng.choice((1, 1, 1, 2))
    restartable, rule, limit = rng.random() < 0.6, rng.randrange(3), rng.choice((inf, inf, 1.1, 2.2, 6.6))
    conditional, when = rng.random() < 0.2, rng.choice([None] * 8 + ["yes", "no", "no", "raises"])
    gate, held, narrow, impatient = (
        rng.random() < 0.15,
        rng.random() < 0.3,
        rng.random() < 0.3,
        rng.random() < 0.15,
    )
    limit, patience = limit + _pause(rng), _pause(rng)
    ruled = Switch.RULES in switches
    return Plan(
        f"s{len(made)}",
        tuple(before),
        edges,
        tuple(scripts),
        order,
        publishers,
        patience if impatient and Switch.LIMITS in switches else inf,
        restartable,
        limit if Switch.LIMITS in switches else inf,
        rule if Switch.RETRIES in switches else 0,
        conditional and ruled,
        when if ruled and (when != "raises" or trouble) else None,
        gate and Switch.GATES in switches,
        held and not gate and Switch.GATES in switches,
        narrow and Switch.CROWDED in switches,
    )


def _edge(rng: random.Random, producer: str, many: int, case: Case) -> Edge:
    overflow, size, loses = rng.choice(LOSING), rng.choice((1, 1, 2, 2, 3, 4, 5)), rng.random() < 0.5
    breaks, reads, most, impatient = (
        rng.choice((0, 0, 1, 1, 2)),
        rng.choice(READS),
        rng.randint(0, 6),
        rng.random() < 0.2,
    )
    pauses, patience = _pauses(rng, case), _pause(rng)
    overflow = overflow if loses and Switch.LOSSES in case.switches else Overflow.BLOCK
    if overflow is not Overflow.COALESCE or Switch.TROUBLES not in case.switches:
        breaks = 0
    if many > 1 and overflow is Overflow.BLOCK and reads in {Reads.SOME, Reads.NEVER}:
        reads = (
            Reads.ALL
        )  # who holds up one producer, and waits for another, can bring both to a halt: its own fault
    patience = patience if impatient and Switch.LIMITS in case.switches else inf
    return Edge(producer, size, overflow, breaks, reads, most, pauses, patience)


def _script(rng: random.Random, does: Does, edges: Sequence[Edge], case: Case, *, is_last: bool) -> Script:
    publishes, pauses, last = rng.choice((0, 1, 2, 3, 5, 8, 12)), _pauses(rng, case), _pause(rng)
    most, waits = rng.randint(0, 5), rng.random() < 0.5
    if rng.random() < 0.4 and not is_last:
        publishes = 0  # so that it is attempted again
    return Script(
        does,
        publishes,
        pauses,
        last if waits and Switch.PAUSES in case.switches else None,
        most if len(edges) == 1 and not is_last else None,
    )


def _loop(rng: random.Random, made: Sequence[Plan], trouble: float, dense: float, case: Case) -> list[Plan]:
    """Make a loop: a stage, one that reads its stream, and the guard of both, which sends them back."""
    first, second, third = (
        _plan(random.Random(f"{rng.random()}"), made, trouble, dense, case) for _ in range(3)
    )
    names = [f"s{len(made) + one}" for one in range(3)]
    first = replace(first, edges=(), name=names[0], when=None, scripts=first.scripts[-1:])
    between = Edge(
        *_edge(rng, names[0], 1, case)[:3], 0, rng.choice(READS), rng.randint(0, 4), _pauses(rng, case)
    )
    second = replace(second, name=names[1], edges=(between,), when=None, scripts=second.scripts[-1:])
    third = replace(
        third,
        name=names[2],
        edges=(),
        dependencies=(names[0], names[1], *third.dependencies[:1]),
        scripts=(Script(last=third.scripts[-1].last),),
        when=None,
        held=False,
        rule=0,
        limit=inf,
        sends_back=names[0],
        rejects=rng.randint(0, 3),
        rounds=rng.randint(1, 4),
    )
    return [first, second, third]


def _outside(made: Sequence[Plan]) -> list[str]:
    loops = guards_of(made)
    return [plan.name for plan in made if plan.name not in loops]


def _tidied(made: Sequence[Plan], new: list[Plan]) -> list[Plan]:
    """Change what would not build."""
    for change in (
        {},
        {"gate": False},
        {"gate": False, "held": False},
        {"gate": False, "held": False, "dependencies": ()},
    ):
        if "dependencies" in change and len(new) > 1:
            inner = {plan.name for plan in new}
            changed = [
                replace(
                    plan, gate=False, held=False, dependencies=tuple(inner.intersection(plan.dependencies))
                )
                for plan in new
            ]
        else:
            changed = [replace(plan, **change) for plan in new]
        if can_end([*made, *changed]):
            return changed
    return [replace(plan, gate=False, held=False, dependencies=(), edges=()) for plan in new[:1]]


def _publishing(case: Case, made: Sequence[Plan]) -> list[Plan]:
    """Let hardly any stage publish that nobody reads."""
    read = {name for plan in made for name in plan.producers}
    return [
        plan
        if plan.name in read or case.seed % 7 == 0
        else replace(plan, scripts=tuple(script._replace(publishes=0) for script in plan.scripts))
        for plan in made
    ]


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


# --- what builds ---------------------------------------------------------------------------------------------------


def guards_of(plans: Sequence[Plan]) -> dict[str, str]:
    """Return, for each stage of a loop, the guard that sends it back: the stages on a way from its target to it."""
    after: dict[str, set[str]] = {plan.name: {*plan.dependencies, *plan.producers} for plan in plans}
    found: dict[str, str] = {}
    for plan in plans:
        if plan.sends_back is None:
            continue
        before = _reached(plan.name, after)
        members = {one for one in before if plan.sends_back in _reached(one, after)}
        found |= dict.fromkeys(members & before, plan.name)
    return found


def _reached(name: str, after: Mapping[str, set[str]]) -> set[str]:
    """Return a stage and all that it waits for."""
    found, pending = {name}, [name]
    for one in pending:  # grows while it is read
        for other in after.get(one, ()):
            if other not in found:
                found.add(other)
                pending.append(other)
    return found


def holders_of(plans: Sequence[Plan]) -> dict[str, set[str]]:
    """Return, for each stage, the guards of what it depends on, for which it waits, too."""
    guards = guards_of(plans)
    return {
        plan.name: {guards[one] for one in plan.dependencies if one in guards} - {guards.get(plan.name)}
        for plan in plans
    }


def gates_of(plans: Sequence[Plan]) -> set[str]:
    """Return what must have ended before held stages start: the gates, and the guards that may send one back."""
    gates, guards = {plan.name for plan in plans if plan.gate}, guards_of(plans)
    return gates | {guards[one] for one in gates if one in guards}


def can_end(plans: Sequence[Plan]) -> bool:
    """Say whether all stages can start, go on and end, however much they publish, if each reads to the end."""
    holders, gates = holders_of(plans), gates_of(plans)
    blocking = {
        plan.name: {
            reader.name
            for reader in plans
            for edge in reader.edges
            if edge.producer == plan.name and edge.blocks
        }
        for plan in plans
    }
    started: set[str] = set()
    flowing: set[str] = set()
    ended: set[str] = set()
    while True:
        before = len(started), len(flowing), len(ended)
        for plan in plans:
            waits = {*plan.dependencies, *holders[plan.name], *(gates if plan.held and not plan.gate else ())}
            if waits <= ended and started.issuperset(plan.producers):
                started.add(plan.name)
            if plan.name in started and blocking[plan.name] <= flowing:
                flowing.add(plan.name)
            if plan.name in flowing and ended.issuperset(plan.producers):
                ended.add(plan.name)
        if before == (len(started), len(flowing), len(ended)):
            return len(ended) == len(plans)


def crosses_a_loop(plans: Sequence[Plan]) -> bool:
    """Say whether a stream leads into a guard's loop, or out of one."""
    guards = guards_of(plans)
    return any(guards.get(plan.name) != guards.get(one) for plan in plans for one in plan.producers)


def waits_in_a_circle(plans: Sequence[Plan]) -> bool:
    """Say whether stages wait for each other's start or end, even if nobody publishes anything."""
    after = {plan.name: {*plan.dependencies, *plan.producers} for plan in plans}
    return any(name in _reached(one, after) for name, several in after.items() for one in several)


REFUSALS = {"SF-BUILD-STREAM-DEADLOCK", "SF-BUILD-CYCLE", "SF-BUILD-GATE", "SF-BUILD-GUARD-RETRY"}


# --- the model -----------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """An event of a run, or something that the body of a stage says of itself."""

    at: float  # in units
    type: str
    data: Mapping[str, Any]

    @property
    def stage(self) -> str | None:
        return self.data.get("stage")

    @property
    def word(self) -> str | None:
        """What happened to a stage, in one word, if the event is about that."""
        return self.data.get("status") if self.type.startswith("stage.") else None


class Merge:
    """A function for `coalesce=`. The model has one of its own."""

    def __init__(self, breaks: int) -> None:
        self.left = breaks

    def __call__(self, older: Any, newer: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise KeyError("coalesce")
        return (*older, *newer)


@dataclass(slots=True)
class Gap:
    """A marker in a buffer. It grows until it is read."""

    lost: int


@dataclass(slots=True)
class End:
    """One reader's end of a stream."""

    edge: Edge
    merge: Merge
    items: deque[Any] = field(default_factory=deque)  # chunks, Gap, StreamRestart
    delivered: int = 0
    lost: int = 0
    has_left: bool = False
    is_broken: bool = False  # by its own coalesce=

    @property
    def is_open(self) -> bool:
        return not self.has_left and not self.is_broken

    @property
    def chunks(self) -> int:
        return sum(isinstance(item, tuple) for item in self.items)

    @property
    def is_full(self) -> bool:
        return self.chunks >= self.edge.size

    def take(self, chunk: tuple[Any, ...]) -> None:
        """Take a chunk, or do with it what the edge says."""
        if not self.is_full:
            self.items.append(chunk)
            return
        match self.edge.overflow:
            case Overflow.BLOCK:
                raise AssertionError(f"a blocking reader had no room: {self}")
            case Overflow.COALESCE:
                try:
                    self.items[-1] = self.merge(self.items[-1], chunk)
                except KeyError:
                    self.is_broken = True
            case Overflow.DROP_OLDEST:
                oldest = next(index for index, item in enumerate(self.items) if isinstance(item, tuple))
                self.lost += 1
                if oldest and isinstance(self.items[oldest - 1], Gap):
                    del self.items[oldest]
                    self.items[oldest - 1].lost += 1
                else:
                    self.items[oldest] = Gap(1)
                self.items.append(chunk)
            case _:
                self.lost += 1
                if isinstance(self.items[-1], Gap):
                    self.items[-1].lost += 1
                else:
                    self.items.append(Gap(1))


@dataclass(slots=True)
class Stream:
    """What a stage publishes in one round."""

    producer: str
    ends: dict[str, End]
    published: int = 0
    has_ended: bool = False
    failed: bool = False
    error: BaseException | None = None  # what its producer raised, as far as one can know
    told: int = 0  # how often it was told that it has ended
    line: list[Any] = field(default_factory=list)  # who waits for room

    @property
    def has_room(self) -> bool:
        return not any(end.is_open and end.edge.blocks and end.is_full for end in self.ends.values())


class Ends:
    """Follows a run, and knows what each end of each stream may do next."""

    def __init__(self, plans: Sequence[Plan], case: Case, most: int | None) -> None:
        self.plans = {plan.name: plan for plan in plans}
        self.watched, self.most = case.watched, most
        self.fails_fast = case.mode is FailureMode.FAIL_FAST
        self.merges = {
            (plan.name, edge.producer): Merge(edge.breaks) for plan in plans for edge in plan.edges
        }
        self.streams: dict[str, Stream] = {}
        self.over: set[str] = set()  # stages that have ended, or will never start
        self.active: set[str] = set()  # stages whose bodies are at work
        self.raised: dict[str, BaseException | None] = {}
        self.published: Counter[str] = Counter()  # in this round
        self.reading: dict[tuple[str, str], None] = {}
        self.waited: set[str] = set()
        self.is_stopped = False
        self.immediate: Any = None  # who must be the next to say something
        self.guards = guards_of(plans)
        self.holders = holders_of(plans)
        self.gates = gates_of(plans)
        self.told: dict[str, list[Entry]] = {plan.name: [] for plan in plans}

    # --- what happens -----------------------------------------------------------------------------------

    def follow(self, entry: Entry) -> None:
        if self.immediate is not None:
            expected, self.immediate = self.immediate, None
            done = entry.type == "publish.done" and entry.data["key"] == expected
            assert done, f"{expected} had room, and yet this came first: {entry}"
        match entry.type:
            case "body.begin":
                self.active.add(entry.data["stage"])
                self.check_places()
            case "body.end":
                self.active.discard(entry.data["stage"])
                self.raised[entry.data["stage"]] = entry.data["raised"]
            case "publish.begin":
                self.publish_begins(entry.data["stage"], entry.data["key"])
            case "publish.done":
                self.publish_done(**entry.data)
                self.check_places()
            case "publish.cut":
                stream = self.streams.get(entry.data["stage"])
                if stream is not None and entry.data["key"] in stream.line:
                    stream.line.remove(entry.data["key"])
            case "read.begin":
                key = entry.data["stage"], entry.data["producer"]
                self.reading[key] = None
                if self.item_for(key) is None:
                    self.waited.add(entry.data["stage"])
            case "read.item" | "read.end" | "read.cut":
                key = entry.data["stage"], entry.data["producer"]
                del self.reading[key]
                if entry.type == "read.item":
                    self.read(key, entry.data["item"])
                elif entry.type == "read.end":
                    self.read_ends(key, entry.data["error"])
                if (
                    entry.type != "read.cut"
                ):  # who is cut has its place again if it goes on, and it may end instead
                    self.check_places()
            case "stream.closed":
                self.closed(entry.data)
            case _ if entry.word is not None and entry.stage is not None:
                self.told[entry.stage].append(entry)
                if entry.word == "failed" and self.fails_fast:
                    self.is_stopped = True
                self.stage_event(self.plans[entry.stage], entry)

    def stage_event(self, plan: Plan, entry: Entry) -> None:
        name = plan.name
        match entry.word:
            case "started":
                if plan.when != "raises":
                    self.begins(name)
            case "retrying" if "round" in entry.data:
                self.over.discard(name)
                self.published[name] = 0
                self.begins(name)
            case "retrying":
                self.restarts(name, entry.data["attempt"])
            case "completed" | "failed" | "skipped" | "cancelled":
                self.over.add(name)
                stream = self.streams.get(name)
                if stream is not None:
                    stream.has_ended = True
                    stream.failed = entry.word in {"failed", "cancelled"}
                    raised = self.raised.get(name)  # but who is over its limit has failed with that
                    stream.error = raised if entry.data.get("error_type") == type(raised).__name__ else None
                    stream.line.clear()
                for producer in plan.producers:
                    if producer in self.streams:
                        end = self.streams[producer].ends[name]
                        end.has_left = True
                        end.items.clear()

    def begins(self, name: str) -> None:
        """A stage starts, or starts once more: a stream of its own for its readers."""
        ends = {
            plan.name: End(
                edge,
                self.merges[plan.name, name],
                has_left=plan.name in self.over and plan.name not in self.guards,
            )
            for plan in self.plans.values()
            for edge in plan.edges
            if edge.producer == name
        }
        if name in self.streams:
            assert self.streams[name].told == 1, f"the stream of {name} has ended and that was not told"
        if ends:
            self.streams[name] = Stream(name, ends)

    def restarts(self, name: str, attempt: int) -> None:
        stream = self.streams.get(name)
        if stream is not None:
            stream.line.clear()
            if stream.published:
                for end in stream.ends.values():
                    if end.is_open:
                        end.items = deque([StreamRestart(attempt)])

    def publish_begins(self, name: str, key: Any) -> None:
        stream = self.streams.get(name)
        if stream is None or (stream.has_room and not stream.line):
            self.immediate = key
        else:
            stream.line.append(key)
            self.waited.add(name)

    def publish_done(self, stage: str, key: Any, chunk: Any, heard: bool) -> None:  # noqa: FBT001 - as it was noted
        self.published[stage] += 1
        stream = self.streams.get(stage)
        if stream is None:
            assert heard is self.watched, f"{stage} publishes to nobody, and was told {heard}"
            return
        if stream.line:
            assert stream.line[0] == key, f"{key} has overtaken {stream.line[0]}"
            del stream.line[0]
        assert not stream.has_ended, f"{stage} publishes after its end"
        assert stream.has_room, f"{key} was let through, and there is no room: {stream}"
        stream.published += 1
        for end in stream.ends.values():
            if end.is_open:
                end.take(chunk)
        still = any(end.is_open for end in stream.ends.values()) or self.watched
        assert heard is still, f"{key}: told {heard} of {stream}"

    def item_for(self, key: tuple[str, str]) -> Any:
        """Return what a reader has to find now; None if it has to wait. It may be the end of the stream."""
        stream = self.streams.get(key[1])
        if stream is None:
            return "end"
        end = stream.ends[key[0]]
        if end.items:
            return end.items[0]
        if end.is_broken:
            return "broken by its edge"
        return ("broken" if stream.failed else "end") if stream.has_ended else None

    def read(self, key: tuple[str, str], item: Any) -> None:
        expected = self.item_for(key)
        assert expected is not None, f"{key} got {item}, and nothing was there"
        shown = StreamGap(expected.lost) if isinstance(expected, Gap) else expected
        assert type(item) is type(shown), f"{key} got {item} instead of {shown}"
        assert item == shown, f"{key} got {item} instead of {shown}"
        end = self.streams[key[1]].ends[key[0]]
        end.items.popleft()
        end.delivered += isinstance(item, tuple)

    def read_ends(self, key: tuple[str, str], error: StreamBrokenError | None) -> None:
        expected = self.item_for(key)
        if error is None:
            assert expected == "end", f"the stream of {key} ended instead of {expected}"
            return
        assert isinstance(expected, str), f"{key} broke instead of {expected}"
        assert expected[:6] == "broken", f"{key} broke instead of {expected}"
        assert error.producer == key[1]
        if expected == "broken by its edge":
            assert isinstance(error.__cause__, KeyError), error.__cause__
            return
        cause = self.streams[key[1]].error
        if cause is not None and not isinstance(cause, asyncio.CancelledError):
            assert error.__cause__ is cause, (error.__cause__, cause)
        assert error.__cause__ is not None

    def closed(self, data: Mapping[str, Any]) -> None:
        name = data["stage"]
        assert name in self.streams, f"{name} has no readers, or never started, and its stream has ended"
        stream = self.streams[name]
        stream.told += 1
        assert stream.told == 1, f"it was told twice that the stream of {name} has ended"
        assert name not in self.active, f"{name} is at work, and its stream has ended"
        assert data["published"] == stream.published
        counts = {
            reader: {"delivered": end.delivered, "lost": end.lost, "waiting": end.chunks}
            for reader, end in stream.ends.items()
        }
        assert data["readers"] == counts, (data, counts)

    # --- places -----------------------------------------------------------------------------------------

    def working(self) -> list[Plan]:
        """Return the stages that must have a place: those of one Task, which waits for nobody's chunk or room."""
        waiting = {key[0] for key in self.reading} | {
            key[0] for one in self.streams.values() for key in one.line
        }
        return [self.plans[name] for name in self.active if self.plans[name].is_alone and name not in waiting]

    def check_places(self) -> None:
        if self.is_stopped or (self.most is None and not any(plan.narrow for plan in self.plans.values())):
            return
        working = self.working()
        assert self.most is None or len(working) <= self.most, f"{len(working)} at work: {working}"
        assert sum(plan.narrow for plan in working) <= 1, f"more than one narrow one at work: {working}"

    def could_have_a_place(self, plan: Plan) -> bool:
        narrow = any(one.narrow for one in self.plans.values())
        if self.most is None and not plan.narrow:
            return True
        several = [self.plans[name] for name in self.active if not self.plans[name].is_alone]
        busy = [*self.working(), *several]
        if narrow and self.most is not None:
            return not busy  # who waits for the one place may hold the other
        if self.most is not None:
            return len(busy) < self.most
        return not any(one.narrow for one in busy)

    # --- while everything waits -------------------------------------------------------------------------

    def quiet(self) -> None:
        """Check that nobody waits for what is there already."""
        assert self.immediate is None
        if self.is_stopped:
            return
        for stream in self.streams.values():
            if stream.line and stream.has_room:
                plan = self.plans[stream.producer]
                assert not self.could_have_a_place(plan), (
                    f"{stream.line[0]} waits, and there is room: {stream}"
                )
        for key in self.reading:
            item = self.item_for(key)
            if item is not None:
                plan = self.plans[key[0]]
                assert not self.could_have_a_place(plan), f"{key} waits, and there is {item}"
        for plan in self.plans.values():
            waits = {*plan.dependencies, *self.holders[plan.name]}
            ready = waits <= self.over and all(self.told[one] for one in plan.producers)
            held = plan.held and any(one not in self.over for one in self.gates)
            looped = any(one in self.guards for one in waits)  # sent back, maybe
            if ready and not held and not looped and not self.told[plan.name]:
                assert not self.could_have_a_place(plan), f"{plan.name} is ready, and has not started"


# --- the same in the kernel --------------------------------------------------------------------------------------


class Log:
    """What a run does, in order; and what of that is not as it should be. It stops the run when its time has come."""

    def __init__(self, case: Case, plans: Sequence[Plan], most: int | None) -> None:
        self.loop: Any = asyncio.get_running_loop()
        self.began_at = self.loop.time()
        self.case = case
        self.entries: list[Entry] = []
        self.order: list[tuple[Any, ...]] = []  # what a viewer has to see
        self.seen: list[Any] = []
        self.starts: Counter[str] = Counter()
        self.ends = Ends(plans, case, most)
        self.wrong: list[str] = []
        self.fire: Callable[[], object] | None = None
        self.fire_at = case.moment * case.moment // 4 + 1 if case.at is At.ENTRY else 0
        self.fired: int | None = None  # after how many entries it was stopped
        self.given_up = False

    @property
    def time(self) -> float:
        return (self.loop.time() - self.began_at) / UNIT

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.order.append((type, data))
        self.add(type, data or {})

    def add(self, type: str, data: Mapping[str, Any]) -> None:
        entry = Entry(self.time, type, data)
        self.entries.append(entry)
        self.check(lambda: self.ends.follow(entry))
        if len(self.entries) == self.fire_at:
            self.stop()

    def note(self, type: str, **data: Any) -> None:
        self.add(type, data)

    def check(self, what: Callable[[], None]) -> None:
        if self.wrong:
            return
        try:
            what()
        except Exception as exc:
            self.wrong.append(f"after {len(self.entries)} entries: {type(exc).__name__}: {exc}")

    def stop(self) -> None:
        if self.fire is not None and self.fired is None:
            self.fired = len(self.entries)
            self.ends.is_stopped = True
            self.fire()

    def give_up(self) -> None:
        self.given_up = True
        self.stop()

    def before_jump(self) -> bool:
        self.check(self.ends.quiet)
        return False


def body_of(plan: Plan, log: Log) -> Callable[..., Any]:
    """Make the function of a stage."""

    async def body(ctx: StageContext) -> Any:
        log.starts[plan.name] += 1
        number = log.starts[plan.name]
        if number > 20:
            log.wrong.append(f"{plan.name} is attempted for ever")
            log.stop()
        script = plan.scripts[min(ctx.attempt, len(plan.scripts)) - 1]
        log.note("body.begin", stage=plan.name, attempt=ctx.attempt, number=number)
        how: str = "cut"
        raised: BaseException | None = None
        try:
            await work(plan, script, number, ctx, log)
            if script.last is not None:
                await asyncio.sleep(script.last * UNIT)
            how, output = await end(plan, script, number)
        except BaseException as exc:
            cut = isinstance(exc, asyncio.CancelledError)
            how = "cut" if cut else Does.ERROR if isinstance(exc, ConnectionError) else "raise"
            raised = exc
            raise
        else:
            return output
        finally:
            log.note("body.end", stage=plan.name, how=how, raised=raised)

    return body


async def work(plan: Plan, script: Script, number: int, ctx: StageContext, log: Log) -> None:
    """Read and publish."""
    readers = [read(plan, edge, script, ctx, log) for edge in plan.edges if edge.reads is not Reads.NEVER]
    share = script.publishes // plan.publishers
    publishers = [
        publish(plan, script, share, (plan.name, number, one), ctx, log) for one in range(plan.publishers)
    ]
    if plan.order is Order.TOGETHER:
        await together([*readers, *publishers])
    elif plan.order is Order.READ_FIRST:
        try:
            await together(readers)
        except BaseException:
            for one in publishers:
                one.close()
            raise
        await together(publishers)
    else:
        try:
            await together(publishers)
        except BaseException:
            for one in readers:
                one.close()
            raise
        await together(readers)


async def together(several: Sequence[Coroutine[Any, Any, None]]) -> None:
    if len(several) <= 1:
        for one in several:
            await one
        return
    try:
        async with asyncio.TaskGroup() as group:
            for one in several:
                group.create_task(one)
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from None


async def publish(
    plan: Plan, script: Script, share: int, publisher: tuple[Any, ...], ctx: StageContext, log: Log
) -> None:
    pauses = itertools.cycle(script.pauses or (None,))
    for number in range(share):
        pause = next(pauses)
        if pause is not None:
            await asyncio.sleep(pause * UNIT)
        key = (*publisher, number)
        chunk = (key,)
        log.note("publish.begin", stage=plan.name, key=key)
        try:
            async with asyncio.timeout(plan.patience * UNIT if plan.patience < inf else None):
                heard = await ctx.publish(chunk)
        except BaseException as exc:
            log.note("publish.cut", stage=plan.name, key=key)
            if isinstance(exc, TimeoutError):
                continue
            raise
        log.order.append(("stream.chunk", plan.name, ctx.attempt, chunk))
        log.note("publish.done", stage=plan.name, key=key, chunk=chunk, heard=heard)


async def read(plan: Plan, edge: Edge, script: Script, ctx: StageContext, log: Log) -> None:
    stream, pauses = ctx.stream(edge.producer), itertools.cycle(edge.pauses or (None,))
    most = edge.most if edge.reads is Reads.SOME else None
    if script.most is not None:
        most = script.most
    names = {"stage": plan.name, "producer": edge.producer}
    got = cuts = 0
    while most is None or got < most:
        log.note("read.begin", **names)
        try:
            async with asyncio.timeout(
                edge.patience * UNIT if edge.patience < inf and cuts < MOST_CUTS else None
            ):
                item = await anext(stream)
        except StopAsyncIteration:
            log.note("read.end", **names, error=None)
            break
        except StreamBrokenError as exc:
            log.note("read.end", **names, error=exc)
            if edge.reads is Reads.CATCHES:
                break
            raise
        except BaseException as exc:
            log.note("read.cut", **names)
            if isinstance(exc, TimeoutError):
                cuts += 1
                continue
            raise
        log.note("read.item", **names, item=item)
        got += 1
        pause = next(pauses)
        if pause is not None:
            await asyncio.sleep(pause * UNIT)
    if edge.reads is Reads.AGAIN and most is None:
        log.note("read.begin", **names)
        async for item in ctx.stream(edge.producer):
            log.note("read.item", **names, item=item)
            log.note("read.begin", **names)
        log.note("read.end", **names, error=None)


async def end(plan: Plan, script: Script, number: int) -> tuple[str, Any]:
    does = script.does
    if number <= plan.rejects:
        does = Does.FAIL
    match does:
        case Does.SKIP:
            return does, StageOutput.skip("own wish")
        case Does.FAIL:
            return does, StageOutput.fail("own wish")
        case Does.RAISE:
            raise ValueError(plan.name)
        case Does.RETRY:
            return does, StageOutput.retry("again")
        case Does.ERROR:
            raise ConnectionError(plan.name)
        case Does.CANCEL:
            return does, StageOutput.cancel(plan.name)
        case Does.HANG:
            await asyncio.Event().wait()
    return Does.OK, {"name": plan.name}


def condition(plan: Plan) -> Any:
    def ask(inputs: Any) -> bool:
        if plan.when == "raises":
            raise KeyError(plan.name)
        return plan.when == "yes"

    return None if plan.when is None else ask


def edge_of(edge: Edge) -> StreamEdge:
    merge = Merge(edge.breaks) if edge.overflow is Overflow.COALESCE else None
    return StreamEdge(edge.producer, edge.size, edge.overflow, merge)


def graph_of(
    plans: Sequence[Plan], bodies: Mapping[str, Any], mode: FailureMode, most: int | None
) -> StageGraph:
    narrow = ConcurrencyLimit(1)
    policies = {
        plan.name: GuardRetryPolicy(plan.sends_back, plan.rounds, stagnation_limit=99)
        for plan in plans
        if plan.sends_back is not None
    }
    specs = [
        StageSpec(
            plan.name,
            bodies[plan.name],
            StageKind.GUARD if plan.gate or plan.sends_back else StageKind.TRANSFORM,
            plan.dependencies,
            conditional=plan.conditional,
            when=condition(plan),
            timeout=None if plan.limit == inf else plan.limit * UNIT,
            retry=RULES[plan.rule].policy,
            limit=narrow if plan.narrow else None,
            effect=Effect.IDEMPOTENT if plan.held else Effect.NONE,
            gates_effects=plan.gate,
            streams=[edge_of(edge) for edge in plan.edges],
            restartable=plan.restartable,
        )
        for plan in plans
    ]
    return StageGraph(
        specs,
        [],
        failure_mode=mode,
        max_concurrency=most,
        guard_retry_strategy=GuardRetryStrategy(policies) if policies else None,
    )


MOST_CUTS = 5
"""How often a reader gives up waiting, before it waits for as long as it takes."""


class Ran(NamedTuple):
    """What a case has left behind."""

    log: Log
    results: PipelineResults | None
    raised: BaseException | None


async def run(case: Case, plans: Sequence[Plan]) -> Ran:
    """Run a case, and look for what it leaves behind at the very moment at which the call ends."""
    most = random.Random(case.seed).choice((None, 1, 1, 2, 3)) if Switch.CROWDED in case.switches else None
    log = Log(case, plans, most)
    graph = graph_of(plans, {plan.name: body_of(plan, log) for plan in plans}, case.mode, most)
    token, leaks, timers = CancellationToken(), [], []
    options: Any = {
        "sink": log,
        "cancel_token": token,
        "timeout": case.time * UNIT if case.stop is Stop.LIMIT else None,
    }

    async def call() -> PipelineResults | None:
        try:
            if case.watched:
                return await watch_run(case, graph, options, log)
            return await graph.run(**options)
        finally:
            log.fire = None
            for timer in timers:
                timer.cancel()
            leaks.extend(watch.found(ignore=[main]))

    main: Any = asyncio.current_task()
    with LeakWatch() as watch:
        task = asyncio.create_task(call())
        if case.stop is Stop.CALLER:
            log.fire = task.cancel
        else:
            log.fire = lambda: token.cancel("by the test")
        if case.stop in {Stop.NOBODY, Stop.LIMIT, Stop.VIEWER}:
            log.fire_at = 0
        elif case.at is At.TIME:
            timers.append(log.loop.call_later(case.time * UNIT, log.stop))
        if case.stop is Stop.LIMIT:  # the model has to know when nobody need be served any more
            timers.append(
                log.loop.call_later(case.time * UNIT - 1, lambda: setattr(log.ends, "is_stopped", True))
            )
        if any(script.does is Does.HANG for plan in plans for script in plan.scripts):
            timers.append(log.loop.call_later(FOR_EVER * UNIT, log.give_up))
        log.loop.before_jump = log.before_jump
        try:
            await asyncio.wait([task])
        finally:
            log.loop.before_jump = None
    assert not leaks, leaks
    raised = asyncio.CancelledError() if task.cancelled() else task.exception()
    return Ran(log, task.result() if raised is None else getattr(raised, "results", None), raised)


async def watch_run(case: Case, graph: StageGraph, options: Any, log: Log) -> PipelineResults | None:
    """Run by way of ``stream()``, more or less fast."""
    rng = random.Random(case.seed)
    buffer, slow = rng.choice((1, 2, 3, 8, 10_000, 10_000)), rng.random() < 0.5
    leaves_after = rng.randint(1, 40) if case.stop is Stop.VIEWER else 10**9
    async with graph.stream(**options, buffer=buffer) as stream, aclosing(aiter(stream)) as events:
        async for event in events:
            log.seen.append(event)
            if len(log.seen) == leaves_after and log.fired is None:
                log.fired = len(log.entries)
                log.ends.is_stopped = True
                break
            if slow and rng.random() < 0.5:
                await asyncio.sleep(rng.choice((0, 0, _pause(rng))) * UNIT)
    return None if case.stop is Stop.VIEWER and log.fired is not None else stream.results


# --- what a run did, held against the rules ----------------------------------------------------------------------


class Attempt(NamedTuple):
    """What a body says of one of its attempts."""

    attempt: int
    begun: int  # after how many entries
    ended: int
    begun_at: float
    ended_at: float
    how: str
    published: int  # what its stage had published by then, in this round


class Verdict:
    """Holds a run against the rules."""

    def __init__(self, case: Case, plans: Sequence[Plan], ran: Ran) -> None:
        self.case, self.ran, self.log = case, ran, ran.log
        self.plans = {plan.name: plan for plan in plans}
        self.entries = ran.log.entries
        self.told: dict[str, list[tuple[int, Entry]]] = {plan.name: [] for plan in plans}
        for index, entry in enumerate(self.entries):
            if entry.word is not None and entry.type == f"stage.{entry.stage}.{entry.word}":
                self.told[entry.stage or ""].append((index, entry))
        self.attempts = self.find_attempts()
        self.holders, self.guards = holders_of(plans), guards_of(plans)
        self.stopped, self.maybe = self.find_stop()

    def find_attempts(self) -> dict[str, list[Attempt]]:
        found: dict[str, list[Attempt]] = {name: [] for name in self.plans}
        begun: dict[str, tuple[int, Entry]] = {}
        published: Counter[str] = Counter()
        for index, entry in enumerate(self.entries):
            name = entry.stage or ""
            if entry.type == "body.begin":
                assert name not in begun, f"{name} runs twice at once"
                begun[name] = index, entry
            elif entry.type == "body.end":
                start, first = begun.pop(name)
                number, how = first.data["attempt"], entry.data["how"]
                found[name].append(Attempt(number, start, index, first.at, entry.at, how, published[name]))
            elif entry.type == "publish.done":
                published[name] += 1
            elif entry.word == "retrying" and "round" in entry.data:
                published[name] = 0
        assert not begun, f"still at work: {begun}"
        return found

    def find_stop(self) -> tuple[float, float]:
        """Say after how many entries the run was stopped, and after how many it may have been."""
        causes, maybe = [inf], [inf]
        for index, entry in enumerate(self.entries):
            failed = entry.word == "failed" and self.case.mode is FailureMode.FAIL_FAST
            if failed or (entry.word == "cancelled" and "reason" in entry.data):
                causes.append(index + 1)
                break
        if self.log.fired is not None:
            soon = self.case.stop is Stop.CALLER or (self.case.stop is Stop.VIEWER and not self.log.given_up)
            (maybe if soon else causes).append(self.log.fired)
            if soon:
                causes.append(
                    next(
                        (
                            i
                            for i, one in enumerate(self.entries)
                            if i >= self.log.fired and self.tells_stop(one)
                        ),
                        inf,
                    )
                )
        if self.case.stop is Stop.LIMIT:
            position = sum(entry.at < self.case.time - NEAR for entry in self.entries)
            if position < len(self.entries):
                causes.append(position)
        return min(causes), min(*causes, *maybe)

    @staticmethod
    def tells_stop(entry: Entry) -> bool:
        return (entry.word == "cancelled" and "reason" not in entry.data) or entry.data.get(
            "reason"
        ) == "run_stopped"

    # --- everything -------------------------------------------------------------------------------------

    def check(self) -> None:
        types = [entry.type for entry in self.entries]
        assert types[0] == "pipeline.started"
        assert types[-1] in {"pipeline.completed", "pipeline.failed", "pipeline.cancelled"}, types[-3:]
        for plan in self.plans.values():
            self.check_stage(plan)
        self.check_streams()
        self.check_call()
        if self.ran.results is not None:
            self.check_results(self.ran.results)
            self.check_timeline(self.ran.results)
        if self.case.watched:
            self.check_seen()

    def check_streams(self) -> None:
        assert not self.log.ends.reading
        for name, stream in self.log.ends.streams.items():
            assert stream.told == 1, f"the stream of {name} has ended, and that was told {stream.told} times"

    def check_stage(self, plan: Plan) -> None:
        told, attempts = self.told[plan.name], list(self.attempts[plan.name])
        words = [entry.word for _, entry in told]
        assert told, f"nothing was told of {plan.name}"
        if set(words) == {"skipped"}:
            assert not attempts, f"{plan.name} was skipped, and ran"
            assert len(words) == 1 or plan.name in self.guards, (plan, words)  # asked once more, by a guard
            for one in told:
                self.check_kept(plan, *one)
            return
        assert words[0] == "started", (plan, words)
        index, _first = told[0]
        assert index < self.stopped, f"{plan.name} has started after the run was stopped: {self.stopped}"
        self.check_ready(plan, index)
        assert self.rule_for(plan, index) is None, (plan, self.rule_for(plan, index), words)
        if plan.when == "raises":
            assert words == ["started", "failed"], (plan, words)
            assert not attempts
            return
        for at, entry in told[1:]:
            last = entry is told[-1][1]
            assert last == (entry.word != "retrying") or plan.name in self.guards, (plan, words)
            if entry.word == "retrying" and "round" in entry.data and not plan.sends_back:
                continue  # of the round before, its end has told
            before = [one for one in attempts if one.ended < at]
            if not before:  # it was waiting for another attempt, or for a place
                assert entry.word == "cancelled", (plan, words, at, self.stopped)
                assert at >= self.maybe, (plan, words)
                continue
            assert len(before) == 1, (plan, before, entry)
            attempts.remove(before[0])
            if plan.sends_back and entry.word == "cancelled" and at >= self.maybe and before[0].how != "cut":
                continue  # it had sent others back, and waited for them
            if plan.sends_back and entry.word == "skipped" and "attempt" not in entry.data:
                self.check_kept(plan, at, entry)  # one of those whom it sent back has failed
                continue
            self.check_after(plan, before[0], at, entry)
        assert not attempts, (plan, attempts, words)

    def check_after(self, plan: Plan, one: Attempt, at: int, entry: Entry) -> None:
        """Check what came of an attempt."""
        where = (plan, one, entry, self.stopped, self.maybe)
        refused = self.refusals(plan.name, one.ended, at)
        words: set[str] = set()
        since = one.ended + 1  # the run may have been stopped in the middle of that entry
        cut = one.how == "cut" and self.what(plan, one) != "limit"  # nobody but the stop can have been it
        for stopped in {since >= self.maybe, since >= self.stopped or (cut and since >= self.maybe)}:
            words |= self.expected(plan, one, stopped=stopped)
        if "retrying" in words and self.maybe <= at:
            words.add("cancelled")  # it was to be attempted again, but that was not told any more
        assert entry.word in words, (where, words)
        over = one.ended_at - one.begun_at
        assert over < plan.limit + NEAR, where
        would = self.what(plan, one) in RULES[plan.rule].after and one.attempt < RULES[plan.rule].most
        kept = would and one.published and not plan.restartable
        if kept and since < self.maybe:
            assert [each["reason"] for each in refused] == ["has_published"], (where, refused)
            assert refused[0]["attempt"] == one.attempt, (where, refused)
        elif not kept or since >= self.stopped:
            assert not refused, (where, refused)
        if entry.word == "retrying" and "round" not in entry.data:
            assert entry.data["attempt"] == one.attempt + 1, where
        elif entry.word != "retrying":
            assert entry.data["attempt"] == one.attempt, where

    def what(self, plan: Plan, one: Attempt) -> str:
        return "limit" if one.ended_at - one.begun_at > plan.limit - NEAR else one.how

    def expected(self, plan: Plan, one: Attempt, *, stopped: bool) -> set[str]:
        """Return what may be told of a stage after one of its attempts."""
        what, rule = self.what(plan, one), RULES[plan.rule]
        if stopped and one.how == "cut":
            return {"cancelled", "failed"} if what == "limit" else {"cancelled"}
        simple = {Does.OK: "completed", Does.SKIP: "skipped", Does.CANCEL: "cancelled"}
        if what in simple:
            return {simple[Does(what)]}
        assert what != "cut", f"{plan.name} was cancelled, and nobody had stopped the run"
        if plan.sends_back and not stopped:
            rounds = len(
                [
                    entry
                    for _, entry in self.told[plan.name]
                    if "round" in entry.data and entry.word == "retrying"
                ]
            )
            return {"failed", "retrying"} if rounds < plan.rounds else {"failed"}
        again = what in rule.after and one.attempt < rule.most and (plan.restartable or not one.published)
        return {"retrying"} if again and not stopped else {"failed"}

    def refusals(self, name: str, since: int, until: int) -> list[Mapping[str, Any]]:
        return [
            entry.data
            for entry in self.entries[since:until]
            if entry.type == "stage.retry_refused" and entry.stage == name
        ]

    # --- who starts -------------------------------------------------------------------------------------

    def check_ready(self, plan: Plan, index: int) -> None:
        """Check that all for which a stage waits had happened when it was decided whether it starts."""
        for one in {*plan.dependencies, *self.holders[plan.name]}:
            inner = self.guards.get(one) in {plan.name, self.guards.get(plan.name)} - {None}
            ends = [at for at, entry in self.told[one] if entry.word not in {"started", "retrying"}]
            assert ends[0 if inner else -1] < index, f"{plan.name} came before {one} had settled"
        for one in plan.producers:
            assert self.told[one][0][0] < index, f"{plan.name} came before {one} had started"
        if plan.held and self.told[plan.name][0][1].word == "started" and plan.when != "raises":
            for gate in self.plans.values():
                if gate.gate:
                    last, entry = self.told[gate.name][-1]
                    assert last < index, f"{plan.name} was not held by {gate.name}"
                    assert self.opens(entry), f"{plan.name} has started, and {gate.name} is closed"

    @staticmethod
    def opens(entry: Entry) -> bool:
        if entry.word == "skipped":
            return "attempt" in entry.data or entry.data["reason"] == "condition_false"
        return entry.word == "completed"

    def check_kept(self, plan: Plan, index: int, entry: Entry) -> None:
        reason = entry.data["reason"]
        if reason == "run_stopped" or (reason == "gate_closed" and plan.held and index >= self.maybe):
            assert index >= self.maybe, (plan, entry)
            return
        assert index < self.stopped, (plan, entry, self.stopped)
        expected = self.rule_for(plan, index)
        if expected is None and plan.held:
            closed = [
                one.name
                for one in self.plans.values()
                if one.gate
                and self.told[one.name]
                and self.told[one.name][-1][0] < index
                and not self.opens(self.told[one.name][-1][1])
            ]
            assert closed, f"{plan.name} was kept by gates, and none is closed"
            expected = {"gate_closed"}
        self.check_ready(plan, index)
        assert expected is not None, f"{plan.name} should have started, and was kept: {reason}"
        assert reason in expected, (plan, reason, expected)

    def rule_for(self, plan: Plan, index: int) -> set[str] | None:
        """Return what keeps a stage from starting, but for gates; two where the page does not say which."""
        waits = [self.settled(one, index) for one in plan.dependencies]
        waits += ["ran" if self.has_run(one) else self.settled(one, index) for one in plan.producers]
        held = [self.settled(one, index) for one in self.holders[plan.name]]
        failed = {one for one in (*waits, *held) if one in {"dependency_failed", "gate_closed"}}
        if failed:
            return failed
        if waits and all(one == "kept" for one in waits):
            return {"branch_not_taken"}
        if plan.conditional and ("kept" in waits or "skipped" in waits):
            return {"dependency_skipped"}
        return {"condition_false"} if plan.when == "no" else None

    def has_run(self, name: str) -> bool:
        return self.told[name][0][1].word == "started" and self.plans[name].when != "raises"

    def settled(self, name: str, index: int) -> str:
        """Return how a stage had settled, after so many entries."""
        told = [entry for at, entry in self.told[name] if at < index]
        if told[-1].word == "failed":
            return "dependency_failed"
        if told[-1].word != "skipped":
            return "ran"
        if "attempt" in told[-1].data:
            return "skipped"
        reason = told[-1].data["reason"]
        return reason if reason in {"dependency_failed", "gate_closed"} else "kept"

    # --- what is left of the run --------------------------------------------------------------------------

    def check_call(self) -> None:
        """Check how the call ended."""
        raised = self.ran.raised
        failures = [entry.stage for entry in self.entries if entry.word == "failed"]
        failures = [name for name in failures if self.told[name or ""][-1][1].word == "failed"]
        if self.maybe < inf and self.maybe <= len(self.entries):
            kinds = {
                Stop.CALLER: asyncio.CancelledError,
                Stop.LIMIT: RunTimeoutError,
                Stop.VIEWER: type(None),
            }
            own = (
                StageExecutionError
                if failures and self.case.mode is not FailureMode.BEST_EFFORT
                else type(None)
            )
            allowed = {kinds.get(self.case.stop, PipelineCancelled), PipelineCancelled, own}
            assert type(raised) in allowed, (raised, allowed)
        else:
            raises = failures and self.case.mode is not FailureMode.BEST_EFFORT
            assert type(raised) is (StageExecutionError if raises else type(None)), raised
        if isinstance(raised, StageExecutionError):
            assert raised.stage == failures[0]
        if self.stopped == inf and self.ran.results is not None and self.ran.results.error is not None:
            assert self.ran.results.error.stage == failures[0]

    def check_results(self, results: PipelineResults) -> None:
        statuses = {"completed": "ok", "failed": "fail", "skipped": "skip"}
        expected: dict[str, str] = {}
        for name, told in self.told.items():
            index, last = told[-1]
            if name in self.guards and self.maybe < inf:
                continue  # it may have been about to start once more
            if last.word in statuses and not (len(told) == 1 and index >= self.maybe):
                expected[name] = statuses[last.word]
            elif last.word == "cancelled" and "reason" in last.data:
                expected[name] = "cancel"
        found = {name: str(output.status) for name, output in results.items()}
        assert expected.items() <= found.items(), (expected, found)
        for name in found.keys() - expected.keys() - self.guards.keys():
            assert self.told[name][-1][0] >= self.maybe, (name, found[name])

    def check_timeline(self, results: PipelineResults) -> None:
        timeline = results.timeline
        assert (
            set(self.plans) >= timeline.keys() >= {name for name, told in self.told.items() if len(told) > 1}
        )
        for name, one in timeline.items():
            stamps = [one.started_ns, *(span.ended_ns for span in one.spans)]
            assert [span.started_ns for span in one.spans] == stamps[:-1], one.spans
            assert stamps[-1] == one.ended_ns, one.spans
            assert one.started_ns == timeline.started_ns
            assert sum(one.totals.values()) == one.total_ns
            assert (Part.STREAM in one.totals) == (name in self.log.ends.waited), (
                name,
                one,
                self.log.ends.waited,
            )

    def check_seen(self) -> None:
        """Check what somebody saw who read the run as a stream."""
        order, at = self.log.order, 0
        lost_chunks = indices = 0
        numbers: Counter[str] = Counter()
        upcoming: list[int] = []
        for one in order:
            if one[0] == "stream.chunk":
                numbers[one[1]] += 1
                upcoming.append(numbers[one[1]])
            else:
                if isinstance(one[1], dict) and one[1].get("status") == "retrying" and "round" in one[1]:
                    numbers[one[1]["stage"]] = 0
                upcoming.append(0)
        for event in self.log.seen:
            if event.type == "stream.gap":
                gone = order[at : at + event.data["lost"]]
                assert len(gone) == event.data["lost"] > 0
                chunks = sum(one[0] == "stream.chunk" for one in gone)
                assert event.data["lost_chunks"] == chunks, (event, gone)
                lost_chunks += chunks
                at += len(gone)
                continue
            assert at < len(order), f"nobody has emitted {event}"
            expected = order[at]
            if event.type == "stream.chunk":
                data = event.data
                assert expected == ("stream.chunk", data["stage"], data["attempt"], data["chunk"]), (
                    event,
                    expected,
                )
                assert data["index"] == upcoming[at], (event, upcoming[at])
                indices += 1
            else:
                assert expected[0] == event.type, (event, expected)
                assert expected[1]["sequence"] == event.data["sequence"]
            at += 1
        assert at == len(order) or self.ran.raised is not None or self.case.stop is Stop.VIEWER, (
            at,
            len(order),
        )


class Bench:
    """An event loop on a virtual clock that many examples share; one that failed leaves it to nobody."""

    def __init__(self) -> None:
        self.runner: asyncio.Runner | None = None
        self.complaints: list[Any] = []

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        if self.runner is None:
            self.complaints.clear()
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
            with suppress(RuntimeError):  # of a loop that has stalled
                runner.close()


@pytest.fixture(scope="module")
def bench() -> Generator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


def try_case(case: Case, bench: Bench) -> Verdict:
    """Run a case and hold it against the rules."""
    plans = plans_of(case)
    logs: list[Log] = []
    try:
        ran = bench.run(run(case, plans))
        logs.append(ran.log)
        assert not ran.log.wrong, ran.log.wrong
        assert not ran.log.given_up or any(
            script.does is Does.HANG for plan in plans for script in plan.scripts
        )
        verdict = Verdict(case, plans, ran)
        verdict.check()
    except BaseException as exc:
        exc.add_note("The stages:\n" + "\n".join(f"  {plan}" for plan in plans))
        for log in logs:
            told = (
                f"  {index:4} {entry.at:8.4f} {entry.type} {shown(entry.data)}"
                for index, entry in enumerate(log.entries)
            )
            exc.add_note("What happened:\n" + "\n".join(told))
        raise
    return verdict


def shown(data: Mapping[str, Any]) -> str:
    keep = (
        "stage",
        "producer",
        "key",
        "item",
        "reason",
        "attempt",
        "round",
        "how",
        "error",
        "raised",
        "readers",
        "published",
    )
    return ", ".join(f"{key}={data[key]}" for key in keep if key in data)


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.timeout(1800 if DEEP else 60)
def test_random_graphs_with_streams(shard: int, bench: Bench):
    @settings(max_examples=EXAMPLES // SHARDS)
    @given(case=CASES)
    def examples(case: Case) -> None:
        try_case(case, bench)

    # The quick tier takes the same examples each time, but each shard its own.
    (seed(shard)(examples) if settings().derandomize else examples)()


def test_the_cases_have_everything_in_them(bench: Bench):
    rng, seen = random.Random(0), set[str]()
    for _ in range(600):
        stop, switches = rng.choice(STOPS), rng.randrange(sum(Switch) + 1)
        switches |= rng.choice((0, Switch.LOSSES | Switch.TROUBLES | Switch.PAUSES))
        drawn = {"size": rng.choice(SIZES), "seed": rng.randrange(1 << 24), "moment": rng.randint(0, 40)}
        case = case_of(stop, switches, mode=rng.choice(list(FailureMode)), **drawn)
        ran = bench.run(run(case, plans_of(case)))
        seen.add(str(ran.raised and type(ran.raised).__name__))
        seen |= {
            f"{event.type} seen" for event in ran.log.seen if event.type in {"stream.gap", "stream.chunk"}
        }
        for entry in ran.log.entries:
            seen.add(entry.type)
            seen.update(f"{key} {entry.data[key]}" for key in ("reason", "round", "how") if key in entry.data)
            if entry.type == "read.item":
                seen.add(type(entry.data["item"]).__name__)
                seen.update(
                    {"coalesced"}
                    if isinstance(entry.data["item"], tuple) and len(entry.data["item"]) > 1
                    else ()
                )
            if entry.type == "read.end":
                seen.add(f"read.end: {entry.data['error'] and type(entry.data['error'].__cause__).__name__}")
    assert seen >= {
        *(
            "StreamGap",
            "StreamRestart",
            "tuple",
            "coalesced",
            "stream.gap seen",
            "stream.chunk seen",
            "stream.closed",
        ),
        *("publish.cut", "read.cut", "read.end: None", "read.end: KeyError", "read.end: ValueError"),
        *("read.end: StageTimeoutError", "read.end: RuntimeError", "read.end: StreamBrokenError"),
        *(
            "reason has_published",
            "reason gate_closed",
            "reason dependency_failed",
            "reason branch_not_taken",
        ),
        *("reason dependency_skipped", "reason condition_false", "reason run_stopped", "round 2", "round 4"),
        *("effect.held", "effect.gate_opened", "effect.gate_closed", "stage.retry_exhausted"),
        *("None", "StageExecutionError", "PipelineCancelled", "RunTimeoutError", "CancelledError"),
        *(f"how {does}" for does in set(Does) - {Does.HANG, Does.RAISE}),
    }


# --- what builds, and what does not ------------------------------------------------------------------------------

MANY = 4
"""More chunks than a blocking reader takes that has come to a halt: one in its hand, one in its buffer."""


def circle_plans(size: int, number: int) -> list[Plan]:
    """Make stages that may wait for each other in a circle: all edges hold one chunk."""
    rng = random.Random(number)
    backward, streams, special = rng.choice((0.0, 0.0, 0.03)), rng.choice((0.2, 0.4, 0.6)), rng.random() < 0.4
    plans: list[Plan] = []
    for at in range(size):
        others = [f"s{one}" for one in range(size) if one < at or (one != at and rng.random() < backward)]
        edges, before = [], []
        for name in others:
            if rng.random() < streams:
                losing = rng.random() < 0.2
                edges.append(Edge(name, 1, Overflow.DROP_OLDEST if losing else Overflow.BLOCK))
            elif rng.random() < 0.25:
                before.append(name)
        gate, held = special and rng.random() < 0.25, special and rng.random() < 0.4
        plans.append(Plan(f"s{at}", tuple(before), tuple(edges), gate=gate, held=held and not gate))
    guards = [plan for plan in plans if plan.dependencies and not plan.held]
    if guards and rng.random() < 0.3:
        guard = rng.choice(guards)
        plans[plans.index(guard)] = replace(guard, sends_back=rng.choice(guard.dependencies))
    return plans


def halts(plans: Sequence[Plan]) -> bool:
    """Play the stages through, without a kernel: each that has read one item publishes many before it reads on."""
    holders, gates = holders_of(plans), gates_of(plans)
    started: set[str] = set()
    ended: set[str] = set()
    buffers = {(plan.name, edge.producer): deque[int]() for plan in plans for edge in plan.edges}
    readers = {
        plan.name: [(one.name, edge) for one in plans for edge in one.edges if edge.producer == plan.name]
        for plan in plans
    }
    running: list[Iterator[Callable[[], bool]]] = []

    def blocked(name: str) -> bool:
        return any(edge.blocks and one not in ended and buffers[one, name] for one, edge in readers[name])

    def publishes(name: str) -> Iterator[Callable[[], bool]]:
        for chunk in range(MANY if readers[name] else 0):
            yield lambda: not blocked(name)
            for one, _ in readers[name]:
                buffers[one, name].append(chunk)
                while len(buffers[one, name]) > 1:
                    buffers[one, name].popleft()

    def reads(name: str, producer: str, left: set[str]) -> Iterator[Callable[[], bool]]:
        buffer, has_read = buffers[name, producer], False
        while True:
            yield lambda: bool(buffer) or producer in ended
            if not buffer:
                break
            buffer.popleft()
            if not has_read:
                has_read = True
                yield from publishes(name)
        left.discard(producer)

    def stage(plan: Plan) -> Iterator[Callable[[], bool]]:
        waits = {*plan.dependencies, *holders[plan.name], *(gates if plan.held else ())}
        yield lambda: waits <= ended and started.issuperset(plan.producers)
        started.add(plan.name)
        left = set(plan.producers)
        running.extend(reads(plan.name, one, left) for one in plan.producers)
        if not left:
            yield from publishes(plan.name)
        yield lambda: not left
        ended.add(plan.name)

    running += [stage(plan) for plan in plans]
    pending: list[tuple[Iterator[Callable[[], bool]], Callable[[], bool]]] = []
    while True:
        pending += [(one, lambda: True) for one in running]
        running.clear()
        going, waiting = (
            [one for one, may in pending if may()],
            [(one, may) for one, may in pending if not may()],
        )
        if not going:
            return len(ended) < len(plans)
        pending = waiting
        for one in going:
            with suppress(StopIteration):
                pending.append((one, next(one)))


def busy_body(plan: Plan, is_read: bool) -> Callable[..., Any]:  # noqa: FBT001 - one fact
    """Make a body that reads all its streams at once, and publishes many chunks for the first that it gets of each."""

    async def publishes(ctx: StageContext) -> None:
        for chunk in range(MANY if is_read else 0):
            await ctx.publish(chunk)

    async def reads(ctx: StageContext, producer: str) -> None:
        has_read = False
        async for _ in ctx.stream(producer):
            if not has_read:
                has_read = True
                await publishes(ctx)

    async def body(ctx: StageContext) -> None:
        if not plan.edges:
            await publishes(ctx)
        async with asyncio.TaskGroup() as group:
            for producer in plan.producers:
                group.create_task(reads(ctx, producer))

    return body


def try_circle(size: int, number: int, bench: Bench) -> bool:
    """Build a pipeline that may halt, run it if that works, and say whether it did."""
    plans = circle_plans(size, number)
    ends = can_end(plans)
    assert ends is not halts(plans), "the model contradicts itself"
    read = {name for plan in plans for name in plan.producers}
    bodies = {plan.name: busy_body(plan, plan.name in read) for plan in plans}

    async def built_and_run() -> PipelineResults:
        return await graph_of(plans, bodies, FailureMode.FAIL_FAST, None).run()

    try:
        if ends and not crosses_a_loop(plans):
            results = bench.run(built_and_run())
            assert [output.status for output in results.values()] == ["ok"] * len(plans)
            return True
        with pytest.raises(PipelineValidationError) as caught:
            bench.run(built_and_run())
        codes = {problem.code for problem in caught.value.problems}
        assert codes <= REFUSALS
        free = [replace(plan, gate=False) for plan in plans]
        loose = [replace(plan, sends_back=None) for plan in free]
        if waits_in_a_circle(plans):
            assert codes & {
                "SF-BUILD-CYCLE",
                "SF-BUILD-STREAM-DEADLOCK",
            }  # one circle is told of several that touch
        elif crosses_a_loop(plans):
            assert "SF-BUILD-GUARD-RETRY" in codes
        elif can_end(free):
            assert codes == {"SF-BUILD-GATE"}
        elif not can_end(loose):
            assert "SF-BUILD-STREAM-DEADLOCK" in codes
    except BaseException as exc:
        exc.add_note("The stages:\n" + "\n".join(f"  {plan}" for plan in plans))
        raise
    return False


@pytest.mark.timeout(1800 if DEEP else 60)
@settings(max_examples=EXAMPLES)
@given(size=st.integers(2, 8), number=st.sampled_from(range(1 << 24)))
def test_what_builds_never_halts(bench: Bench, size: int, number: int):
    try_circle(size, number, bench)
