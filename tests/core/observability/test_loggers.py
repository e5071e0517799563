"""Log lines with fields: through logging, through structlog, and never at the price of what is logged."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
import structlog
from stageflow.observability.loggers import (
    LoggingPipelineRunLogger,
    LoggingProviderCallLogger,
    NoOpPipelineRunLogger,
    NoOpProviderCallLogger,
    PipelineRunLogger,
    ProviderCallLogger,
)
from stageflow.observability.structured import StructuredLog
from structlog.testing import LogCapture

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = UUID(int=7)


@pytest.fixture
def structlog_lines() -> Iterator[LogCapture]:
    lines = LogCapture()
    structlog.configure(processors=[lines], cache_logger_on_first_use=False)
    yield lines
    structlog.reset_defaults()


async def tell_all(runs: PipelineRunLogger, calls: ProviderCallLogger) -> None:
    await runs.log_run_started(
        pipeline_run_id=RUN, pipeline_name="chat", topology=None, execution_mode="test", user_id=None, more=1
    )
    await runs.log_run_completed(
        pipeline_run_id=RUN,
        pipeline_name="chat",
        duration_ms=5,
        status="completed",
        stage_results={"llm": "ok"},
    )
    await runs.log_run_failed(pipeline_run_id=RUN, pipeline_name="chat", error="no", stage="llm")
    call_id = await calls.log_call_start(operation="complete", provider="acme", model_id=None, tenant="t")
    assert isinstance(call_id, UUID)
    await calls.log_call_end(call_id, success=True, latency_ms=3, tokens=9)
    await calls.log_call_end(call_id, success=False, latency_ms=3, error="429")


LINES = [
    ("INFO", "Run started: chat"),
    ("INFO", "Run completed: chat"),
    ("ERROR", "Run failed: chat: no"),
    ("INFO", "Provider call started: complete at acme"),
    ("INFO", "Provider call completed in 3 ms"),
    ("WARNING", "Provider call failed after 3 ms: 429"),
]


@pytest.mark.asyncio
async def test_lines_and_fields(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    runs, calls = LoggingPipelineRunLogger(), LoggingProviderCallLogger()
    assert isinstance(runs, PipelineRunLogger)
    assert isinstance(calls, ProviderCallLogger)
    await tell_all(runs, calls)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == LINES
    started, completed, failed, begun, ended, _ = (vars(record) for record in caplog.records)
    assert (started["pipeline_run_id"], started["execution_mode"], started["more"]) == (str(RUN), "test", 1)
    assert "topology" not in started
    assert completed["stages"] == ["llm"]
    assert failed["stage"] == "llm"
    assert begun["tenant"] == "t"
    assert begun["call_id"] == ended["call_id"]
    assert ended["tokens"] == 9


@pytest.mark.asyncio
async def test_no_op_loggers_say_nothing(caplog: pytest.LogCaptureFixture):
    caplog.set_level("DEBUG")
    await tell_all(NoOpPipelineRunLogger(), NoOpProviderCallLogger())
    assert [record for record in caplog.records if record.name.startswith("stage")] == []


@pytest.mark.asyncio
async def test_structlog_is_used_once_it_is_configured(
    structlog_lines: LogCapture, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    await tell_all(LoggingPipelineRunLogger(), LoggingProviderCallLogger())
    assert [(line["log_level"].upper(), line["event"]) for line in structlog_lines.entries] == LINES
    assert structlog_lines.entries[0]["execution_mode"] == "test"
    assert not [record for record in caplog.records if record.name.startswith("stage")]


def test_finding_a1_30_no_field_can_break_a_line(
    caplog: pytest.LogCaptureFixture, structlog_lines: LogCapture
):
    fields = {"name": "n", "message": "m", "args": (1,), "event": "e", "exc_info": "x", "fine": 1, "self": 2}
    StructuredLog("acme").write(logging.INFO, "100 %s", fields)
    assert structlog_lines.entries == [
        {
            "event": "100 %s",
            "log_level": "info",
            "name": "n",
            "message": "m",
            "args": (1,),
            "event_": "e",
            "exc_info_": "x",
            "fine": 1,
            "self_": 2,
        }
    ]
    structlog.reset_defaults()
    caplog.set_level("INFO")
    StructuredLog("acme").write(logging.INFO, "100 %s", fields)
    (record,) = caplog.records
    assert record.getMessage() == "100 %s"
    assert (record.name, vars(record)["name_"], vars(record)["fine"]) == ("acme", "n", 1)


def test_a_broken_processor_or_handler_breaks_nothing(caplog: pytest.LogCaptureFixture):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    structlog.configure(processors=[broken], cache_logger_on_first_use=False)
    try:
        StructuredLog("acme").write(logging.INFO, "hello", {})
    finally:
        structlog.reset_defaults()
    assert "Logging 'hello' to 'acme' failed" in caplog.text


def test_level_check(structlog_lines: LogCapture):
    log = StructuredLog("acme.levels")
    assert log.enabled(logging.DEBUG)  # structlog has levels of its own
    structlog.reset_defaults()
    assert log.enabled(logging.DEBUG) is logging.getLogger("acme.levels").isEnabledFor(logging.DEBUG)
    logging.getLogger("acme.levels").setLevel(logging.ERROR)
    assert not log.enabled(logging.INFO)
    log.write(logging.INFO, "unseen", {})


def test_nothing_heavy_is_imported():
    program = (
        "import asyncio, logging, sys\n"
        "from stageflow.interceptors import circuit_breaker, metrics, tracing\n"
        "from stageflow.observability.loggers import LoggingProviderCallLogger\n"
        "asyncio.run(LoggingProviderCallLogger().log_call_end(1, success=True, latency_ms=1))\n"
        "print(*{'structlog', 'pydantic', 'opentelemetry', 'dataclasses', 'pluggy'} & set(sys.modules))"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
