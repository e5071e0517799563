"""Parts with one planted defect each, and the test of the kit that must notice it.

Not collected by itself: ``test_defects.py`` runs it in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import sqlite3
import tempfile
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import click
from pydantic import BaseModel, ConfigDict, Field
from stageflow import BaseInterceptor, Effect, ErrorAction, StageOutput
from stageflow.testing import create_test_snapshot
from stageflow.testing.conformance import (
    CircuitBreakerConformance,
    CommandConformance,
    EventSinkConformance,
    ExecutorConformance,
    InterceptorConformance,
    RunStoreConformance,
    SettingsConformance,
    StageConformance,
    ToolConformance,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Planted(NamedTuple):
    """One defect."""

    suite: str
    defect: str
    test: str
    says: str
    node: str


PLANTED: list[Planted] = []


def planted(test: str, says: str) -> Callable[[type], type]:
    """Note that *test* must fail for a class, with a message in which *says* (a regular expression) is found."""

    def note(cls: type) -> type:
        suite = next(one.__name__ for one in cls.__mro__ if one.__name__.endswith("Conformance"))
        PLANTED.append(
            Planted(suite, " ".join((cls.__doc__ or "").split()), test, says, f"{cls.__name__}::{test}")
        )
        return cls

    return note


forgotten: list[Any] = []  # what the defective parts below never give back


def forget(coroutine: Any) -> None:
    forgotten.append(asyncio.ensure_future(coroutine))


# --- stages ---------------------------------------------------------------------------------------------


class Stage(StageConformance):
    """Makes stages of the method ``body`` of the suite itself."""

    patience = 5.0

    async def body(self, ctx: Any, memory: Any) -> Any:
        raise NotImplementedError

    def make_stage(self):
        suite = self

        class Made:
            def __init__(self):
                self.lock = asyncio.Lock()
                self.seen: list[Any] = []
                self.last: Any = None

            async def execute(self, ctx):
                return await suite.body(ctx, self)

        return Made()


@planted("test_it_is_a_stage", "is not async")
class TestStageNotAsync(StageConformance):
    """execute is a plain function."""

    def make_stage(self):
        class Made:
            def execute(self, ctx):
                return StageOutput.ok()

        return Made()


@planted("test_it_is_a_stage", "kind is 'work'")
class TestStageKindOfText(Stage):
    """Its kind is a text."""

    def make_stage(self):
        made = super().make_stage()
        made.kind = "work"
        return made


@planted("test_it_is_a_stage", "missing a required argument|too many positional")
class TestStageWithoutContext(StageConformance):
    """execute takes no context."""

    def make_stage(self):
        class Made:
            async def execute(self):
                return StageOutput.ok()

        return Made()


@planted("test_it_returns_what_stages_return", "returned str")
class TestStageReturnsText(Stage):
    """It returns a text."""

    async def body(self, ctx, memory):
        return "text"


@planted("test_it_does_its_work", "not enough")
class TestStageFails(Stage):
    """It fails in its own context."""

    async def body(self, ctx, memory):
        return StageOutput.fail("not enough")


@planted("test_it_does_its_work", "left behind")
class TestStageLeavesATask(Stage):
    """It starts a Task and forgets it."""

    async def body(self, ctx, memory):
        forget(asyncio.sleep(3600))


@planted("test_its_output_is_plain", "not JSON serializable")
class TestStageHandsOverAnObject(Stage):
    """It hands over what JSON cannot say."""

    async def body(self, ctx, memory):
        return {"connection": object()}


@planted("test_it_changes_nothing_that_it_is_given", "changed in place")
class TestStageChangesTheExtensions(Stage):
    """It changes an object that belongs to the caller."""

    def make_context(self):
        return create_test_snapshot(input_text="Ada", extensions=Cart())

    async def body(self, ctx, memory):
        ctx.snapshot.extensions.items.append("tea")


class Cart:
    def __init__(self):
        self.items: list[str] = []


@planted("test_it_blocks_nobody", r"time\.sleep\(0.001\) at .*defective.py")
class TestStageSleeps(Stage):
    """It sleeps on the event loop."""

    async def body(self, ctx, memory):
        time.sleep(0.001)  # noqa: ASYNC251 - the defect


@planted("test_it_blocks_nobody", "look|getaddrinfo")
class TestStageLooksANameUp(Stage):
    """It looks a name up on the event loop."""

    async def body(self, ctx, memory):
        import socket

        socket.getaddrinfo("127.0.0.1", 80)


@planted("test_it_blocks_nobody", "subprocess")
class TestStageStartsAProcess(Stage):
    """It waits for a child process on the event loop."""

    async def body(self, ctx, memory):
        import subprocess

        subprocess.run(["true"], check=True)  # noqa: ASYNC221, S607 - the defect


@planted("test_a_cancel_at_every_await", "left behind: task")
class TestStageLeavesATaskWhenCancelled(Stage):
    """Cancelled, it forgets the Task that it waits for."""

    async def body(self, ctx, memory):
        task = asyncio.ensure_future(asyncio.sleep(1))
        await asyncio.wait([task])


@planted("test_a_cancel_is_passed_on", "it went on and ended with")
class TestStageSwallowsTheCancel(Stage):
    """Cancelled, it answers all the same."""

    async def body(self, ctx, memory):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            return {"text": "never mind"}


@planted("test_an_error_at_every_await", "left behind")
class TestStageLeavesATaskAfterAnError(Stage):
    """After an error it forgets its helper."""

    async def body(self, ctx, memory):
        helper = asyncio.ensure_future(asyncio.sleep(3600))
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            helper.cancel()
            raise
        helper.cancel()


@planted("test_slowness_at_every_await", "left behind")
class TestStageLeavesATaskAfterItsLimit(Stage):
    """Over its limit it forgets its helper."""

    async def body(self, ctx, memory):
        helper = asyncio.ensure_future(asyncio.sleep(3600))
        try:
            await asyncio.sleep(1)
        except Exception:
            helper.cancel()
            raise
        helper.cancel()


@planted("test_it_goes_on_after_a_cancel", "would wait for ever")
class TestStageKeepsItsLock(Stage):
    """Cancelled, it keeps its lock."""

    async def body(self, ctx, memory):
        await memory.lock.acquire()
        await asyncio.sleep(1)
        memory.lock.release()


@planted("test_fifty_runs_at_once_keep_apart", "tenant .* saw|assert")
class TestStageKeepsItsContextInItself(Stage):
    """It keeps the context in an attribute across an await."""

    async def body(self, ctx, memory):
        memory.last = ctx
        await asyncio.sleep(0)
        return {"text": memory.last.input_text}


@planted("test_fifty_runs_at_once_keep_apart", "tenant .* saw")
class TestStageTellsOthersInEvents(Stage):
    """Its event names whoever came last."""

    async def body(self, ctx, memory):
        memory.last = ctx.snapshot.user_id
        await asyncio.sleep(0)
        ctx.try_emit_event("greeted", {"user": str(memory.last)})


@planted("test_a_run_finds_nothing_of_the_one_before", "tenant .* saw|assert")
class TestStageCachesForEverybody(Stage):
    """It answers everybody what it answered the first."""

    async def body(self, ctx, memory):
        memory.last = memory.last or ctx.input_text
        return {"text": memory.last}


@planted("test_it_keeps_no_run_that_has_ended", "still holds the contexts of 5 runs")
class TestStageKeepsContexts(Stage):
    """It keeps every context."""

    async def body(self, ctx, memory):
        memory.seen.append(ctx)


@planted("test_many_runs_hold_no_more_than_a_few", "open files")
class TestStageKeepsFilesOpen(Stage):
    """It opens a file in each run and closes none."""

    async def body(self, ctx, memory):
        forgotten.append(os.open(os.devnull, os.O_RDONLY))


@planted("test_many_runs_hold_no_more_than_a_few", "thread")
class TestStageKeepsThreads(Stage):
    """It starts a thread in each run and ends none."""

    async def body(self, ctx, memory):
        threading.Thread(target=threading.Event().wait, daemon=True, name="poller").start()


@planted("test_it_serves_one_event_loop_after_another", "closed|different loop")
class TestStageBelongsToALoop(Stage):
    """It keeps the event loop of its first run."""

    async def body(self, ctx, memory):
        memory.last = memory.last or asyncio.get_running_loop()
        done = asyncio.Event()
        memory.last.call_soon(done.set)
        await done.wait()


@planted("test_text_of_every_script", "UnicodeEncodeError")
class TestStageSpeaksAscii(Stage):
    """It takes ASCII only."""

    async def body(self, ctx, memory):
        return {"size": len(ctx.input_text.encode("ascii"))}


@planted("test_large_text", "too long")
class TestStageTakesLittle(Stage):
    """It takes a thousand characters."""

    async def body(self, ctx, memory):
        if len(ctx.input_text) > 1000:
            raise ValueError("too long")


@planted("test_it_does_its_work", "it hangs, or it blocks")
class TestStageHangs(Stage):
    """It waits for a thread that never comes."""

    patience = 0.5

    async def body(self, ctx, memory):
        threading.Event().wait()


# --- tools ----------------------------------------------------------------------------------------------


class Length:
    name: Any = "acme.length"
    description: Any = "Count the characters of a text."
    effect: Any = Effect.NONE
    input_schema: ClassVar[dict[str, Any]] = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "times": {"type": "integer"}},
        "required": ["text"],
        "additionalProperties": False,
    }

    def __init__(self):
        self.last: Any = None

    async def call(self, arguments, ctx):
        if unknown := set(arguments) - set(self.input_schema["properties"]):
            raise ValueError(f"unknown: {unknown}")
        text = arguments["text"]
        await asyncio.sleep(0)
        return {"length": len(text), "text": text}


class Tool(ToolConformance):
    """Makes a tool, with ``changes`` made to it."""

    arguments: ClassVar[dict[str, Any]] = {"text": "Ada"}
    changes: ClassVar[dict[str, Any]] = {}

    def make_tool(self):
        return type("Made", (Length,), dict(self.changes))()


@planted("test_it_is_a_tool", "assert")
class TestToolWithoutEffect(ToolConformance):
    """It does not say what it does to the world."""

    def make_tool(self):
        class Made:
            name, description, input_schema = Length.name, Length.description, Length.input_schema

            async def call(self, arguments, ctx): ...

        return Made()


@planted("test_it_is_a_tool", "where an Effect is expected")
class TestToolWithAnEffectOfItsOwn(Tool):
    """Its effect is a word that nobody knows."""

    changes: ClassVar[dict[str, Any]] = {"effect": "harmless"}


@planted("test_it_is_a_tool", "call is not async")
class TestToolNotAsync(Tool):
    """Its call is a plain function."""

    changes: ClassVar[dict[str, Any]] = {"call": lambda self, arguments, ctx: {}}


@planted("test_its_name_can_be_called", "not a name for a tool")
class TestToolWithASpace(Tool):
    """Its name has a space."""

    changes: ClassVar[dict[str, Any]] = {"name": "count characters"}


@planted("test_its_description_says_something", "assert")
class TestToolSaysNothing(Tool):
    """Its description is blank."""

    changes: ClassVar[dict[str, Any]] = {"description": "  "}


@planted("test_its_schema_is_a_schema", "does not describe an object")
class TestToolOfNoObject(Tool):
    """Its schema describes a text."""

    changes: ClassVar[dict[str, Any]] = {"input_schema": {"type": "string"}}


@planted("test_its_schema_is_a_schema", "has the type 'str'")
class TestToolOfPython(Tool):
    """Its schema has Python's names for types."""

    changes: ClassVar[dict[str, Any]] = {
        "input_schema": {"type": "object", "properties": {"text": {"type": "str"}}}
    }


