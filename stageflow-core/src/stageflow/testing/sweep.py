"""``cancel_everywhere``: runs something once for each of its await points, with a cancel there.

A first run, in which nothing is cancelled, finds the await points: every suspension of every Task that the run
starts, seen from inside the Task (``Stepped``), and every wait in which nothing but a timer is left (a jump of the
virtual clock). Each further run delivers one cancel at one of them. A virtual clock and seeded random numbers make all
runs alike up to that point. They need not be equal: a lane that keeps the event loop for long gives way in between, so
a point is known by who waits where for the how-manieth time, and a run that does not come by there is repeated.
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

from stageflow.testing.cancelling import deliver
from stageflow.testing.clock import VirtualClockLoop
from stageflow.testing.leaks import LeakWatch
from stageflow.testing.recorder import EventRecorder
from stageflow.testing.stepping import Stepped
from stageflow.testing.whereabouts import innermost, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence
    from types import CodeType

    from stageflow.testing.cancelling import Moment

__all__ = ["AwaitPoint", "CancelFailure", "CancelReport", "Probe", "Target", "cancel_everywhere"]

Target = Literal["caller", "task", "all"]
"""Who is cancelled: the *caller* of the run; the *task* that is suspending, as when a stage cancels itself; or *all*
Tasks at once, as ``asyncio.run`` does when it ends."""


@final
class AwaitPoint(NamedTuple):
    """A place in a run where somebody waits.

    Attributes:
        number: Its place in the run, from 1.
        task: Who waits: ``"caller"``, or ``"task 3"`` for the third Task that the run started. ``"clock"`` stands for
            a wait in which only a timer is left.
        where: The innermost function that waits, and its line.
    """

    number: int
    task: str
    where: str

    def __str__(self) -> str:
        return f"{self.task}, await {self.number}, in {self.where}"


@final
class CancelFailure(NamedTuple):
    """A cancel that did not end as it should.

    Attributes:
        point: Where the cancel was delivered; None in the run without one.
        moment: Whether before what was awaited had happened, or after.
        target: Who was cancelled.
        problems: What was wrong then.
        timeline: The events of the run, as text.
    """

    point: AwaitPoint | None
    moment: Moment
    target: Target
    problems: tuple[str, ...]
    timeline: str

    def __str__(self) -> str:
        where = (
            "without a cancel"
            if self.point is None
            else f"{self.target} cancelled {self.moment} {self.point}"
        )
        return "\n".join([f"{where}:", *(f"    {problem}" for problem in self.problems), self.timeline])


@final
class Probe:
    """What a run under ``cancel_everywhere`` gets: a sink, and a place to say what must be zero at its end.

    Attributes:
        events: The sink to run with, a recorder.
    """

    __slots__ = ("_counts", "events")

    def __init__(self) -> None:
        self.events = EventRecorder()
        self._counts: dict[str, Callable[[], int]] = {}

    def expect_none(self, what: str, count: Callable[[], int]) -> None:
        """Ask *count* when the run has ended: how many of *what* (claims, places, connections) are still held.

        ```python
        from stageflow.testing import Probe

        probe = Probe()
        probe.expect_none("claims", lambda: 2)
        print(probe.left())
        #> ['2 claims are left']
        ```
        """
        self._counts[what] = count

    def left(self) -> list[str]:
        """Return what is held that should not be."""
        return [f"{number} {what} are left" for what, count in self._counts.items() if (number := count())]


@final
class CancelReport:
    """What ``cancel_everywhere`` has found.

    Attributes:
        name: What was run.
        points: The await points.
        runs: How many runs there were, the first without a cancel not counted.
        delivered: How many cancels arrived; others came too late, as what was awaited never happened.
        missed: Points that no run came by again: chance, such as a lane that gave way on a busy machine.
        outcomes: How often the call ended in which way.
        failures: The cancels that did not end as they should.
    """

    __slots__ = ("delivered", "failures", "missed", "name", "outcomes", "points", "runs")

    def __init__(self, name: str, points: Sequence[AwaitPoint]) -> None:
        self.name = name
        self.points = tuple(points)
        self.runs = 0
        self.delivered = 0
        self.missed: list[AwaitPoint] = []
        self.outcomes: dict[str, int] = {}
        self.failures: list[CancelFailure] = []

    def count(self, task: str) -> int:
        """Return how many await points are the caller's, a Task's or the clock's."""
        return sum(point.task == task for point in self.points)

    def __str__(self) -> str:
        caller, clock = self.count("caller"), self.count("clock")
        outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        return (
            f"cancel everywhere: {self.name}\n"
            f"  {len(self.points)} await points: caller {caller}, stages and helpers "
            f"{len(self.points) - caller - clock}, timers {clock}\n"
            f"  {self.runs} runs, {self.delivered} cancels delivered; the call ended {outcomes or 'never'}\n"
            f"  {len(self.failures)} failures" + (f", {len(self.missed)} missed" if self.missed else "")
        )


