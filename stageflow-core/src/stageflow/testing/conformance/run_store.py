"""``RunStoreConformance``: what every run store promises, as tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast
from uuid import UUID, uuid4

import pytest

from stageflow.pipeline.builder import Pipeline
from stageflow.protocols import RunStore
from stageflow.runtime.recording import Recording
from stageflow.stages.stage import StageKind
from stageflow.testing.cancelling import CancelAt
from stageflow.testing.conformance.blocking import BlockingWatch
from stageflow.testing.conformance.body import LARGE, SCRIPTS
from stageflow.testing.conformance.leftovers import Holdings
from stageflow.testing.conformance.suite import Suite, close
from stageflow.testing.conformance.tenants import CROWD, tenant_snapshot
from stageflow.testing.factories import create_test_snapshot
from stageflow.testing.leaks import leak_check

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from stageflow.stages.context import StageContext

__all__ = ["RunStoreConformance"]

_KEPT: Final = 1000  # of a text of a million characters, at the least
_MOST_AWAITS: Final = 50
_AFTER: Final = 10


class RunStoreConformance(Suite):
    """Derive from it in a module of tests, say how the store is made, and inherit the tests.

    A record may be a mapping or an object; override ``field`` for another form. If the store has ``aclose()`` or
    ``close()``, that is called; otherwise override ``close``.

    ```python
    from stageflow.testing import RecordingRunStore
    from stageflow.testing.conformance import RunStoreConformance


    class TestRecording(RunStoreConformance):
        def make_store(self):
            return RecordingRunStore()
    ```
    """

    contract: ClassVar[str] = "run store"

    def make_store(self) -> RunStore | Awaitable[RunStore]:
        """Return a new store that knows no run yet, or something to await that gives one."""
        raise NotImplementedError

    def field(self, record: Any, name: str) -> Any:
        """Return a field of what ``get_run`` and ``create_run`` return; None where there is none."""
        if isinstance(record, Mapping):
            return cast("Mapping[str, Any]", record).get(name)
        return getattr(record, name, None)

    async def close(self, store: Any) -> None:
        """Close the store, if it can be closed."""
        await close(store)

    # --- its form ---------------------------------------------------------------------------------------

    def test_it_is_a_run_store(self) -> None:
        """It has ``create_run``, ``update_status`` and ``get_run``, all async, which take what a run tells them."""

        async def main(store: RunStore) -> None:
            assert isinstance(store, RunStore)
            for method in (store.create_run, store.update_status, store.get_run):
                assert inspect.iscoroutinefunction(method), f"{method} is not async"
            inspect.signature(store.create_run).bind(
                UUID(int=1), service="s", topology=None, execution_mode=None, status="created", org_id=None
            )
            inspect.signature(store.update_status).bind(
                UUID(int=1), "failed", error="e", duration_ms=1, stage="s"
            )

        self._with_store(main)

    # --- one run ----------------------------------------------------------------------------------------

    def test_an_unknown_run_is_none(self) -> None:
        """``get_run`` returns None for a run that nobody has created; it does not raise."""

        async def main(store: RunStore) -> None:
            assert await store.get_run(uuid4()) is None
            await store.create_run(uuid4(), service="chat")
            assert await store.get_run(uuid4()) is None

        self._with_store(main)

    def test_a_created_run_is_known(self) -> None:
        """What ``create_run`` was told is in what it returns, and in what ``get_run`` returns."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            told = {"service": "chat", "topology": "fast", "execution_mode": "practice", "status": "created"}
            made = await store.create_run(run_id, **told)
            for record in (made, await store.get_run(run_id)):
                assert record is not None
                assert {name: self.field(record, name) for name in told} == told

        self._with_store(main)

    def test_what_is_not_said_has_the_defaults(self) -> None:
        """A run of which only the service is told has the status ``"created"``, and no topology."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            await store.create_run(run_id, service="chat")
            record = await store.get_run(run_id)
            assert self.field(record, "status") == "created"
            assert self.field(record, "topology") is None

        self._with_store(main)

    def test_metadata_is_taken(self) -> None:
        """Fields that the protocol does not name, of plain types, None and ids among them, are taken."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            more: dict[str, Any] = {
                "pipeline_name": "greeting",
                "org_id": uuid4(),
                "note": None,
                "tags": ["a"],
                "depth": 2,
            }
            await store.create_run(run_id, service="chat", **more)
            await store.update_status(run_id, "running", stage="greet", attempt=2, reason=None)
            assert self.field(await store.get_run(run_id), "status") == "running"

        self._with_store(main)

    def test_an_update_is_seen(self) -> None:
        """Status, error and duration are what the last update said; what it did not name stays."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            await store.create_run(run_id, service="chat", topology="fast")
            await store.update_status(run_id, "running")
            await store.update_status(run_id, "failed", error="no route", duration_ms=12)
            record = await store.get_run(run_id)
            seen = {
                name: self.field(record, name)
                for name in ("status", "error", "duration_ms", "service", "topology")
            }
            assert seen == {
                "status": "failed",
                "error": "no route",
                "duration_ms": 12,
                "service": "chat",
                "topology": "fast",
            }

        self._with_store(main)

    def test_an_update_of_an_unknown_run_harms_nothing(self) -> None:
        """It may raise or be ignored; the runs that are known stay what they are."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            await store.create_run(run_id, service="chat")
            with suppress(Exception):
                await store.update_status(uuid4(), "failed", error="nobody")
            assert self.field(await store.get_run(run_id), "status") == "created"
            await store.update_status(run_id, "completed")
            assert self.field(await store.get_run(run_id), "status") == "completed"

        self._with_store(main)

    def test_text_of_every_script(self) -> None:
        """Texts beyond ASCII come back as they were."""

        async def main(store: RunStore) -> None:
            run_id, text = uuid4(), SCRIPTS.replace("\0", "")
            await store.create_run(run_id, service=text, topology=text)
            await store.update_status(run_id, "failed", error=text)
            record = await store.get_run(run_id)
            assert [self.field(record, name) for name in ("service", "topology", "error")] == [text] * 3

        self._with_store(main)

    def test_text_is_text(self) -> None:
        """Quotes, semicolons, percent signs and braces in a text are that, and no statement or template."""

        async def main(store: RunStore) -> None:
            texts = ["'; DROP TABLE runs; --", 'a "quoted" \\ text', "100 % {of} %s ${it}", "a\nb\tc"]
            for text in texts:
                run_id = uuid4()
                await store.create_run(run_id, service=text)
                await store.update_status(run_id, "failed", error=text)
                record = await store.get_run(run_id)
                assert (self.field(record, "service"), self.field(record, "error")) == (text, text)

        self._with_store(main)

    def test_a_big_error_is_taken(self) -> None:
        """An error of a million characters is kept, or cut short; it does not keep the status from being written."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            await store.create_run(run_id, service="chat")
            error = "".join(map(str, range(LARGE // 6)))
            await store.update_status(run_id, "failed", error=error)
            record = await store.get_run(run_id)
            assert self.field(record, "status") == "failed"
            assert str(self.field(record, "error")).startswith(error[:_KEPT])

        self._with_store(main)

    # --- many runs --------------------------------------------------------------------------------------

    def test_fifty_runs_at_once_keep_apart(self) -> None:
        """Fifty runs that are written down at once are fifty records, each with what its own run has said."""

        async def main(store: RunStore) -> None:
            run_ids = [uuid4() for _ in range(CROWD)]

            async def live(number: int) -> None:
                run_id = run_ids[number]
                await store.create_run(run_id, service=f"service {number}", topology=f"topology {number}")
                await store.update_status(run_id, "running")
                await store.update_status(
                    run_id, f"ended {number}", error=f"error {number}", duration_ms=number
                )

            await asyncio.gather(*map(live, range(CROWD)))
            for number, run_id in enumerate(run_ids):
                record = await store.get_run(run_id)
                assert [
                    self.field(record, name)
                    for name in ("service", "topology", "status", "error", "duration_ms")
                ] == [
                    f"service {number}",
                    f"topology {number}",
                    f"ended {number}",
                    f"error {number}",
                    number,
                ]

        self._with_store(main)

    def test_concurrent_updates_do_not_mix(self) -> None:
        """Of fifty updates of one run at once, one is the last: status, error and duration are of the same one."""

        async def main(store: RunStore) -> None:
            run_id = uuid4()
            await store.create_run(run_id, service="chat")
            updates = (
                store.update_status(run_id, f"status {number}", error=f"error {number}", duration_ms=number)
                for number in range(CROWD)
            )
            await asyncio.gather(*updates)
            record = await store.get_run(run_id)
            number = self.field(record, "duration_ms")
            assert [self.field(record, name) for name in ("status", "error")] == [
                f"status {number}",
                f"error {number}",
            ]

        self._with_store(main)

    def test_tenants_keep_apart(self) -> None:
        """The runs of two tenants, interleaved step by step, do not see each other."""

        async def main(store: RunStore) -> None:
            one, two = uuid4(), uuid4()
            await store.create_run(one, service="of one", org_id=UUID(int=1))
            await store.create_run(two, service="of two", org_id=UUID(int=2))
            await store.update_status(one, "failed", error="of one")
            await store.update_status(two, "running")
            assert self.field(await store.get_run(one), "error") == "of one"
            assert self.field(await store.get_run(two), "error") is None
            records = [await store.get_run(run_id) for run_id in (one, two)]
            assert [self.field(record, "service") for record in records] == ["of one", "of two"]
            assert [self.field(record, "status") for record in records] == ["failed", "running"]

        self._with_store(main)

    def test_runs_of_pipelines_are_written_down(self) -> None:
        """Of fifty runs of a pipeline that it records at once, each has its own end: completed, or failed and why."""

        async def main(store: RunStore) -> None:
            graph = (
                Pipeline("proved")
                .with_stage("stage", _odd_fails, StageKind.TRANSFORM)
                .build(recording=Recording(run_store=store), interceptors=[])
            )
            snapshots = [
                tenant_snapshot(create_test_snapshot(input_text=str(number)), number, text=False)
                for number in range(CROWD)
            ]
            await asyncio.gather(*(graph.run(one) for one in snapshots), return_exceptions=True)
            for number, snapshot in enumerate(snapshots):
                record = await store.get_run(cast("UUID", snapshot.pipeline_run_id))
                if number % 2:
                    assert self.field(record, "status") == "failed"
                    assert f"number {number} " in self.field(record, "error")
                else:
                    assert self.field(record, "status") == "completed"
                    assert self.field(record, "error") is None

        self._with_store(main)

    # --- cancelled, blocking, closed --------------------------------------------------------------------

    @pytest.mark.parametrize("method", ["create_run", "update_status", "get_run"])
    def test_a_cancel_at_every_await(self, method: str) -> None:
        """A cancel at any await of a call ends it, leaves nothing on the loop, and the store goes on."""

        async def main(store: RunStore) -> None:
            for number in range(1, _MOST_AWAITS):
                known, fresh = uuid4(), uuid4()
                await store.create_run(known, service="chat")
                call: Any = {
                    "create_run": lambda fresh=fresh: store.create_run(fresh, service="cancelled"),
                    "update_status": lambda known=known: store.update_status(known, "cancelled"),
                    "get_run": lambda known=known: store.get_run(known),
                }[method]
                cancel = CancelAt(number)
                async with leak_check():
                    with suppress(asyncio.CancelledError):
                        await cancel(call())
                        assert not cancel.fired, "it was cancelled, and did not let the cancel pass"
                await store.update_status(known, "completed")
                assert self.field(await store.get_run(known), "status") == "completed"
                if not cancel.fired:
                    return

        self._with_store(main)

    def test_it_blocks_nobody(self) -> None:
        """It does not sleep, connect, look up names or start processes on the event loop."""

        async def main(store: RunStore) -> None:
            await store.create_run(uuid4(), service="chat")
            run_id = uuid4()
            with BlockingWatch() as watch:
                await store.create_run(run_id, service="chat")
                await store.update_status(run_id, "completed")
                await store.get_run(run_id)
            assert not watch.calls, watch.calls

        self._with_store(main)

    def test_a_closed_store_does_not_hang(self) -> None:
        """After it was closed, a call returns or raises; closing it once more does no harm."""

        async def main() -> None:
            store = await self._opened()
            run_id = uuid4()
            await store.create_run(run_id, service="chat")
            await self.close(store)
            for call in (store.get_run(run_id), store.update_status(run_id, "completed")):
                with suppress(Exception):
                    await call
            await self.close(store)

        self._drive(main)

    def test_closed_stores_hold_nothing(self) -> None:
        """Threads, child processes, files and sockets of stores that are closed do not add up."""

        async def main() -> None:
            for _ in range(_AFTER):
                async with leak_check(), self._made() as store:
                    await store.create_run(uuid4(), service="chat")

        self._drive(main)
        before = Holdings.now()
        self._drive(main)
        assert not (more := Holdings.now().beyond(before)), more

    # --- how it is proved -------------------------------------------------------------------------------

    async def _opened(self) -> RunStore:
        made = self.make_store()
        return await made if inspect.isawaitable(made) else made

    @asynccontextmanager
    async def _made(self) -> AsyncGenerator[RunStore]:
        store = await self._opened()
        try:
            yield store
        finally:
            await self.close(store)

    def _with_store(self, main: Callable[[RunStore], Awaitable[None]]) -> None:
        async def run() -> None:
            async with self._made() as store:
                await main(store)

        self._drive(run)


async def _odd_fails(ctx: StageContext) -> dict[str, Any]:
    await asyncio.sleep(0)
    number = int(ctx.input_text or "0")
    if number % 2:
        msg = f"number {number} is odd"
        raise ValueError(msg)
    return {"number": number}