@planted("test_its_schema_is_a_schema", r"requires \['query'\]")
class TestToolRequiresTheUnknown(Tool):
    """Its schema requires what it does not describe."""

    changes: ClassVar[dict[str, Any]] = {"input_schema": {**Length.input_schema, "required": ["query"]}}


@planted("test_the_schema_takes_the_arguments", "does not describe")
class TestToolTakesOtherArguments(Tool):
    """Its schema and its arguments have parted."""

    arguments: ClassVar[dict[str, Any]] = {"text": "Ada", "loud": True}


async def answer_anything(self, arguments, ctx):
    return {"length": len(arguments.get("text", ""))}


async def refuse_without_a_word(self, arguments, ctx):
    if set(arguments) != {"text"}:
        raise ValueError("bad call")
    return {}


async def use_up(self, arguments, ctx):
    return {"length": len(arguments.pop("text"))}


async def gather_words(self, arguments, ctx):
    return {"words": set(arguments["text"].split())}


async def keep_in_self(self, arguments, ctx):
    self.last = arguments["text"]
    await asyncio.sleep(0)
    return {"text": self.last}


async def swallow(self, arguments, ctx):
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        return {}


async def keep_contexts(self, arguments, ctx):
    forgotten.append(ctx)


async def say_ascii(self, arguments, ctx):
    return {"bytes": len(arguments["text"].encode("ascii"))}