def cancel_everywhere(
    make: Callable[[Probe], Coroutine[Any, Any, object]],
    *,
    name: str | None = None,
    targets: Sequence[Target] = ("caller", "task", "all"),
    moments: Sequence[Moment] = ("before", "after"),
    again: bool = False,
    raise_failures: bool = True,
) -> CancelReport:
    """Run something once for each of its await points, with a cancel there, and check what is left.

    At the very moment in which the call returns or raises, there must be no Task, no timer, no unfinished async
    generator, and nothing of what ``probe.expect_none`` counts. The events must pair (``EventRecorder.assert_paired``:
    exactly one terminal event for the run and for each stage that started). A cancelled caller must see its
    ``CancelledError``. Nothing may end up in the event loop's exception handler. The counts are printed.

    Args:
        make: Called for each run: makes the coroutine, with a graph, stores and stages of its own, and
            ``sink=probe.events``.
        name: What is run, for the report; the name of *make* by default.
        targets: Who is cancelled, each in a run of its own.
        moments: Whether the cancel arrives before what is awaited has happened, or just after.
        again: Cancel the caller a second time, at the first await point that follows.
        raise_failures: False returns the report also when there are failures.

    Raises:
        AssertionError: Something was wrong in one of the runs; the message shows where the cancel was, and the
            timeline.

    ```python
    from stageflow import Pipeline, RetryPolicy, StageKind
    from stageflow.testing import FailingStage, cancel_everywhere


    def retried(probe):
        stage = FailingStage(ConnectionError("no route"), times=1)
        pipeline = Pipeline().with_stage("fetch", stage, StageKind.ENRICH, retry=RetryPolicy(base_delay=5))
        return pipeline.run(sink=probe.events)


    report = cancel_everywhere(retried)
    #> cancel everywhere: retried
    #>   2 await points: caller 1, stages and helpers 0, timers 1
    #>   6 runs, 6 cancels delivered; the call ended 6 cancelled
    #>   0 failures
    print(report.points[0].where.partition(" (")[0])
    #> Run._outlast
    ```
    """
    title = name or getattr(make, "__qualname__", repr(make)).rpartition("<locals>.")[2]
    first, problems = _settled(make)
    report = CancelReport(title, first.points)
    if problems:
        report.failures.append(CancelFailure(None, "before", "caller", tuple(problems), first.timeline))
    for plan in _plans(first, targets, moments, again=again):
        one, problems = _delivered(make, plan)
        report.runs += 1
        report.delivered += one.delivered
        if not one.reached:
            report.missed.append(plan.point)
        report.outcomes[one.outcome] = report.outcomes.get(one.outcome, 0) + 1
        if problems:
            failure = CancelFailure(plan.point, plan.moment, plan.target, tuple(problems), one.timeline)
            report.failures.append(failure)
    sys.stdout.write(f"{report}\n")
    if report.failures and raise_failures:
        shown = "\n".join(map(str, report.failures[:_SHOWN]))
        more = len(report.failures) - _SHOWN
        msg = f"{report}\n{shown}" + (f"\nand {more} more" if more > 0 else "")
        raise AssertionError(msg)
    return report


