"""``BodySuite``: what stages and tools have in common, since both run inside a stage of somebody's run."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, final

import pytest

from stageflow.context.frozen import thaw
from stageflow.interceptors.hardening import ImmutabilityInterceptor
from stageflow.stages.stage import StageStatus
from stageflow.testing.conformance.blocking import BlockingWatch
from stageflow.testing.conformance.leftovers import Holdings, kept_runs, of_a_new_run
from stageflow.testing.conformance.suite import Suite
from stageflow.testing.conformance.tenants import (
    CROWD,
    Tenant,
    foreign_marks,
    mark_of,
    tenant_snapshot,
    tenants_of,
)
from stageflow.testing.factories import create_test_snapshot
from stageflow.testing.faults import fault
from stageflow.testing.leaks import leak_check
from stageflow.testing.recorder import EventRecorder
from stageflow.testing.stage_run import run_stage
from stageflow.testing.sweep import Probe, cancel_everywhere

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.stages.output import StageOutput

    Rewrite = Callable[[str], str]

__all__ = ["LARGE", "SCRIPTS", "BodySuite", "Outcome", "outcome_of"]

SCRIPTS: Final = "naïve 文字 עברית \u202e 👩‍👩‍👧 \x00 \ufeff e\u0301"
"""Text of several scripts, with what breaks programs: a mark that turns the direction, a zero byte, joined signs."""

LARGE: Final = 1_000_000
"""How many characters a large text has."""

_MOST_AWAITS: Final = 200
_AFTER: Final = 20  # runs after which nothing more may be held


@final
class Outcome(NamedTuple):
    """How a run of the part has ended, to compare it with others.

    Attributes:
        status: The output's status, or ``"raised"``.
        data: The output's data, or the type of what was raised.
        error: What it says of a failure.
    """

    status: str
    data: Any
    error: str | None


class BodySuite(Suite):
    """Derive from ``StageConformance`` or ``ToolConformance``.

    Attributes:
        takes_any_text: Whether the part works with any text in the place of the one that the suite is given. Say False
            for one that takes the name of a file, or a keyword; it is then given its own text only.
        repeatable: Whether equal input gives equal output. Say False for one that answers with an id, a time, or
            something drawn at random; only the kind of its outcomes is compared then.
        plain_output: Whether JSON can say what it hands over. Say False for one that hands over arrays or handles.
    """

    takes_any_text: ClassVar[bool] = True
    repeatable: ClassVar[bool] = True
    plain_output: ClassVar[bool] = True

    def make_context(self) -> ContextSnapshot[Any]:
        """Return what a run is started with in which the part does its work well."""
        return create_test_snapshot(input_text="Ada")

    def make_tenant_context(self, number: int) -> ContextSnapshot[Any]:
        """Return what the run of one of many tenants is started with: ``make_context()`` with other ids.

        Override it where the part knows its tenants.
        """
        return tenant_snapshot(self.make_context(), number, text=self.takes_any_text)

    # --- in its own place -------------------------------------------------------------------------------

    def test_it_does_its_work(self) -> None:
        """A run with it ends OK or SKIP, tells its start and its end, and leaves no Task, timer or generator."""

        async def main() -> None:
            events = EventRecorder()
            async with leak_check():
                output = await self._run(self._made(), sink=events)
            assert output.status in (StageStatus.OK, StageStatus.SKIP), output
            events.assert_paired(end="completed")

        self._drive(main)

    def test_its_output_is_plain(self) -> None:
        """JSON can say what it hands over, so that a browser, another process and another day can read it."""
        if not self.plain_output:
            pytest.skip("plain_output is False")
        output = self._drive(lambda: self._run(self._made()))
        json.dumps(thaw(output.data), allow_nan=False)

    def test_it_changes_nothing_that_it_is_given(self) -> None:
        """The snapshot, the inputs and what the caller handed over are after the run what they were before."""
        self._drive(lambda: self._run(self._made(), interceptors=[ImmutabilityInterceptor()]))

    def test_it_blocks_nobody(self) -> None:
        """It does not sleep, connect, look up names or start processes on the event loop, which is everybody's."""

        async def main() -> None:
            part = self._made()
            await self._run(part)  # what is imported and opened once is
            with BlockingWatch() as watch:
                await self._run(part)
            assert not watch.calls, watch.calls

        self._drive(main)

    # --- cancelled, broken, late ------------------------------------------------------------------------

    def test_a_cancel_at_every_await(self) -> None:
        """Wherever a run waits, a cancel there ends it, with its events told and nothing left behind."""

        def run(probe: Probe) -> Any:
            return self._run(self._made(), sink=probe.events)

        self._bounded(lambda: cancel_everywhere(run, name=type(self).__name__))

    def test_a_cancel_is_passed_on(self) -> None:
        """Cancelled at any of its awaits, it cleans up and lets the cancel pass; it does not answer all the same."""

        async def main() -> None:
            for at in range(1, _MOST_AWAITS):
                broken = fault(self._made_stage(), at=at, cancels=True)
                try:
                    async with leak_check():
                        output = await self._run_stage(broken)
                except asyncio.CancelledError:
                    continue
                if not broken.injected:
                    return
                pytest.fail(f"cancelled at its await {at}, it went on and ended with {output}")

        self._drive_virtual(main)

    def test_an_error_at_every_await(self) -> None:
        """If anything that it awaits fails, it ends with an output or an exception, and leaves nothing behind."""

        async def main() -> None:
            for at in range(1, _MOST_AWAITS):
                broken = fault(self._made_stage(), at=at, raises=ConnectionError("a fault, on purpose"))
                async with leak_check():
                    await outcome_of(self._run_stage(broken))
                if not broken.injected:
                    return

        self._drive_virtual(main)

    def test_slowness_at_every_await(self) -> None:
        """If anything that it awaits never comes, its time limit ends it, and nothing is left behind."""

        async def main() -> None:
            for at in range(1, _MOST_AWAITS):
                broken = fault(self._made_stage(), at=at, hangs=True)
                async with leak_check():
                    await outcome_of(self._run_stage(broken, timeout=5.0))
                if not broken.injected:
                    return

        self._drive_virtual(main)

    def test_it_goes_on_after_a_cancel(self) -> None:
        """The same object, cancelled in one run, does its work in the next."""

        async def main() -> None:
            expected = await outcome_of(self._run(self._made()))
            for at in range(1, _MOST_AWAITS):
                part = self._made()
                broken = fault(self._stage_of(part), at=at, cancels=True)
                with contextlib.suppress(asyncio.CancelledError):
                    await self._run_stage(broken)
                self._assert_alike(await outcome_of(self._run(part)), expected)
                if not broken.injected:
                    return

        self._drive_virtual(main)

    # --- many at once -----------------------------------------------------------------------------------

    def test_fifty_runs_at_once_keep_apart(self) -> None:
        """One object in fifty runs of fifty tenants at once gives each what it would have been given alone."""

        async def main() -> None:
            tenants = self._tenants()
            alone = [await outcome_of(self._run_of(self._made(), one)) for one in tenants]
            part = self._made()
            sinks = [EventRecorder() for _ in tenants]
            runs = [self._run_of(part, one, sink=sink) for one, sink in zip(tenants, sinks, strict=True)]
            together = await asyncio.gather(*map(outcome_of, runs))
            for tenant, expected, seen, sink in zip(tenants, alone, together, sinks, strict=True):
                self._assert_own(tenant, tenants, seen, sink)
                self._assert_alike(seen, expected)

        self._drive_virtual(main)

    def test_a_run_finds_nothing_of_the_one_before(self) -> None:
        """One object, run for one tenant after another, keeps nothing of one for the next."""

        async def main() -> None:
            tenants = self._tenants()[:3]
            part = self._made()
            for tenant in (*tenants, tenants[0]):
                events = EventRecorder()
                seen = await outcome_of(self._run_of(part, tenant, sink=events))
                self._assert_own(tenant, tenants, seen, events)
                self._assert_alike(seen, await outcome_of(self._run_of(self._made(), tenant)))

        self._drive_virtual(main)

    def test_it_keeps_no_run_that_has_ended(self) -> None:
        """When runs have ended, it holds none of their contexts, which would be memory, and somebody's data."""

        async def main() -> Any:
            part = self._made()
            tenants = tenants_of(of_a_new_run(self.make_tenant_context(number)) for number in range(5))
            for tenant in tenants:
                await outcome_of(self._run_of(part, tenant))
            return part, [tenant.snapshot.pipeline_run_id for tenant in tenants]

        part, run_ids = self._drive_virtual(main)
        kept = kept_runs(run_ids)
        assert not kept, f"{part!r} still holds the contexts of {len(kept)} runs"

    def test_many_runs_hold_no_more_than_a_few(self) -> None:
        """Threads, child processes, files and sockets do not add up from run to run."""

        async def main() -> None:
            part = self._made()
            for _ in range(_AFTER):
                await self._run(part)

        self._drive_virtual(main)
        before = Holdings.now()
        self._drive_virtual(main)
        assert not (more := Holdings.now().beyond(before)), more

    def test_it_serves_one_event_loop_after_another(self) -> None:
        """It belongs to no event loop: a program may run several, one after another."""
        part = self._made()
        outcomes = [self._drive(lambda: outcome_of(self._run(part))) for _ in range(3)]
        for outcome in outcomes:
            assert outcome.status in {"ok", "skip"}, outcome
            self._assert_alike(outcome, outcomes[0])

    # --- odd and large texts ----------------------------------------------------------------------------

    def test_text_of_every_script(self) -> None:
        """Text beyond ASCII ends as its own text does."""
        self._text_works(lambda text: f"{text} {SCRIPTS}")

    def test_large_text(self) -> None:
        """A million characters end as its own text does."""
        self._text_works(lambda text: f"{text} {'x' * LARGE}")

    def _text_works(self, rewrite: Rewrite) -> None:
        if not self.takes_any_text:
            pytest.skip("takes_any_text is False")

        async def main() -> None:
            expected = await outcome_of(self._run(self._made()))
            text = self.make_context().input_text
            snapshot = self.make_context().with_input(None if text is None else rewrite(text))
            stage = self._stage_of(self._made(), rewrite)
            seen = await outcome_of(self._run_stage(stage, context=snapshot))
            assert seen.status == expected.status, seen

        self._drive(main)

    # --- how it is proved -------------------------------------------------------------------------------

    def _made(self) -> Any:
        """Return a new part."""
        raise NotImplementedError

    def _stage_of(self, part: Any, rewrite: Rewrite | None = None) -> Any:
        """Return the stage that the part is or runs in, with its own texts rewritten."""
        raise NotImplementedError

    def _inputs(self) -> Mapping[str, StageOutput | Mapping[str, Any]]:
        """Return what the stage's dependencies have left."""
        return {}

    def _made_stage(self) -> Any:
        return self._stage_of(self._made())

    async def _run(self, part: Any, **options: Any) -> StageOutput:
        return await self._run_stage(self._stage_of(part), **options)

    async def _run_of(self, part: Any, tenant: Tenant, **options: Any) -> StageOutput:
        mark = mark_of(tenant.number)
        stage = self._stage_of(part, lambda text: f"{text} {mark}")
        return await self._run_stage(stage, context=tenant.snapshot, **options)

    async def _run_stage(self, stage: Any, **options: Any) -> StageOutput:
        options.setdefault("context", self.make_context())
        return await run_stage(stage, prior_outputs=self._inputs(), **options)

    def _tenants(self) -> list[Tenant]:
        return tenants_of(self.make_tenant_context(number) for number in range(CROWD))

    def _assert_alike(self, seen: Outcome, expected: Outcome) -> None:
        if self.repeatable:
            assert seen == expected
        else:
            assert seen.status == expected.status, seen

    def _assert_own(
        self, tenant: Tenant, everybody: list[Tenant], seen: Outcome, events: EventRecorder
    ) -> None:
        foreign = foreign_marks((seen, [event.data for event in events]), tenant, everybody)
        assert not foreign, f"the run of tenant {tenant.number} saw {foreign[:3]}"


async def outcome_of(running: Any) -> Outcome:
    """Await a run of one stage, and say how it ended; what it raises is an outcome, too."""
    try:
        output: StageOutput = await running
    except Exception as exc:  # noqa: BLE001 - that it raises is what is looked at
        return Outcome("raised", type(exc), str(exc))
    return Outcome(output.status.value, thaw(output.data), output.error)