@planted("test_a_missing_argument_is_refused", "without 'text', it answered all the same")
class TestToolAnswersAnything(Tool):
    """It answers without what it requires."""

    changes: ClassVar[dict[str, Any]] = {"call": answer_anything}


@planted("test_a_missing_argument_is_refused", "which does not name it")
class TestToolRefusesWithoutAWord(Tool):
    """It does not say which argument is missing."""

    changes: ClassVar[dict[str, Any]] = {"call": refuse_without_a_word}


@planted("test_an_unknown_argument_is_refused", "which its schema forbids")
class TestToolTakesUnknownArguments(Tool):
    """It takes arguments that its schema forbids."""

    changes: ClassVar[dict[str, Any]] = {"call": answer_anything}


@planted("test_it_leaves_the_arguments_alone", "assert")
class TestToolUsesArgumentsUp(Tool):
    """It takes the arguments out of the caller's mapping."""

    changes: ClassVar[dict[str, Any]] = {"call": use_up}


@planted("test_its_output_is_plain", "not JSON serializable")
class TestToolReturnsASet(Tool):
    """Its result is a set."""

    changes: ClassVar[dict[str, Any]] = {"call": gather_words}


@planted("test_fifty_runs_at_once_keep_apart", "tenant .* saw|assert")
class TestToolKeepsItsCallInItself(Tool):
    """It keeps the arguments in an attribute across an await."""

    changes: ClassVar[dict[str, Any]] = {"call": keep_in_self}


@planted("test_a_cancel_is_passed_on", "it went on")
class TestToolSwallowsTheCancel(Tool):
    """Cancelled, it answers all the same."""

    changes: ClassVar[dict[str, Any]] = {"call": swallow}


@planted("test_it_keeps_no_run_that_has_ended", "still holds")
class TestToolKeepsContexts(Tool):
    """It keeps every context."""

    changes: ClassVar[dict[str, Any]] = {"call": keep_contexts}


@planted("test_text_of_every_script", "UnicodeEncodeError")
class TestToolSpeaksAscii(Tool):
    """It takes ASCII only."""

    changes: ClassVar[dict[str, Any]] = {"call": say_ascii}


# --- interceptors ---------------------------------------------------------------------------------------


class Interceptor(InterceptorConformance):
    """Makes the interceptor ``Made`` of the suite itself."""

    patience = 5.0
    Made: type[BaseInterceptor]

    def make_interceptor(self):
        return self.Made()


@planted("test_it_is_an_interceptor", "no name of its own")
class TestInterceptorWithoutName(Interceptor):
    """It has no name."""

    class Made(BaseInterceptor): ...


@planted("test_it_is_an_interceptor", "priority is 'high'")
class TestInterceptorOfHighPriority(Interceptor):
    """Its priority is a word."""

    class Made(BaseInterceptor):
        name = "made"
        priority = "high"


@planted("test_its_hooks_are_well_formed", "before must be async")
class TestInterceptorNotAsync(Interceptor):
    """Its before is a plain function."""

    class Made(BaseInterceptor):
        name = "made"

        def before(self, stage_name, ctx): ...


@planted("test_its_hooks_are_well_formed", "too many positional")
class TestInterceptorTakesTooLittle(Interceptor):
    """Its after takes no context."""

    class Made(BaseInterceptor):
        name = "made"

        async def after(self, stage_name, result): ...


@planted("test_what_it_declares_makes_sense", "stage_timeout gave 0")
class TestInterceptorOfNoTime(Interceptor):
    """It declares a limit of no time."""

    class Made(BaseInterceptor):
        name = "made"

        def stage_timeout(self, stage):
            return 0.0


@planted("test_an_output_passes[ok]", "instead of|assert")
class TestInterceptorReplacesOutputs(Interceptor):
    """It hands over something else than the stage did."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            await call()
            return StageOutput.ok()


@planted("test_an_output_passes[skip]", "instead of")
class TestInterceptorTakesSkipForFailure(Interceptor):
    """It fails what was skipped."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            output = await call()
            return output if output.status.value == "ok" else StageOutput.fail("no result")


@planted("test_an_error_passes[value]", "assert")
class TestInterceptorWrapsErrors(Interceptor):
    """It raises its own error in the place of the stage's."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            try:
                return await call()
            except Exception as exc:
                raise RuntimeError("the stage failed") from exc


@planted("test_an_error_passes[lookup]", "instead of")
class TestInterceptorHidesErrors(Interceptor):
    """It answers errors with nothing, and does not say so."""

    class Made(BaseInterceptor):
        name = "made"

        async def on_error(self, stage_name, error, ctx):
            return ErrorAction.FALLBACK

        async def fallback(self, stage_name, error, ctx):
            return {}


@planted("test_another_attempt_passes", "instead of")
class TestInterceptorRemembersFailure(Interceptor):
    """What has failed once it does not let pass again."""

    class Made(BaseInterceptor):
        name = "made"

        def __init__(self):
            self.error: Exception | None = None

        async def around(self, stage_name, call, ctx):
            if self.error is not None:
                raise self.error
            try:
                return await call()
            except Exception as exc:
                self.error = ValueError(str(exc))
                raise


@planted("test_a_slow_stage_passes", "instead of")
class TestInterceptorIsImpatient(Interceptor):
    """It ends what takes longer than a second, which nobody has asked for."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            async with asyncio.timeout(1):
                return await call()