_SHOWN = 5
_TRIES = 20


_Key = tuple[str, "CodeType | None", int, int]
"""Who waits, in which code, on which line, for the how-manieth time."""


class _Plan(NamedTuple):
    point: AwaitPoint
    key: _Key
    moment: Moment
    target: Target
    again: bool


def _plans(
    first: _Pass, targets: Sequence[Target], moments: Sequence[Moment], *, again: bool
) -> Iterator[_Plan]:
    for key, point in zip(first.keys, first.points, strict=True):
        for target in targets:
            if target == "task" and point.task in {"caller", "clock"}:
                continue  # the caller is a target of its own, and the clock is nobody
            for moment in moments:
                if point.task == "clock" and moment == "after" and "before" in moments:
                    continue  # the clock has one moment: the one before it jumps
                yield _Plan(point, key, moment, target, again)


def _settled(make: Callable[[Probe], Coroutine[Any, Any, object]]) -> tuple[_Pass, list[str]]:
    """Run without a cancel until two runs in a row have the same await points; the first imports modules."""
    one = _Pass(make, None)
    problems = one.run()
    for _ in range(_TRIES):
        before, one = one, _Pass(make, None)
        problems = one.run()
        if problems or one.keys == before.keys:
            break
    return one, problems


def _delivered(make: Callable[[Probe], Coroutine[Any, Any, object]], plan: _Plan) -> tuple[_Pass, list[str]]:
    """Run with a cancel; again if the run did not come by the point."""
    one = _Pass(make, plan)
    problems = one.run()
    for _ in range(_TRIES):
        if one.reached or problems:
            break
        one = _Pass(make, plan)
        problems = one.run()
    return one, problems


