"""``InterceptorConformance``: what every interceptor promises, as tests."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pytest

from stageflow.errors import PipelineCancelled
from stageflow.interceptors.base import BaseInterceptor
from stageflow.interceptors.hardening import ImmutabilityInterceptor
from stageflow.runtime.cancellation import CancellationToken
from stageflow.stages.output import StageOutput
from stageflow.stages.retry import RetryPolicy
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind, StageStatus
from stageflow.testing.conformance.blocking import BlockingWatch
from stageflow.testing.conformance.body import LARGE, SCRIPTS, Outcome, outcome_of
from stageflow.testing.conformance.leftovers import Holdings, kept_runs, of_a_new_run
from stageflow.testing.conformance.suite import Suite
from stageflow.testing.conformance.tenants import CROWD, foreign_marks, tenant_snapshot, tenants_of
from stageflow.testing.factories import create_test_snapshot
from stageflow.testing.leaks import leak_check
from stageflow.testing.recorder import EventRecorder
from stageflow.testing.stage_run import run_stage
from stageflow.testing.sweep import Probe, cancel_everywhere

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.stages.context import StageContext

    Body = Callable[[StageContext], Awaitable[Any]]

__all__ = ["InterceptorConformance"]

_ASYNC: Final = {"before": 2, "after": 3, "on_error": 3, "fallback": 3, "around": 3}
_SYNC: Final = {"attach": 2, "failed": 4, "facts": 2, "reconsider": 0, "stage_timeout": 1, "stage_retry": 1}
"""The hooks, each with how many arguments it is called."""

_OUTPUTS: Final[Mapping[str, StageOutput]] = {
    "ok": StageOutput.ok({"deep": {"deeper": [1, None]}}, version="2"),
    "skip": StageOutput.skip("nothing to do"),
    "cancel": StageOutput.cancel("enough"),
    "fail": StageOutput.fail("it is broken", {"part": 3}),
}
_AFTER: Final = 20
_SLOW: Final = 5.0


class InterceptorConformance(Suite):
    """Derive from it in a module of tests, say how the interceptor is made, and inherit the tests.

    It is put around stages of every kind of outcome, in a context in which it lets them pass.

    Attributes:
        handles_errors: Whether it answers failures: with another attempt, a fallback, or an error of its own. Say True
            for one that does; its errors are then not compared.
        changes_output: Whether it changes what stages hand over. Say True for one that does.

    ```python
    from stageflow import BaseInterceptor
    from stageflow.testing.conformance import InterceptorConformance


    class Audit(BaseInterceptor):
        name = "acme.audit"

        async def before(self, stage_name, ctx):
            ctx.try_emit_event("audit", {"stage": stage_name, "user": str(ctx.user_id)})


    class TestAudit(InterceptorConformance):
        def make_interceptor(self):
            return Audit()
    ```
    """

    contract: ClassVar[str] = "interceptor"
    handles_errors: ClassVar[bool] = False
    changes_output: ClassVar[bool] = False

    def make_interceptor(self) -> BaseInterceptor:
        """Return a new interceptor."""
        raise NotImplementedError

    def make_context(self) -> ContextSnapshot[Any]:
        """Return what a run is started with that the interceptor lets pass."""
        return create_test_snapshot(input_text="Ada")

    def make_tenant_context(self, number: int) -> ContextSnapshot[Any]:
        """Return what the run of one of many tenants is started with: ``make_context()`` with other ids."""
        return tenant_snapshot(self.make_context(), number, text=True)

    def make_data(self, context: ContextSnapshot[Any]) -> Mapping[str, Any]:
        """Return what the caller of that run hands to interceptors, as ``run(data=...)``."""
        return {}

    # --- its form ---------------------------------------------------------------------------------------

    def test_it_is_an_interceptor(self) -> None:
        """It is a ``BaseInterceptor`` with a name of its own, a whole number as priority, and ``fail_closed`` said."""
        made: Any = self.make_interceptor()
        assert isinstance(made, BaseInterceptor)
        assert isinstance(made.name, str)
        assert made.name.strip()
        assert made.name != BaseInterceptor.name, "it has no name of its own"
        assert type(made.priority) is int, f"its priority is {made.priority!r}"
        assert type(made.fail_closed) is bool, f"its fail_closed is {made.fail_closed!r}"

    def test_its_hooks_are_well_formed(self) -> None:
        """Hooks that are awaited are async, the others are not, and each takes what it is called with."""
        made = self.make_interceptor()
        for name, count in (_ASYNC | _SYNC).items():
            hook = getattr(made, name)
            assert inspect.iscoroutinefunction(hook) == (name in _ASYNC), (
                f"{name} must {'' if name in _ASYNC else 'not '}be async"
            )
            inspect.signature(hook).bind(*range(count))

    def test_what_it_declares_makes_sense(self) -> None:
        """``stage_timeout`` gives None or seconds above zero, ``stage_retry`` None or a ``RetryPolicy``."""
        made = self.make_interceptor()
        for kind in StageKind:
            spec = StageSpec("stage", _echo, kind)
            limit: object = made.stage_timeout(spec)
            assert limit is None or (isinstance(limit, (int, float)) and limit > 0), (
                f"stage_timeout gave {limit!r}"
            )
            policy: object = made.stage_retry(spec)
            assert policy is None or isinstance(policy, RetryPolicy), f"stage_retry gave {policy!r}"

    # --- what passes ------------------------------------------------------------------------------------

    @pytest.mark.parametrize("output", _OUTPUTS)
    def test_an_output_passes(self, output: str) -> None:
        """Whatever a stage returns, its outcome is what it would have been without the interceptor."""
        if output == "fail" and self.handles_errors:
            pytest.skip("it says that it handles errors")

        async def answer(_: StageContext) -> StageOutput:
            await asyncio.sleep(0)
            return _OUTPUTS[output]

        self._passes(answer)

    @pytest.mark.parametrize(
        "error", [ValueError("no such date", 31), LookupError("nobody")], ids=["value", "lookup"]
    )
    def test_an_error_passes(self, error: Exception) -> None:
        """What a stage raises is what the caller gets, of the same type, with the same arguments."""
        if self.handles_errors:
            pytest.skip("it says that it handles errors")

        async def fail(_: StageContext) -> None:
            await asyncio.sleep(0)
            raise error

        self._passes(fail)

    def test_another_attempt_passes(self) -> None:
        """A stage that is attempted again is so with the interceptor, too, and every attempt passes through it."""

        async def flaky(ctx: StageContext) -> dict[str, Any]:
            if ctx.attempt <= 2:  # noqa: PLR2004 - the third works
                raise ConnectionError
            return {"attempt": ctx.attempt}

        self._passes(flaky, attempts=3)

    def test_a_slow_stage_passes(self) -> None:
        """A stage that takes five seconds, without a limit of its own, is not cut short."""

        async def slow(_: StageContext) -> dict[str, Any]:
            await asyncio.sleep(_SLOW)
            return {"slow": True}

        self._passes(slow)

    def test_a_time_limit_passes(self) -> None:
        """A stage over its limit fails as it would have."""
        if self.handles_errors:
            pytest.skip("it says that it handles errors")
        self._passes(_hang, timeout=1.0)

    def test_text_of_every_script_and_large_data_pass(self) -> None:
        """Texts beyond ASCII and a million characters pass as they are."""

        async def large(ctx: StageContext) -> dict[str, Any]:
            return {"text": SCRIPTS, "size": len(ctx.input_text or ""), "large": "x" * LARGE}

        self._passes(large, context=self.make_context().with_input(SCRIPTS * 1000))

    def test_it_changes_nothing_that_stages_are_given(self) -> None:
        """The snapshot and what the caller handed over are the same before and after."""
        self._drive(lambda: self._run(_echo, [ImmutabilityInterceptor(), self.make_interceptor()]))

    # --- cancelled --------------------------------------------------------------------------------------

    def test_a_cancel_passes(self) -> None:
        """A stage that is cancelled ends so, and the run with it: no hook turns that into something else."""

        async def main() -> None:
            token = CancellationToken()
            events = EventRecorder()

            async def hang(_: StageContext) -> None:
                token.cancel("enough")
                await asyncio.Event().wait()

            async with leak_check():
                with pytest.raises(PipelineCancelled):
                    await self._run_cancellable(hang, token, events)
            events.assert_paired(stages=["stage"], end="cancelled")
            assert events.of("stage")[-1] == "cancelled"

        self._drive(main)

    def test_a_cancel_at_every_await(self) -> None:
        """Wherever a run through it waits, a cancel there ends the run, and nothing is left behind."""

        def run(probe: Probe) -> Any:
            return self._run(_wait, [self.make_interceptor()], sink=probe.events)

        self._bounded(lambda: cancel_everywhere(run, name=type(self).__name__))

    def test_it_goes_on_after_a_cancel(self) -> None:
        """After a run that was cancelled, the same object lets the next one pass."""

        async def main() -> None:
            made = self.make_interceptor()
            running = asyncio.ensure_future(self._run(_hang, [made]))
            for _ in range(20):
                await asyncio.sleep(0)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            assert (await self._run(_echo, [made])).status is StageStatus.OK

        self._drive(main)

    # --- many at once -----------------------------------------------------------------------------------

    def test_fifty_runs_at_once_keep_apart(self) -> None:
        """One object around fifty runs of fifty tenants at once: each has its own results and events alone."""

        async def main() -> None:
            made = self.make_interceptor()
            tenants = tenants_of(self.make_tenant_context(number) for number in range(CROWD))
            arrived = 0
            everybody = asyncio.Event()

            async def meet(ctx: StageContext) -> dict[str, Any]:
                nonlocal arrived
                arrived += 1
                if arrived == CROWD:
                    everybody.set()
                await everybody.wait()
                return await _echo(ctx)

            sinks = [EventRecorder() for _ in tenants]
            outputs = await asyncio.gather(
                *(
                    self._run(meet, [made], context=tenant.snapshot, sink=sink)
                    for tenant, sink in zip(tenants, sinks, strict=True)
                )
            )
            for tenant, output, sink in zip(tenants, outputs, sinks, strict=True):
                seen = (dict(output.data), [event.data for event in sink])
                foreign = foreign_marks(seen, tenant, tenants)
                assert not foreign, f"the run of tenant {tenant.number} saw {foreign[:3]}"
                if not self.changes_output:
                    assert output.data == _said(tenant.snapshot)
                sink.assert_paired(end="completed")

        self._drive(main)

    def test_it_keeps_no_run_that_has_ended(self) -> None:
        """When runs have ended, well or badly, it holds none of their contexts."""

        async def main() -> Any:
            made = self.make_interceptor()
            snapshots = [of_a_new_run(self.make_tenant_context(number)) for number in range(6)]
            for number, snapshot in enumerate(snapshots):
                await outcome_of(self._run(_fail if number % 2 else _echo, [made], context=snapshot))
            return made, [snapshot.pipeline_run_id for snapshot in snapshots]

        made, run_ids = self._drive(main)
        kept = kept_runs(run_ids)
        assert not kept, f"{made!r} still holds the contexts of {len(kept)} runs"

    def test_many_runs_hold_no_more_than_a_few(self) -> None:
        """Threads, child processes, files and sockets do not add up from run to run."""

        async def main() -> None:
            made = self.make_interceptor()
            for _ in range(_AFTER):
                await self._run(_echo, [made])

        self._drive(main)
        before = Holdings.now()
        self._drive(main)
        assert not (more := Holdings.now().beyond(before)), more

    def test_it_serves_one_event_loop_after_another(self) -> None:
        """It belongs to no event loop, even if many runs wait in it at once."""
        made = self.make_interceptor()

        async def main() -> None:
            outputs = await asyncio.gather(*(self._run(_wait, [made]) for _ in range(CROWD)))
            assert {output.status for output in outputs} == {StageStatus.OK}

        for _ in range(3):
            self._drive_virtual(main)

    def test_it_blocks_nobody(self) -> None:
        """Its hooks do not sleep, connect, look up names or start processes on the event loop."""

        async def main() -> None:
            made = self.make_interceptor()
            bodies = (_echo, _fail)
            for body in bodies:
                await outcome_of(self._run(body, [made]))
            with BlockingWatch() as watch:
                for body in bodies:
                    await outcome_of(self._run(body, [made]))
            assert not watch.calls, watch.calls

        self._drive(main)

    # --- how it is proved -------------------------------------------------------------------------------

    async def _run(self, body: Body, chain: list[BaseInterceptor], **options: Any) -> StageOutput:
        snapshot = options.setdefault("context", self.make_context())
        options.setdefault("data", self.make_data(snapshot))
        return await run_stage(body, interceptors=chain, name="stage", **options)

    async def _run_cancellable(self, body: Body, token: CancellationToken, events: EventRecorder) -> None:
        from stageflow.pipeline.builder import Pipeline

        snapshot = self.make_context()
        graph = (
            Pipeline("proved")
            .with_stage("stage", body, StageKind.TRANSFORM)
            .build(interceptors=[self.make_interceptor()])
        )
        await graph.run(snapshot, data=self.make_data(snapshot), sink=events, cancel_token=token)

    def _passes(self, body: Body, **options: Any) -> None:
        """Run a stage without the interceptor and with it, and compare how it ends."""

        async def main() -> tuple[Outcome, Outcome]:
            expected = await outcome_of(self._run(body, [], **options))
            events = EventRecorder()
            async with leak_check():
                seen = await outcome_of(self._run(body, [self.make_interceptor()], sink=events, **options))
            events.assert_paired()
            return expected, seen

        expected, seen = self._drive_virtual(main)
        assert seen.status == expected.status, f"{seen} instead of {expected}"
        if not self.changes_output or seen.status == "raised":
            assert seen == expected


def _said(snapshot: ContextSnapshot[Any]) -> dict[str, Any]:
    return {"text": snapshot.input_text, "user": str(snapshot.user_id), "org": str(snapshot.org_id)}


async def _echo(ctx: StageContext) -> dict[str, Any]:
    await asyncio.sleep(0)
    return _said(ctx.snapshot)


async def _wait(ctx: StageContext) -> dict[str, Any]:
    await asyncio.sleep(1)
    return _said(ctx.snapshot)


async def _fail(_: StageContext) -> None:
    await asyncio.sleep(0)
    msg = "it is broken"
    raise ValueError(msg)


async def _hang(_: StageContext) -> None:
    await asyncio.sleep(3600)