@planted("test_a_time_limit_passes", "left behind: task|left behind")
class TestInterceptorShieldsTheStage(Interceptor):
    """It lets a stage go on that is over its limit."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            return await asyncio.shield(asyncio.ensure_future(call()))


@planted("test_text_of_every_script_and_large_data_pass", "assert|instead of")
class TestInterceptorCutsTexts(Interceptor):
    """It cuts what is long."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            output = await call()
            return output.__replace__(data={key: str(value)[:1000] for key, value in output.data.items()})


@planted("test_it_changes_nothing_that_stages_are_given", "changed in place")
class TestInterceptorWritesIntoTheRun(Interceptor):
    """It writes into what the caller handed over."""

    class Made(BaseInterceptor):
        name = "made"

        async def before(self, stage_name, ctx):
            ctx.stage.scope.data["seen"] = stage_name


@planted("test_a_cancel_passes", "DID NOT RAISE|completed|never started|assert|left behind|terminal")
class TestInterceptorSwallowsTheCancel(Interceptor):
    """It answers a cancel with an output."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            try:
                return await call()
            except asyncio.CancelledError:
                return StageOutput.ok()


@planted("test_a_cancel_at_every_await", "left behind: task")
class TestInterceptorLeavesATask(Interceptor):
    """It runs the stage in a Task, and forgets that when it is cancelled."""

    class Made(BaseInterceptor):
        name = "made"

        async def around(self, stage_name, call, ctx):
            task = asyncio.ensure_future(call())
            await asyncio.wait([task])
            return task.result()


@planted("test_it_goes_on_after_a_cancel", "it hangs")
class TestInterceptorKeepsItsLock(Interceptor):
    """Cancelled, it keeps its place in a line of one."""

    patience = 1.0

    class Made(BaseInterceptor):
        name = "made"

        def __init__(self):
            self.lock = asyncio.Lock()

        async def around(self, stage_name, call, ctx):
            await self.lock.acquire()
            output = await call()
            self.lock.release()
            return output


@planted("test_fifty_runs_at_once_keep_apart", "tenant .* saw")
class TestInterceptorKeepsTheUserInItself(Interceptor):
    """It keeps the user in an attribute while the stage runs."""

    class Made(BaseInterceptor):
        name = "made"

        async def before(self, stage_name, ctx):
            self.user = str(ctx.user_id)

        async def after(self, stage_name, result, ctx):
            ctx.try_emit_event("audit", {"user": self.user})


@planted("test_it_keeps_no_run_that_has_ended", "still holds the contexts of 6 runs")
class TestInterceptorKeepsContexts(Interceptor):
    """It keeps every context."""

    class Made(BaseInterceptor):
        name = "made"

        def __init__(self):
            self.seen: list[Any] = []

        async def before(self, stage_name, ctx):
            self.seen.append(ctx)


@planted("test_it_keeps_no_run_that_has_ended", "still holds the contexts of 3 runs")
class TestInterceptorKeepsFailedRuns(Interceptor):
    """It forgets a run only when that has ended well."""

    class Made(BaseInterceptor):
        name = "made"

        def __init__(self):
            self.open: dict[Any, Any] = {}

        async def before(self, stage_name, ctx):
            self.open[ctx.pipeline_run_id] = ctx

        async def after(self, stage_name, result, ctx):
            if result.status == "completed":
                del self.open[ctx.pipeline_run_id]


@planted("test_many_runs_hold_no_more_than_a_few", "open files")
class TestInterceptorKeepsFilesOpen(Interceptor):
    """It opens a file for each stage and closes none."""

    class Made(BaseInterceptor):
        name = "made"

        async def before(self, stage_name, ctx):
            forgotten.append(os.open(os.devnull, os.O_RDONLY))


@planted("test_it_serves_one_event_loop_after_another", "different (event )?loop|bound to")
class TestInterceptorBelongsToALoop(Interceptor):
    """It keeps a lock for all event loops."""

    class Made(BaseInterceptor):
        name = "made"

        def __init__(self):
            self.lock = asyncio.Lock()

        async def around(self, stage_name, call, ctx):
            async with self.lock:
                return await call()


@planted("test_it_blocks_nobody", r"time\.sleep")
class TestInterceptorSleeps(Interceptor):
    """It sleeps when a stage has failed."""

    class Made(BaseInterceptor):
        name = "made"

        async def on_error(self, stage_name, error, ctx):
            time.sleep(0.001)  # noqa: ASYNC251 - the defect
            return ErrorAction.FAIL


# --- sinks ----------------------------------------------------------------------------------------------


class Lines:
    """A correct sink."""

    def __init__(self):
        self.lines: list[Any] = []
        self.closed = False

    async def emit(self, *, type, data):
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type, data):
        if not self.closed:
            self.lines.append((type, data))

    def close(self):
        self.closed = True


class Sink(EventSinkConformance):
    """Makes the sink ``Made`` of the suite itself."""

    patience = 5.0
    Made: type[Any]

    def make_sink(self):
        return self.Made()

    def delivered(self, sink):
        return sink.lines


@planted("test_it_is_an_event_sink", "emit is not async")
class TestSinkNotAsync(Sink):
    """Its emit is a plain function."""

    class Made(Lines):
        def emit(self, *, type, data): ...


@planted("test_it_is_an_event_sink", "try_emit is async")
class TestSinkAllAsync(Sink):
    """Its try_emit is async."""

    class Made(Lines):
        async def try_emit(self, *, type, data): ...


@planted("test_try_emit_never_raises[object]", "not JSON serializable")
class TestSinkWritesJson(Sink):
    """It takes what JSON can say."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            self.lines.append((type, json.loads(json.dumps(data))))


@planted("test_try_emit_never_raises[unshowable]", "nobody may see this")
class TestSinkShowsEverything(Sink):
    """It writes down what data looks like."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            self.lines.append((type, repr(data)))


@planted("test_try_emit_never_raises[none]", "NoneType")
class TestSinkWantsData(Sink):
    """It takes no event without data."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            self.lines.append((type, dict(data)))


