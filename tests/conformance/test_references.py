"""Parts that are as they should be pass the suites: small ones, and some that do more than their contract asks for."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from queue import SimpleQueue
from typing import Any, ClassVar
from uuid import UUID, uuid4

import click
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from stageflow import BaseInterceptor, Effect, InterceptorResult, StageOutput, stage, use
from stageflow.executors import run_in_thread
from stageflow.testing import RecordingRunStore
from stageflow.testing.conformance import (
    CircuitBreakerConformance,
    CommandConformance,
    EventSinkConformance,
    InterceptorConformance,
    RunStoreConformance,
    SettingsConformance,
    StageConformance,
    ToolConformance,
)

# --- stages ---------------------------------------------------------------------------------------------


class Greet:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        return StageOutput.ok(text=f"Hello, {ctx.input_text}")


class TestStageOfAClass(StageConformance):
    def make_stage(self):
        return Greet()


class TestStageOfAFunction(StageConformance):
    def make_stage(self):
        async def greet(ctx):
            return {"text": ctx.input_text}

        return greet


@stage
async def greeting() -> str:
    return "Hello"


@stage
async def greet(ctx, word: str = use(greeting)) -> str:
    await asyncio.sleep(0)
    return f"{word}, {ctx.input_text}"


class TestTypedStage(StageConformance):
    def make_stage(self):
        return greet

    def make_inputs(self):
        return {"greeting": {"value": "Welcome"}}


class TestStageThatCleansUp(StageConformance):
    """It has a helper, a lock and a file, and gives all back however it ends."""

    def make_stage(self):
        class Made:
            def __init__(self):
                self.places = threading.BoundedSemaphore(1)

            async def execute(self, ctx):
                async with asyncio.TaskGroup() as helpers:
                    helper = helpers.create_task(asyncio.sleep(0.01))
                    text = await run_in_thread(self.read, ctx.input_text)
                    await helper
                ctx.register_cleanup(lambda: asyncio.sleep(0))
                return {"text": text}

            def read(self, text):
                with self.places:
                    return text.upper()

        return Made()


class TestStageOfAnId(StageConformance):
    """It answers with something else each time."""

    repeatable = False

    def make_stage(self):
        async def ticket(ctx):
            return {"ticket": str(uuid4()), "for": ctx.input_text}

        return ticket


class TestStageOfAKeyword(StageConformance):
    """It takes a keyword and nothing else."""

    takes_any_text = False

    def make_context(self):
        return super().make_context().with_input("start")

    def make_stage(self):
        async def switch(ctx):
            return {"started": {"start": True, "stop": False}[ctx.input_text]}

        return switch


# --- tools ----------------------------------------------------------------------------------------------


class Repeat:
    name = "acme.repeat"
    description = "Say a text several times."
    effect = Effect.NONE
    input_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "times": {"type": "integer", "minimum": 1},
            "mood": {"type": ["string", "null"], "enum": ["loud", "calm", None]},
        },
        "required": ["text", "mood"],
        "additionalProperties": False,
    }

    async def call(self, arguments, ctx):
        unknown = set(arguments) - set(self.input_schema["properties"])
        missing = [name for name in self.input_schema["required"] if name not in arguments]
        if unknown or missing:
            raise ValueError(f"unknown {unknown}, missing {missing}")
        await asyncio.sleep(0.1)
        return {"text": arguments["text"] * arguments.get("times", 1)}


class TestTool(ToolConformance):
    arguments: ClassVar[dict[str, Any]] = {"text": "Ada", "times": 2, "mood": "loud"}

    def make_tool(self):
        return Repeat()


# --- interceptors ---------------------------------------------------------------------------------------


class TestAudit(InterceptorConformance):
    class Audit(BaseInterceptor):
        name = "acme.audit"
        priority = 20
        fail_closed = False

        async def before(self, stage_name, ctx):
            ctx.add_observation("user", str(ctx.user_id))

        async def after(self, stage_name, result, ctx):
            ctx.try_emit_event("audit", {"stage": stage_name, "user": ctx.get_observation("user")})

    def make_interceptor(self):
        return self.Audit()


class TestDoor(InterceptorConformance):
    """It lets only runs pass that have a key."""

    class Door(BaseInterceptor):
        name = "acme.door"

        async def before(self, stage_name, ctx):
            return None if ctx.data.get("key") else InterceptorResult(stage_ran=False, error="no key")

    def make_interceptor(self):
        return self.Door()

    def make_data(self, context):
        return {"key": str(context.user_id)}


class TestFilter(InterceptorConformance):
    """It changes what stages hand over."""

    changes_output = True

    class Filter(BaseInterceptor):
        name = "acme.filter"

        async def around(self, stage_name, call, ctx):
            output = await call()
            return output.__replace__(data={**output.data, "filtered": True})

    def make_interceptor(self):
        return self.Filter()


# --- sinks ----------------------------------------------------------------------------------------------


class Lines:
    def __init__(self):
        self.lines: list[Any] = []

    async def emit(self, *, type, data):
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type, data):
        self.lines.append((type, data))


class TestLines(EventSinkConformance):
    def make_sink(self):
        return Lines()

    def delivered(self, sink):
        return sink.lines


class ThreadSink:
    """Hands events to a thread, which writes them as JSON as far as that goes."""

    def __init__(self):
        self.lines: list[Any] = []
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.closed = False
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        while (event := self.queue.get()) is not None:
            if isinstance(event, threading.Event):
                event.set()
                continue
            kind, data = event
            try:
                self.lines.append((kind, json.loads(json.dumps(data, default=str))))
            except Exception:
                self.lines.append((kind, {"lost": True}))

    async def emit(self, *, type, data):
        self.try_emit(type=type, data=data)
        await asyncio.sleep(0)

    def try_emit(self, *, type, data):
        if not self.closed:
            self.queue.put((type, data))

    async def flush(self):
        done = threading.Event()
        self.queue.put(done)
        await asyncio.to_thread(done.wait)

    async def aclose(self):
        if not self.closed:
            self.closed = True
            self.queue.put(None)
            await asyncio.to_thread(self.thread.join)


class TestThreadSink(EventSinkConformance):
    def make_sink(self):
        return ThreadSink()

    def delivered(self, sink):
        return sink.lines


# --- run stores -----------------------------------------------------------------------------------------


class TestRecording(RunStoreConformance):
    def make_store(self):
        return RecordingRunStore()


class SqliteStore:
    """Keeps runs in a database, in one thread at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.database.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, record TEXT)")

    async def create_run(
        self, run_id, *, service, topology=None, execution_mode=None, status="created", **more
    ):
        record = {
            "service": service,
            "topology": topology,
            "execution_mode": execution_mode,
            "status": status,
            **more,
        }
        return await run_in_thread(self.change, run_id, record)

    async def update_status(self, run_id, status, *, error=None, duration_ms=None, **data):
        change = {"status": status, "error": error, "duration_ms": duration_ms, **data}
        await run_in_thread(self.change, run_id, change)

    async def get_run(self, run_id):
        with self.lock:
            row = self.database.execute("SELECT record FROM runs WHERE id = ?", (str(run_id),)).fetchone()
        return None if row is None else json.loads(row[0])

    def change(self, run_id, change):
        with self.lock:
            row = self.database.execute("SELECT record FROM runs WHERE id = ?", (str(run_id),)).fetchone()
            record = {**({} if row is None else json.loads(row[0])), **change}
            text = json.dumps(record, default=str)
            self.database.execute("INSERT OR REPLACE INTO runs VALUES (?, ?)", (str(run_id), text))
            return record

    async def aclose(self):
        self.database.close()