class _Pass:
    """One run, with one cancel or with none."""

    def __init__(self, make: Callable[[Probe], Coroutine[Any, Any, object]], plan: _Plan | None) -> None:
        self.probe = Probe()
        self.keys: list[_Key] = []
        self.reached = False
        self.delivered = False
        self.outcome = "never"
        self._seen: dict[tuple[str, CodeType | None, int], int] = {}
        self._make = make
        self._plan = plan
        self._problems: list[str] = []
        self._caller: asyncio.Task[object] | None = None
        self._main: asyncio.Task[Any] | None = None
        self._names: dict[asyncio.Task[Any], str] = {}
        self._watch: LeakWatch | None = None
        self._counting = False
        self._again = False

    @property
    def points(self) -> list[AwaitPoint]:
        return [
            AwaitPoint(number, name, shown(None if code is None else (code, line)))
            for number, (name, code, line, _) in enumerate(self.keys, 1)
        ]

    @property
    def timeline(self) -> str:
        return self.probe.events.timeline()

    def run(self) -> list[str]:
        """Run, and return what was wrong."""
        state = random.getstate()
        random.seed(0)
        try:
            with asyncio.Runner(loop_factory=self._loop) as runner:
                runner.run(self._drive())
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - a stalled loop, or an error of ours: both are findings
            self._problems.append(f"the run did not end: {type(exc).__name__}: {exc}")
        finally:
            random.setstate(state)
            self._counting = False
        for task, name in self._names.items():
            # What a Task says when it goes; which may be late, if it is part of a cycle.
            if task.done() and not task.cancelled() and getattr(task, "_log_traceback", False):
                self._problems.append(f"nobody has retrieved the exception of {name}: {task.exception()!r}")
        self._caller = self._main = self._watch = None
        self._names.clear()
        self._check_events()
        return self._problems

    def _loop(self) -> VirtualClockLoop:
        loop = VirtualClockLoop(patience=0.2)
        loop.set_task_factory(self._task)
        loop.set_exception_handler(self._complain)
        loop.before_jump = self._jumps
        return loop

    async def _drive(self) -> None:
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        coro = self._make(self.probe)
        with LeakWatch() as self._watch:
            self._counting = True
            self._caller = loop.create_task(coro)
            await asyncio.wait([self._caller])
        caller = self._caller
        self.outcome = (
            "cancelled" if caller.cancelled() else "with an error" if caller.exception() else "well"
        )
        plan = self._plan
        if self.delivered and plan is not None and plan.target != "task" and not caller.cancelled():
            error = caller.exception()
            ended = "returned" if error is None else f"raised {type(error).__name__}: {error}"
            self._problems.append(f"the caller was cancelled, but the call {ended}")

    def _task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a Task whose suspensions are seen."""
        if not self._counting:
            return asyncio.Task(coro, loop=loop, **options)
        own: list[asyncio.Task[Any]] = []
        is_caller = self._caller is None
        step = Stepped(
            coro, lambda waiting: self._suspends(own[0], waiting), self._ends if is_caller else None
        )
        task: asyncio.Task[Any] = asyncio.Task(step, loop=loop, **options)
        own.append(task)
        self._names[task] = f"task {len(self._names)}" if self._names else "caller"
        if is_caller:
            self._caller = task
        return task

    def _suspends(self, task: asyncio.Task[Any], waiting: object) -> None:
        self._reach(task, self._names[task], waiting)

    def _jumps(self) -> bool:
        return self._reach(None, "clock", None)

    def _reach(self, task: asyncio.Task[Any] | None, name: str, waiting: object) -> bool:
        """An await point has been reached; returns whether a cancel was delivered at once."""
        plan = self._plan
        if not self._counting:
            return False
        key = self._key(task, name)  # in every run, so that all take about as long
        if plan is None:
            self.keys.append(key)
            return False
        if self._again:
            self._again = False
            self._cancel([self._caller])
            return True
        if self.reached or key != plan.key:
            return False
        self.reached = True
        victims: list[asyncio.Task[Any] | None]
        if plan.target == "all":
            # Which comes first is chance in asyncio; here the helpers before those who wait for them.
            victims = [one for one in reversed(self._names) if not one.done()]
        else:
            victims = [self._caller if plan.target == "caller" else task]
        if task is None:
            self._cancel(victims)
            return self.delivered
        deliver(lambda: self._cancel(victims), waiting, plan.moment)
        return plan.moment == "before"

    def _cancel(self, victims: Sequence[asyncio.Task[Any] | None]) -> None:
        if not self._counting:
            return  # the call has ended before what was awaited happened
        plan = self._plan
        for victim in victims:
            if victim is not None and victim.cancel():
                self.delivered = True
        if plan is not None and plan.again and not self._again:
            self._again = True
            self._plan = plan._replace(again=False)

    def _key(self, task: asyncio.Task[Any] | None, name: str) -> _Key:
        code, line = innermost(self._caller if task is None else task) or (None, 0)
        place = name, code, line
        self._seen[place] = times = self._seen.get(place, 0) + 1
        return *place, times

    def _ends(self) -> None:
        """The call has returned or raised, at this very moment."""
        self._counting = False
        if self._watch is not None and self._main is not None:
            self._problems += [f"left behind: {leak}" for leak in self._watch.found(ignore=[self._main])]
        self._problems += self.probe.left()

    def _complain(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._problems.append(f"the event loop's exception handler got: {context['message']} {error!r}")

    def _check_events(self) -> None:
        if self.outcome == "cancelled" and not len(self.probe.events):
            return  # it never got as far as to start
        try:
            self.probe.events.assert_paired()
        except AssertionError as exc:
            self._problems.append(str(exc).partition("\nThe timeline:")[0])