@planted("test_try_emit_never_raises[surrogate]", "surrogates not allowed")
class TestSinkEncodes(Sink):
    """It writes UTF-8, which cannot say every text."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            for value in (data or {}).values():
                if isinstance(value, str):
                    value.encode()


@planted("test_try_emit_does_not_wait", r"queue.py")
class TestSinkWaitsForRoom(Sink):
    """It waits for room in its queue."""

    patience = 0.5

    class Made(Lines):
        def __init__(self):
            super().__init__()
            self.queue: queue.Queue[Any] = queue.Queue(1000)

        def try_emit(self, *, type, data):
            self.queue.put((type, data))


@planted("test_try_emit_does_not_wait", r"Full|full")
class TestSinkRaisesWhenFull(Sink):
    """It raises when its queue is full."""

    class Made(Lines):
        def __init__(self):
            super().__init__()
            self.queue: queue.Queue[Any] = queue.Queue(1000)

        def try_emit(self, *, type, data):
            self.queue.put_nowait((type, data))


@planted("test_try_emit_blocks_nobody", r"time\.sleep")
class TestSinkSleeps(Sink):
    """It sleeps for each event."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            time.sleep(0.001)


@planted("test_a_run_ends_as_it_would_without_it", "left behind|task")
class TestSinkLeavesTasks(Sink):
    """It starts a Task for each event and waits for none."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            forget(asyncio.sleep(3600))


@planted("test_emit_can_be_cancelled", "did not let the cancel pass")
class TestSinkSwallowsTheCancel(Sink):
    """Its emit cannot be cancelled."""

    class Made(Lines):
        async def emit(self, *, type, data):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            self.try_emit(type=type, data=data)


@planted("test_emit_can_be_cancelled", "it hangs")
class TestSinkKeepsItsLock(Sink):
    """Cancelled, its emit keeps its lock."""

    patience = 0.5

    class Made(Lines):
        def __init__(self):
            super().__init__()
            self.lock = asyncio.Lock()

        async def emit(self, *, type, data):
            await self.lock.acquire()
            await asyncio.sleep(0)
            self.try_emit(type=type, data=data)
            self.lock.release()


@planted("test_events_arrive_in_order_and_once", "assert")
class TestSinkTurnsTheOrder(Sink):
    """The newest comes first."""

    class Made(Lines):
        def __init__(self):
            super().__init__()
            self.lines = deque()

        def try_emit(self, *, type, data):
            self.lines.appendleft((type, data))


@planted("test_events_arrive_in_order_and_once", "assert")
class TestSinkDeliversTwice(Sink):
    """Its emit delivers twice."""

    class Made(Lines):
        async def emit(self, *, type, data):
            self.try_emit(type=type, data=data)
            self.try_emit(type=type, data=data)


@planted("test_events_arrive_as_they_were", "assert")
class TestSinkCutsTexts(Sink):
    """It cuts what is long."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            self.lines.append((type, {key: str(value)[:100] for key, value in data.items()}))