class TestSqlite(RunStoreConformance):
    async def make_store(self):
        return SqliteStore()


class Record(BaseModel):
    model_config = ConfigDict(extra="allow")

    service: str
    status: str


class ModelStore:
    """Its records are objects."""

    def __init__(self):
        self.runs: dict[UUID, dict[str, Any]] = {}

    async def create_run(
        self, run_id, *, service, topology=None, execution_mode=None, status="created", **more
    ):
        told = {"service": service, "topology": topology, "execution_mode": execution_mode, "status": status}
        self.runs[run_id] = {**told, **more}
        return Record(**self.runs[run_id])

    async def update_status(self, run_id, status, *, error=None, duration_ms=None, **data):
        self.runs[run_id] |= {"status": status, "error": error, "duration_ms": duration_ms, **data}

    async def get_run(self, run_id):
        await asyncio.sleep(0)
        return Record(**self.runs[run_id]) if run_id in self.runs else None


class TestModels(RunStoreConformance):
    def make_store(self):
        return ModelStore()


# --- breakers -------------------------------------------------------------------------------------------


class Counting:
    def __init__(self):
        self.failures: dict[Any, int] = {}
        self.trying: dict[Any, bool] = {}

    async def is_open(self, *, operation, provider):
        if self.failures.get((operation, provider), 0) < 3:
            return False
        return not self.trying.pop((operation, provider), False)

    async def record_success(self, *, operation, provider):
        await asyncio.sleep(0)
        self.failures.pop((operation, provider), None)

    async def record_failure(self, *, operation, provider, reason):
        self.failures[operation, provider] = self.failures.get((operation, provider), 0) + 1


class TestCounting(CircuitBreakerConformance):
    failure_threshold = 3
    recovers = True

    def make_breaker(self):
        return Counting()

    async def recover(self, breaker):
        breaker.trying = dict.fromkeys(breaker.failures, True)


# --- settings -------------------------------------------------------------------------------------------


class Limits(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tokens: int = Field(4096, ge=1, description="How many tokens an answer may have.")
    max_tokens_per_user: int | None = Field(None, description="How many a user may have.")


class AcmeSettings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    greeting: str = Field("Hello", description="What a run begins with.")
    loud: bool = Field(False, description="Whether to shout.")
    ratio: float = Field(0.5, description="How much.")
    tags: list[str] = Field([], description="Words.")
    limits: Limits = Field(Limits(), description="How much there may be.")
    api_key: SecretStr = Field(description="The key of the account; required.")
    token: SecretStr | None = Field(None, description="A token.")


class TestSettings(SettingsConformance):
    model = AcmeSettings
    example: ClassVar[dict[str, Any]] = {"api_key": "k-1"}


# --- commands -------------------------------------------------------------------------------------------


@click.group()
def tree():
    """Look after trees."""


@tree.command()
@click.argument("name")
@click.option("--times", type=int, default=1, help="How often.")
@click.option("--kind", type=click.Choice(["oak", "elm"]), help="Which kind.")
@click.option("-v", "--verbose", count=True, help="Say more.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plant(name, times, kind, verbose, as_json):
    """Plant a tree called NAME."""
    click.echo(json.dumps([name] * times) if as_json else f"{name} " * times)


@tree.command()
def count():
    """Count the trees."""
    return 0


class TestGroup(CommandConformance):
    arguments = ("plant", "Ada", "--times", "2")

    def make_command(self):
        return tree
