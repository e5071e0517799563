"""MetricsInterceptor and ChildTrackerMetricsInterceptor in real runs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from stageflow import Pipeline, PipelineCancelled, RetryPolicy, StageKind, StageOutput
from stageflow.interceptors.metrics import ChildTrackerMetricsInterceptor, MetricsInterceptor

pytestmark = pytest.mark.asyncio


async def hang(ctx: Any) -> None:
    await asyncio.sleep(60)


async def fail(ctx: Any) -> None:
    raise ValueError


async def skip(ctx: Any) -> StageOutput:
    return StageOutput.skip("nothing to do")


@pytest.mark.parametrize(
    ("body", "options", "status"),
    [(skip, {}, "skip"), (fail, {}, "fail"), (hang, {"timeout": 0.01}, "timeout"), (hang, {}, "cancel")],
    ids=["skip", "fail", "timeout", "cancel"],
)
async def test_one_line_for_every_end(
    body: Any, options: dict[str, Any], status: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "stage_metrics")
    graph = (
        Pipeline()
        .with_stage("s", body, StageKind.TRANSFORM, **options)
        .build(interceptors=[MetricsInterceptor()])
    )
    results = await graph.run(timeout=0.05, raise_errors=False)
    (record,) = [record for record in caplog.records if record.name == "stage_metrics"]
    fields = vars(record)
    assert record.getMessage() == "Stage metrics: s"
    assert (fields["stage"], fields["status"], fields["attempt"]) == ("s", status, 1)
    assert fields["pipeline_run_id"] == str(results.run_id)
    assert fields["duration_ms"] >= 0


async def test_one_line_for_every_attempt(caplog: pytest.LogCaptureFixture):
    async def flaky(ctx: Any) -> None:
        if ctx.attempt < 3:
            raise ConnectionError

    caplog.set_level("INFO", "stage_metrics")
    pipeline = Pipeline().with_stage("s", flaky, StageKind.TRANSFORM, retry=RetryPolicy(3, base_delay=0))
    await pipeline.build(interceptors=[MetricsInterceptor()]).run()
    assert [(vars(one)["attempt"], vars(one)["status"]) for one in caplog.records] == [
        (1, "fail"),
        (2, "fail"),
        (3, "ok"),
    ]


async def test_finding_a1_30_durations_come_from_the_monotonic_clock(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    caplog.set_level("INFO", "stage_metrics")
    stamps = iter([7_000_000, 12_500_000])
    monkeypatch.setattr("stageflow.interceptors.metrics.monotonic_ns", lambda: next(stamps))
    await (
        Pipeline().with_stage("s", skip, StageKind.TRANSFORM).build(interceptors=[MetricsInterceptor()]).run()
    )
    assert vars(caplog.records[0])["duration_ms"] == 5.5


async def test_below_its_level_nothing_is_measured(caplog: pytest.LogCaptureFixture):
    caplog.set_level("WARNING", "stage_metrics")
    graph = Pipeline().with_stage("s", fail, StageKind.TRANSFORM).build(interceptors=[MetricsInterceptor()])
    assert isinstance((await graph.run(raise_errors=False)).error.original, ValueError)
    assert not caplog.records


async def test_a_handler_that_raises_breaks_no_stage(caplog: pytest.LogCaptureFixture):
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise ZeroDivisionError

    caplog.set_level("INFO", "stage_metrics")
    broken = Broken()
    logging.getLogger("stage_metrics").addFilter(broken)
    try:
        graph = (
            Pipeline().with_stage("s", skip, StageKind.TRANSFORM).build(interceptors=[MetricsInterceptor()])
        )
        assert (await graph.run()).error is None
    finally:
        logging.getLogger("stage_metrics").removeFilter(broken)


async def test_cancelled_runs_stay_cancelled():
    graph = Pipeline().with_stage("s", hang, StageKind.TRANSFORM).build(interceptors=[MetricsInterceptor()])
    with pytest.raises(PipelineCancelled):
        await graph.run(timeout=0.01)


async def figures() -> dict[str, int]:
    return {"active_children": 2}


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [(None, None), (lambda: {"active_children": 1}, 1), (figures, 2)],
    ids=["none", "plain", "awaited"],
)
async def test_child_metrics_for_child_runs_only(
    metrics: Any, expected: int | None, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", "stageflow.child_tracker_metrics")
    graph = (
        Pipeline()
        .with_stage("s", skip, StageKind.TRANSFORM)
        .build(interceptors=[ChildTrackerMetricsInterceptor(metrics)])
    )
    await graph.run()
    assert not caplog.records
    await graph.run(data={"parent_run_id": "parent"})
    (record,) = caplog.records
    assert record.getMessage() == "ChildRunTracker metrics"
    assert vars(record)["parent_run_id"] == "parent"
    assert vars(record).get("active_children") == expected


async def test_a_tracker_that_raises_breaks_no_stage(caplog: pytest.LogCaptureFixture):
    def broken() -> dict[str, int]:
        raise ZeroDivisionError

    caplog.set_level("INFO", "stageflow.child_tracker_metrics")
    graph = (
        Pipeline()
        .with_stage("s", skip, StageKind.TRANSFORM)
        .build(interceptors=[ChildTrackerMetricsInterceptor(broken)])
    )
    assert (await graph.run(data={"parent_run_id": "parent"})).error is None
    assert "raised in after()" in caplog.text