@planted("test_the_events_of_fifty_runs_keep_apart", "assert")
class TestSinkKeepsTheRunInItself(Sink):
    """It takes every event for one of the run that began last."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            if type == "pipeline.started":
                self.run = data["pipeline_run_id"]
            self.lines.append((type, {**data, "pipeline_run_id": self.run}))


@planted("test_closing_delivers_what_is_left", "assert")
class TestSinkForgetsItsBuffer(Sink):
    """What is in its buffer when it is closed is lost."""

    class Made(Lines):
        def __init__(self):
            super().__init__()
            self.buffer: list[Any] = []

        def try_emit(self, *, type, data):
            self.buffer.append((type, data))
            if len(self.buffer) == 100:
                self.flush()

        def flush(self):
            self.lines += self.buffer
            self.buffer.clear()


@planted("test_closing_delivers_what_is_left", "twice")
class TestSinkIsClosedOnce(Sink):
    """It cannot be closed twice."""

    class Made(Lines):
        def close(self):
            if self.closed:
                raise RuntimeError("closed twice")
            self.closed = True


@planted("test_a_closed_sink_is_in_nobody_s_way", "closed")
class TestSinkRaisesWhenClosed(Sink):
    """After it was closed, it raises."""

    class Made(Lines):
        def try_emit(self, *, type, data):
            if self.closed:
                raise RuntimeError("closed")
            super().try_emit(type=type, data=data)


@planted("test_closed_sinks_hold_nothing", "thread")
class TestSinkKeepsItsThread(Sink):
    """Its thread never ends."""

    class Made(Lines):
        def __init__(self):
            super().__init__()
            threading.Thread(target=threading.Event().wait, daemon=True, name="sender").start()


# --- run stores -----------------------------------------------------------------------------------------


class Memory:
    """A correct store."""

    def __init__(self):
        self.runs: dict[Any, dict[str, Any]] = {}
        self.lock = asyncio.Lock()
        self.closed = False

    async def create_run(
        self, run_id, *, service, topology=None, execution_mode=None, status="created", **more
    ):
        told = {"service": service, "topology": topology, "execution_mode": execution_mode, "status": status}
        self.runs[run_id] = {**told, "error": None, "duration_ms": None, **more}
        return dict(self.runs[run_id])

    async def update_status(self, run_id, status, *, error=None, duration_ms=None, **data):
        if run_id in self.runs:
            self.runs[run_id].update(status=status, error=error, duration_ms=duration_ms, **data)

    async def get_run(self, run_id):
        found = self.runs.get(run_id)
        return None if found is None else dict(found)

    async def aclose(self):
        self.closed = True


class Store(RunStoreConformance):
    """Makes the store ``Made`` of the suite itself."""

    patience = 5.0
    Made: type[Any]

    def make_store(self):
        return self.Made()


@planted("test_it_is_a_run_store", "is not async")
class TestStoreNotAsync(Store):
    """Its get_run is a plain function."""

    class Made(Memory):
        def get_run(self, run_id): ...


@planted("test_it_is_a_run_store", "unexpected keyword|got an unexpected")
class TestStoreTakesNoMetadata(Store):
    """It takes no field that the protocol does not name."""

    class Made(Memory):
        async def create_run(
            self, run_id, *, service, topology=None, execution_mode=None, status="created"
        ): ...


@planted("test_an_unknown_run_is_none", "KeyError")
class TestStoreRaisesForUnknownRuns(Store):
    """It raises for a run that it does not know."""

    class Made(Memory):
        async def get_run(self, run_id):
            return self.runs[run_id]


@planted("test_a_created_run_is_known", "assert")
class TestStoreReturnsNoRecord(Store):
    """Its create_run returns nothing."""

    class Made(Memory):
        async def create_run(self, run_id, **told):
            await super().create_run(run_id, **told)


@planted("test_what_is_not_said_has_the_defaults", "assert")
class TestStoreHasOtherDefaults(Store):
    """A run without a status is pending there."""

    class Made(Memory):
        async def create_run(self, run_id, *, status="pending", **told):
            return await super().create_run(run_id, status=status, **told)


@planted("test_metadata_is_taken", "not JSON serializable")
class TestStoreWritesMetadataAsJson(Store):
    """It takes metadata that JSON can say."""

    class Made(Memory):
        async def create_run(self, run_id, **told):
            json.dumps(told)
            return await super().create_run(run_id, **told)


@planted("test_an_update_is_seen", "assert")
class TestStoreForgetsWithAnUpdate(Store):
    """An update takes the place of the whole record."""

    class Made(Memory):
        async def update_status(self, run_id, status, **told):
            self.runs[run_id] = {"status": status, **told}


@planted("test_an_update_of_an_unknown_run_harms_nothing", "assert")
class TestStoreUpdatesEverything(Store):
    """It updates every run for one that it does not know."""

    class Made(Memory):
        async def update_status(self, run_id, status, **told):
            for one in [run_id] if run_id in self.runs else list(self.runs):
                await super().update_status(one, status, **told)


@planted("test_text_of_every_script", "assert|Unicode")
class TestStoreSpeaksAscii(Store):
    """It keeps ASCII only."""

    class Made(Memory):
        async def create_run(self, run_id, *, service, **told):
            return await super().create_run(
                run_id, service=service.encode("ascii", "replace").decode(), **told
            )


@planted("test_text_is_text", "OperationalError|ProgrammingError|syntax error|assert|one statement")
class TestStorePastesSql(Store):
    """It pastes texts into its statements."""

    class Made(Memory):
        def __init__(self):
            super().__init__()
            self.database = sqlite3.connect(":memory:")
            self.database.execute("CREATE TABLE runs (service TEXT)")

        async def create_run(self, run_id, *, service, **told):
            self.database.execute(f"INSERT INTO runs VALUES ('{service}')")  # noqa: S608 - the defect
            return await super().create_run(run_id, service=service, **told)

        async def aclose(self):
            self.database.close()


@planted("test_a_big_error_is_taken", "too long")
class TestStoreTakesSmallErrors(Store):
    """An error that is too long for its column keeps the status from being written."""

    class Made(Memory):
        async def update_status(self, run_id, status, *, error=None, **told):
            if error and len(error) > 65_535:
                raise ValueError("value too long for type character varying(65535)")
            await super().update_status(run_id, status, error=error, **told)


@planted("test_fifty_runs_at_once_keep_apart", "assert|KeyError")
class TestStoreKeepsTheRunInItself(Store):
    """It takes an update for one of the run that was written down last."""

    class Made(Memory):
        async def create_run(self, run_id, **told):
            self.current = run_id
            await asyncio.sleep(0)
            return await super().create_run(run_id, **told)

        async def update_status(self, run_id, status, **told):
            await super().update_status(self.current, status, **told)


@planted("test_concurrent_updates_do_not_mix", "assert")
class TestStoreUpdatesInSteps(Store):
    """It writes the fields of an update one after another."""

    class Made(Memory):
        async def update_status(self, run_id, status, *, duration_ms=None, **told):
            record = self.runs.get(run_id, {})
            record.update(status=status)
            for _ in range((duration_ms or 0) % 7):
                await asyncio.sleep(0)
            record.update(duration_ms=duration_ms, **told)


@planted("test_tenants_keep_apart", "assert")
class TestStoreKeepsTheErrorOfAnother(Store):
    """An update without an error has that of the one before."""

    class Made(Memory):
        error: Any = None

        async def update_status(self, run_id, status, *, error=None, **told):
            self.error = error or self.error
            await super().update_status(run_id, status, error=self.error, **told)


@planted("test_runs_of_pipelines_are_written_down", "assert")
class TestStoreKnowsOneEnd(Store):
    """It takes every run for completed."""

    class Made(Memory):
        async def update_status(self, run_id, status, **told):
            await super().update_status(run_id, "completed" if status == "failed" else status, **told)


class KeepsItsLock(Memory):
    async def update_status(self, run_id, status, **told):
        await self.lock.acquire()
        await asyncio.sleep(0)
        await super().update_status(run_id, status, **told)
        self.lock.release()


@planted("test_a_cancel_at_every_await[update_status]", "it hangs")
class TestStoreKeepsItsLock(Store):
    """Cancelled, it keeps its lock."""

    patience = 0.5
    Made = KeepsItsLock


@planted("test_a_cancel_at_every_await[create_run]", "left behind")
class TestStoreLeavesATask(Store):
    """Cancelled, it leaves its helper running."""

    class Made(Memory):
        async def create_run(self, run_id, **told):
            helper = asyncio.ensure_future(asyncio.sleep(0.01))
            await asyncio.wait([helper])
            return await super().create_run(run_id, **told)


@planted("test_it_blocks_nobody", r"time\.sleep")
class TestStoreSleeps(Store):
    """It sleeps for each update."""

    class Made(Memory):
        async def update_status(self, run_id, status, **told):
            time.sleep(0.001)  # noqa: ASYNC251 - the defect


@planted("test_a_closed_store_does_not_hang", "it hangs")
class TestStoreHangsWhenClosed(Store):
    """After it was closed, its calls wait for ever."""

    patience = 0.5

    class Made(Memory):
        async def get_run(self, run_id):
            if self.closed:
                await asyncio.get_running_loop().create_future()


@planted("test_closed_stores_hold_nothing", "open files")
class TestStoreKeepsItsFile(Store):
    """Its file stays open when it is closed."""

    class Made(Memory):
        def __init__(self):
            super().__init__()
            forgotten.append(tempfile.TemporaryFile())  # noqa: SIM115 - the defect


# --- breakers -------------------------------------------------------------------------------------------


class Counting:
    """A correct breaker that opens after three failures, and tries after ``recover``."""

    threshold = 3

    def __init__(self):
        self.failures: dict[Any, int] = {}
        self.trying: dict[Any, bool] = {}
        self.lock = asyncio.Lock()

    def key(self, operation, provider):
        return operation, provider

    async def is_open(self, *, operation, provider):
        key = self.key(operation, provider)
        if self.failures.get(key, 0) < self.threshold:
            return False
        if self.trying.get(key):
            self.trying[key] = False
            return False
        return True

    async def record_success(self, *, operation, provider):
        self.failures.pop(self.key(operation, provider), None)

    async def record_failure(self, *, operation, provider, reason):
        key = self.key(operation, provider)
        self.failures[key] = self.failures.get(key, 0) + 1

    def recover(self):
        self.trying = dict.fromkeys(self.failures, True)


class Breaker(CircuitBreakerConformance):
    """Makes the breaker ``Made`` of the suite itself."""

    patience = 5.0
    failure_threshold = 3
    recovers = True
    Made: type[Any]

    def make_breaker(self):
        return self.Made()

    async def recover(self, breaker):
        breaker.recover()


@planted("test_it_is_a_circuit_breaker", "missing a required argument|got an unexpected")
class TestBreakerWithOtherKeywords(Breaker):
    """Its record_failure does not take the reason."""

    class Made(Counting):
        async def record_failure(self, *, operation, provider): ...


@planted("test_a_circuit_is_closed_at_first", "assert")
class TestBreakerAnswersWithANumber(Breaker):
    """Its answer is a number."""

    class Made(Counting):
        async def is_open(self, *, operation, provider):
            return 0


@planted("test_failures_in_a_row_open_it", "closed after 3 failures")
class TestBreakerOpensLate(Breaker):
    """It opens one failure late."""

    class Made(Counting):
        threshold = 4


@planted("test_failures_in_a_row_open_it", "open after 2 failures")
class TestBreakerOpensEarly(Breaker):
    """It opens one failure early."""

    class Made(Counting):
        threshold = 2


@planted("test_a_success_begins_a_new_row", "assert")
class TestBreakerCountsForEver(Breaker):
    """A success forgives nothing."""

    class Made(Counting):
        async def record_success(self, *, operation, provider): ...


@planted("test_circuits_keep_apart", "assert")
class TestBreakerHasOneCircuit(Breaker):
    """One provider's failures close all off."""

    class Made(Counting):
        def key(self, operation, provider):
            return operation


