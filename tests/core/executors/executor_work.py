"""Bodies and ports for the executors' tests, which worker processes import."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stageflow import StageContext, stage, use

HOUR = 3600.0


@dataclass(frozen=True)
class Note:
    text: str
    pid: int


async def pid(ctx):
    return {"pid": os.getpid()}


async def echo(ctx):
    return {"text": ctx.input_text}


async def begin_and_wait(ctx):
    ctx.try_emit_event("begun", {"pid": os.getpid()})
    await asyncio.sleep(HOUR)


async def begin_and_block(ctx):
    ctx.try_emit_event("begun", {"pid": os.getpid()})
    blocking_for_ever()


def blocking_for_ever():
    while True:
        time.sleep(0.01)


async def refuse_to_end(ctx):
    ctx.try_emit_event("begun", {"pid": os.getpid()})
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(HOUR)


async def until_file(ctx):
    ctx.try_emit_event("begun", {"pid": os.getpid()})
    while not Path(ctx.data["until"]).exists():  # noqa: ASYNC240 - it is to block
        time.sleep(0.001)  # noqa: ASYNC251 - as above
    return {"pid": os.getpid()}


async def exit_at_once(ctx):
    os._exit(3)


async def crash(ctx):
    ctypes.string_at(0)


async def kill_itself_once(ctx):
    if ctx.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"attempt": ctx.attempt}


async def eat_memory(ctx):
    size = Path("/proc/self/statm").read_text("ascii").split()[0]  # noqa: ASYNC240 - there is nothing to wait for
    limit = int(size) * resource.getpagesize() + 50_000_000
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return {"bytes": b"x" * 500_000_000}


async def write_to_full(ctx):
    with open("/dev/full", "w") as file:  # noqa: ASYNC230, PTH123 - there is nothing to wait for
        file.write("x" * 100_000)


async def write_too_much(ctx):
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    Path(ctx.data["file"]).write_bytes(b"x" * 100_000)  # noqa: ASYNC240 - there is nothing to wait for


async def print_much(ctx):
    for number in range(2000):
        print("printed", number)
    os.write(1, b"written\n")
    sys.stderr.write("complained\n")
    return {}


async def print_little(ctx):
    print("printed")
    return {}


async def give_lambda(ctx):
    return {"rows": [1, {"key": lambda: 1}]}


class Handle:
    def __init__(self):
        self.socket = lambda: None


async def raise_unpicklable(ctx):
    error = ConnectionError("no route")
    error.handle = Handle()
    error.add_note("tried twice")
    raise error


async def emit_unpicklable(ctx):
    ctx.try_emit_event("odd", {"plain": 1, "handle": Handle()})
    return {}


async def leave_task(ctx):
    async def late():
        ctx.try_emit_event("late")
        with suppress(Exception):
            await ctx.gate()
        Path(ctx.data["file"]).touch()  # noqa: ASYNC240 - there is nothing to wait for

    asyncio.get_running_loop().call_later(0.05, lambda: _kept.append(asyncio.ensure_future(late())))
    return {}


_kept: list[Any] = []


async def wait_for_file(ctx):
    while not Path(ctx.data["file"]).exists():  # noqa: ASYNC240 - there is nothing to wait for
        await asyncio.sleep(0.005)
    return {}


async def register(ctx):
    async def callback():
        ctx.try_emit_event("cleaned", {"pid": os.getpid()})

    ctx.register_cleanup(callback, name="callback")
    return {"pid": os.getpid()}


async def hang_in_cleanup(ctx):
    async def callback():
        ctx.try_emit_event("cleaning")
        await asyncio.sleep(HOUR)

    ctx.register_cleanup(callback, name="slow")
    return {"pid": os.getpid()}


async def sub_task_exits(ctx):
    async def leave():
        raise SystemExit(4)

    async with asyncio.TaskGroup() as group:
        group.create_task(leave())


async def use_ports(ctx):
    ports = ctx.inputs.ports
    return {"name": ports["name"], "count": ports["count"], "pid": os.getpid()}


async def use_missing_ports(ctx):
    return {"db": ctx.inputs.ports.db}


_opened = []


def make_ports():
    _opened.append(1)
    return {"name": "plain", "count": len(_opened)}


async def make_ports_async():
    await asyncio.sleep(0)
    return {"name": "async", "count": 1}


@contextmanager
def managed_ports():
    yield {"name": "managed", "count": 1}
    Path("closed").touch()


@asynccontextmanager
async def managed_ports_async():
    await asyncio.sleep(0)
    yield {"name": "managed async", "count": 1}
    await asyncio.sleep(0)
    Path("closed").touch()  # noqa: ASYNC240 - there is nothing to wait for


def broken_ports():
    raise ConnectionRefusedError(111, "no database")


def exiting_ports():
    raise SystemExit(9)


def vanishing_ports():
    os._exit(7)


def blocking_ports():
    Path("opening").write_text(str(os.getpid()), "ascii")
    blocking_for_ever()


class Stage:
    """A stage as a class, made anew for every attempt."""

    def __init__(self, factor=2):
        self.factor = factor

    async def execute(self, ctx):
        return {"product": self.factor * len(ctx.input_text)}


@stage
async def typed(ctx: StageContext) -> Note:
    return Note(ctx.input_text or "", os.getpid())


@stage
async def use_typed(note: Note = use(typed)) -> str:
    return f"{note.text} {note.pid != os.getpid()}"


async def publish_and_die(ctx):
    await ctx.publish("one")
    await ctx.publish("two")
    os._exit(3)


async def publish_for_ever(ctx):
    ctx.try_emit_event("begun", {"pid": os.getpid()})
    while True:
        await ctx.publish("more")


async def set_own(ctx):
    before = _own.get()
    _own.set("somebody's")
    return {"before": before}


_own: ContextVar[str] = ContextVar("own", default="nobody's")


async def inheritable(ctx):
    return {"fds": inheritable_descriptors()}


def inheritable_descriptors():
    found = []
    for one in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one by which the folder was listed
            if int(one.name) > 2 and os.get_inheritable(int(one.name)):
                found.append(int(one.name))
    return found


async def read_and_die(ctx):
    async for _ in ctx.stream("publisher"):
        os._exit(3)


async def publish_lambda(ctx):
    await ctx.publish({"key": [lambda: 1]})


async def read_all(ctx):
    return {"chunks": [chunk async for chunk in ctx.stream("publisher")]}


class Loaded:
    """Cannot be loaded where it arrives."""

    def __reduce__(self):
        return _explode, (os.getpid(),)


def _explode(made_in):
    if os.getpid() != made_in:
        raise ImportError("not here")
    return Loaded()


async def give_unloadable(ctx):
    return {"thing": Loaded()}