@planted("test_names_may_be_any_text", "assert")
class TestBreakerJoinsNames(Breaker):
    """It joins names with a colon."""

    class Made(Counting):
        def key(self, operation, provider):
            return f"{operation}:{provider}"


@planted("test_one_call_tries_after_the_pause", "50 callers were let through")
class TestBreakerLetsEverybodyTry(Breaker):
    """After the pause it lets everybody through."""

    class Made(Counting):
        async def is_open(self, *, operation, provider):
            key = (operation, provider)
            return self.failures.get(key, 0) >= self.threshold and not self.trying.get(key)


@planted("test_a_probe_that_succeeds_closes_it", "assert")
class TestBreakerStaysOnTheEdge(Breaker):
    """After a probe that succeeded, the next failure opens it."""

    class Made(Counting):
        async def record_success(self, *, operation, provider):
            key = (operation, provider)
            self.failures[key] = min(self.failures.get(key, 0), 1)


@planted("test_a_probe_that_fails_opens_it_again", "assert")
class TestBreakerForgivesAfterThePause(Breaker):
    """The pause alone closes it."""

    class Made(Counting):
        def recover(self):
            self.failures.clear()


@planted("test_fifty_callers_at_once_lose_nothing", "assert")
class TestBreakerLosesFailures(Breaker):
    """It waits between reading and writing its count."""

    class Made(Counting):
        async def record_failure(self, *, operation, provider, reason):
            count = self.failures.get((operation, provider), 0)
            await asyncio.sleep(0)
            self.failures[operation, provider] = count + 1


@planted("test_it_serves_one_event_loop_after_another", "different (event )?loop|bound to")
class TestBreakerBelongsToALoop(Breaker):
    """It keeps a lock for all event loops."""

    class Made(Counting):
        async def is_open(self, *, operation, provider):
            async with self.lock:
                await asyncio.sleep(0)
                return await super().is_open(operation=operation, provider=provider)


@planted("test_a_cancel_at_every_await", "it hangs")
class TestBreakerKeepsItsLock(Breaker):
    """Cancelled, it keeps its lock."""

    patience = 0.5

    class Made(Counting):
        async def is_open(self, *, operation, provider):
            await self.lock.acquire()
            await asyncio.sleep(0)
            self.lock.release()
            return False


@planted("test_it_blocks_nobody", r"time\.sleep")
class TestBreakerSleeps(Breaker):
    """It sleeps after a failure."""

    class Made(Counting):
        async def record_failure(self, *, operation, provider, reason):
            time.sleep(0.001)  # noqa: ASYNC251 - the defect


# --- settings -------------------------------------------------------------------------------------------


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


@planted("test_it_is_a_model", "issubclass")
class TestSettingsNoModel(SettingsConformance):
    """It is a dict."""

    model = dict  # type: ignore[assignment]


@planted("test_every_field_is_described", "limits.most")
class TestSettingsUndescribed(SettingsConformance):
    """A field of a model inside has no description."""

    class model(Strict):  # noqa: N801 - the suite's name for it
        class Limits(Strict):
            most: int = 3

        limits: Limits = Field(Limits(), description="How much there may be.")


@planted("test_every_field_has_a_default_or_says_that_it_is_required", "do not say 'required': url")
class TestSettingsRequiredUnsaid(SettingsConformance):
    """A field without a default does not say that it is required."""

    example: ClassVar[dict[str, Any]] = {"url": "acme://"}

    class model(Strict):  # noqa: N801
        url: str = Field(description="Where it is.")


@planted("test_the_defaults_are_valid", "validation error")
class TestSettingsInvalidDefault(SettingsConformance):
    """A default is not what its field takes."""

    class model(Strict):  # noqa: N801
        size: int = Field(0, ge=1, description="How large.")


@planted("test_an_unknown_key_is_refused", "DID NOT RAISE")
class TestSettingsTakeAnything(SettingsConformance):
    """It takes misspelt keys without a word."""

    class model(BaseModel):  # noqa: N801
        size: int = Field(1, description="How large.")


@planted("test_a_required_key_is_asked_for", "DID NOT RAISE|did not match")
class TestSettingsAskForNothing(SettingsConformance):
    """It makes up what is required."""

    example: ClassVar[dict[str, Any]] = {"url": "acme://"}

    class model(Strict):  # noqa: N801
        url: str = Field(description="Where it is; required.")

        @classmethod
        def model_validate(cls, values, **more):
            return super().model_validate({"url": "acme://", **values}, **more)


@planted("test_values_from_the_environment_are_taken", "valid integer")
class TestSettingsTakeNoText(SettingsConformance):
    """It takes numbers only as numbers."""

    class model(BaseModel):  # noqa: N801
        model_config = ConfigDict(extra="forbid", strict=True)

        size: int = Field(1, description="How large.")


@planted("test_secrets_are_masked", "api_key")
class TestSettingsShowSecrets(SettingsConformance):
    """A key is a plain text."""

    class model(Strict):  # noqa: N801
        api_key: str | None = Field(None, description="The key.")


@planted("test_it_reads_nothing_by_itself", "assert")
class TestSettingsReadTheEnvironment(SettingsConformance):
    """Its default is what the environment says."""

    class model(Strict):  # noqa: N801
        size: str = Field(default_factory=lambda: os.environ.get("SIZE", "1"), description="How large.")


shared: list[str] = []


@planted("test_two_of_it_share_nothing", "one object for all")
class TestSettingsShareAList(SettingsConformance):
    """A default is one list for all."""

    class model(Strict):  # noqa: N801
        tags: Any = Field(default_factory=lambda: shared, description="Words.")


# --- commands -------------------------------------------------------------------------------------------


class Command(CommandConformance):
    """Takes the command ``made`` of the suite itself."""

    made: Any

    def make_command(self):
        return type(self).__dict__["made"]


@planted("test_it_is_a_command", "isinstance")
class TestCommandIsAFunction(Command):
    """It is a plain function."""

    made = print


@click.command(help="Greet.")
@click.option("--loud", is_flag=True)
def without_help(loud): ...


@planted("test_everything_is_explained", "--loud")
class TestCommandWithoutHelp(Command):
    """An option has no help."""

    made = without_help


class Sullen(click.Command):
    def format_help(self, ctx, formatter):
        raise RuntimeError("no help here")


@click.command(cls=Sullen, help="Greet.")
def without_page(): ...


@planted("test_help_works", "no help here")
class TestCommandWithoutHelpPage(Command):
    """Its help raises."""

    made = without_page


@click.command(help="Greet.", context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def takes_options(words): ...


@planted("test_a_bad_option_exits_with_2", "exited with 0")
class TestCommandTakesAnyOption(Command):
    """It takes options that it does not have."""

    made = takes_options


class Number(click.types.IntParamType):
    def convert(self, value, param, ctx):
        return int(value)


@click.command(help="Greet.")
@click.option("--times", type=Number(), help="How often.")
def reads_numbers(times): ...


@planted("test_a_bad_value_exits_with_2", "raised ValueError")
class TestCommandRaisesOnBadValues(Command):
    """It reads a number by itself, and raises."""

    made = reads_numbers


class Loose(click.Command):
    def parse_args(self, ctx, args):
        return super().parse_args(ctx, [one for one in args if one.startswith("-")])


@click.command(cls=Loose, help="Greet.")
def takes_words(): ...


@planted("test_too_many_arguments_exit_with_2", "took 1 arguments")
class TestCommandTakesTooMuch(Command):
    """It takes arguments and says nothing."""

    made = takes_words


@click.command(help="Greet.")
@click.pass_context
def ends_with_one(ctx):
    ctx.exit(1)


@planted("test_it_works", "exited with 1")
class TestCommandFails(Command):
    """It ends with 1."""

    arguments = ()
    made = ends_with_one


@click.command(help="Greet.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def talks(as_json):
    click.echo("Here you are:")
    click.echo("{}")


@planted("test_it_works", "Expecting value|JSONDecodeError")
class TestCommandTalksBesideJson(Command):
    """With --json it prints more than that."""

    arguments = ()
    made = talks


# --- executors ------------------------------------------------------------------------------------------


class Executor(ExecutorConformance):
    """Makes the executor ``Made`` of the suite itself."""

    blocks_loop = True
    Made: type[Any]

    def make_executor(self):
        return self.Made()


@planted("test_a_cancelled_call_ends_after_its_body", "assert")
class TestExecutorReturnsBeforeItsBody(Executor):
    """A cancelled call returns before its body has ended."""

    class Made:
        name = "made"

        async def execute(self, body, ctx):
            task = asyncio.ensure_future(body(ctx))
            try:
                return await asyncio.shield(task)
            finally:
                task.cancel()


@planted("test_errors_are_the_same[attributes]", "instead of|assert|error")
class TestExecutorChangesErrors(Executor):
    """Errors become texts."""

    class Made:
        name = "made"

        async def execute(self, body, ctx):
            try:
                return await body(ctx)
            except Exception as exc:
                raise RuntimeError(str(exc)) from None


@planted("test_fifty_runs_at_once_keep_apart", "assert|At index")
class TestExecutorMixesRuns(Executor):
    """It runs the body with the context that came last."""

    class Made:
        name = "made"

        async def execute(self, body, ctx):
            self.ctx = ctx
            await asyncio.sleep(0)
            return await body(self.ctx)
