"""The bodies of stages that ``ExecutorConformance`` runs: in a module, so that other processes can import them."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from stageflow.errors import PermanentError, RateLimitError
from stageflow.observability.correlation import get_correlation_id
from stageflow.observability.trace import get_trace_context_dict
from stageflow.stages.output import StageArtifact, StageEvent, StageOutput
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stageflow.stages.context import StageContext

__all__ = [
    "ERRORS",
    "OUTPUTS",
    "ClientError",
    "Multiplier",
    "Point",
    "act",
    "announce",
    "answer",
    "ask_provider",
    "asks_when_blocked",
    "block",
    "block_beside",
    "clean_up",
    "confess",
    "echo",
    "exit_process",
    "fail",
    "flaky",
    "forget",
    "give_artifacts",
    "grow",
    "hold",
    "interrupt",
    "leave_receipt",
    "measure",
    "no_awaitable",
    "outlive",
    "process_id",
    "publish",
    "publish_for_ever",
    "read",
    "read_first",
    "read_impatiently",
    "read_undeclared",
    "remember",
    "step_by_step",
    "tell",
    "where",
    "who",
]

HOUR = 3600.0


@dataclass(frozen=True)
class Point:
    """A value of somebody's own type."""

    x: int
    label: str


class ClientError(Exception):
    """An exception as many libraries have it: its constructor takes other arguments than ``Exception`` keeps."""

    def __init__(self, *, status: int, details: dict[str, Any]) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.details = details


class Multiplier:
    """A stage as an object."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Multiply."""
        return StageOutput.ok(product=self.factor * len(ctx.input_text or ""))


def _noted() -> Exception:
    error = LookupError("nobody", 7)
    error.add_note("looked in three places")
    return error


def _grouped() -> Exception:
    return ExceptionGroup("several", [ValueError("a"), KeyError("b")])


ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("no such date", 31),
    "attributes": lambda: ClientError(status=429, details={"after": [1, 2]}),
    "noted": _noted,
    "os": lambda: FileNotFoundError(2, "No such file", "/nowhere"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "key": lambda: KeyError("text"),
    "ours": lambda: PermanentError("the page is empty", fix="send another"),
    "rate": lambda: RateLimitError("slower", 2.5),
    "group": _grouped,
    "stop": lambda: StopAsyncIteration("end"),
    "text": lambda: RuntimeError("naïve 文字 🎈"),
}
"""Makes exceptions, by name."""

OUTPUTS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "mapping": lambda: {
        "text": "naïve 文字 🎈",
        "numbers": [1, 2.5, None, True],
        "set": {1, 2},
        "pair": (1, "a"),
    },
    "ok": lambda: StageOutput.ok({"deep": {"deeper": [{"deepest": b"\0\xff"}]}}, version="2"),
    "skip": lambda: StageOutput.skip("nothing to do"),
    "cancel": lambda: StageOutput.cancel("enough"),
    "fail": lambda: StageOutput.fail("it is broken", {"part": 3}),
    "value": lambda: {"point": Point(3, "here")},
}
"""Makes what stages return, by name."""


async def answer(ctx: StageContext) -> Any:
    """Return the output that is asked for."""
    await asyncio.sleep(0)
    return OUTPUTS[ctx.data["output"]]()


async def fail(ctx: StageContext) -> NoReturn:
    """Raise the error that is asked for."""
    await asyncio.sleep(0)
    error = ERRORS[ctx.data["error"]]()
    raise error


async def echo(ctx: StageContext) -> dict[str, Any]:
    """Return what it was given."""
    await asyncio.sleep(0)
    return {"text": ctx.input_text, "user": str(ctx.snapshot.user_id), "org": str(ctx.snapshot.org_id)}


async def who(ctx: StageContext) -> dict[str, Any]:
    """Return all that its context says."""
    inputs = {name: dict(output.data) for name, output in ctx.inputs.prior_outputs.items()}
    return {
        "snapshot": ctx.snapshot.to_dict(),
        "stage": ctx.stage_name,
        "kind": ctx.kind.value,
        "pipeline": ctx.pipeline,
        "depth": ctx.depth,
        "attempt": ctx.attempt,
        "data": dict(ctx.data),
        "inputs": inputs,
        "declared": sorted(ctx.inputs.declared_deps),
        "started_at": ctx.started_at.isoformat(),
        "cancelled": ctx.is_cancelled,
    }


async def where(_: StageContext) -> dict[str, Any]:
    """Return its place in a trace, and what ties the run to others."""
    trace = get_trace_context_dict()
    trace.pop("created_at", None)
    return {"trace": trace, "correlation_id": str(get_correlation_id())}


async def tell(ctx: StageContext) -> dict[str, Any]:
    """Emit events in every way that there is."""
    sink = ctx.event_sink
    for number in range(20):
        ctx.try_emit_event("told", {"number": number, "text": "文字"})
        if number % 5 == 0:
            await asyncio.sleep(0)
            ctx.record_stage_event("told", "progress", number=number)
        if sink is not None:
            sink.try_emit(type="sink.told", data={"number": number})
    if sink is not None:
        await sink.emit(type="sink.emitted", data={"last": True})
    return {"told": 20}


async def give_artifacts(_: StageContext) -> StageOutput:
    """Return events and artifacts with the output."""
    events = [StageEvent("made", {"number": number}) for number in range(3)]
    return StageOutput(StageStatus.OK, {"n": 1}, [StageArtifact("chart", "sales.svg")], events)


async def flaky(ctx: StageContext) -> dict[str, Any]:
    """Fail in the first two attempts, in two ways."""
    ctx.try_emit_event("attempted", {"attempt": ctx.attempt})
    if ctx.attempt == 1:
        msg = "no route"
        raise ConnectionError(msg)
    if ctx.attempt == 2:  # noqa: PLR2004 - as the docstring says
        return StageOutput.retry("not yet")  # type: ignore[return-value]  # pyright: ignore[reportReturnType]
    return {"attempt": ctx.attempt}


async def announce(ctx: StageContext) -> None:
    """Say that it has begun, wait for ever, and say that it was cancelled."""
    ctx.try_emit_event("begun")
    try:
        await asyncio.sleep(HOUR)
    except asyncio.CancelledError:
        ctx.try_emit_event("heard")
        await asyncio.sleep(0)
        ctx.try_emit_event("cleaned")
        raise


async def step_by_step(ctx: StageContext) -> None:
    """Take five steps; wait for ever at the one that is asked for."""
    try:
        for number in range(5):
            ctx.try_emit_event("step", {"number": number})
            await asyncio.sleep(HOUR if number == ctx.data["stop"] else 0)
    finally:
        ctx.try_emit_event("left")


async def outlive(ctx: StageContext) -> dict[str, Any]:
    """Return something though it was cancelled."""
    ctx.try_emit_event("begun")
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(HOUR)
    return {"outlived": True}


async def confess(ctx: StageContext) -> None:
    """Raise another error when it is cancelled."""
    ctx.try_emit_event("begun")
    try:
        await asyncio.sleep(HOUR)
    except asyncio.CancelledError:
        msg = "could not roll back"
        raise ValueError(msg) from None


def _wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.001)


async def block(ctx: StageContext) -> dict[str, Any]:
    """Hold its event loop, without ever awaiting, until a file is there."""
    ctx.try_emit_event("begun", {"pid": os.getpid()})
    _wait_for(ctx.data["until"])
    return {"blocked": True}


def _work_until(path: str) -> None:
    while not Path(path).exists():
        sum(range(1000))


async def hold(ctx: StageContext) -> dict[str, Any]:
    """Keep a processor, and the interpreter's lock, until a file is there."""
    ctx.try_emit_event("begun")
    _work_until(ctx.data["until"])
    return {"held": True}


def _ask_until_told(ctx: StageContext) -> None:
    while not ctx.is_cancelled:
        time.sleep(0.001)
    ctx.try_emit_event("told")
    ctx.raise_if_cancelled()


async def asks_when_blocked(ctx: StageContext) -> None:
    """Never await, but ask whether the run is being cancelled."""
    ctx.try_emit_event("begun")
    _ask_until_told(ctx)


async def block_beside(ctx: StageContext) -> dict[str, Any]:
    """Emit events from a thread that the body has started."""
    await asyncio.to_thread(ctx.try_emit_event, "beside", {"n": 1})
    return {}


async def exit_process(_: StageContext) -> NoReturn:
    """Want the program to end."""
    await asyncio.sleep(0)
    raise SystemExit(3)


async def interrupt(_: StageContext) -> NoReturn:
    """Behave as if somebody had pressed Ctrl-C."""
    raise KeyboardInterrupt


async def grow(ctx: StageContext) -> dict[str, Any]:
    """Return as much as it was given, and as much again."""
    return {"text": ctx.input_text, "bytes": b"\xff" * len(ctx.input_text or "")}


async def measure(ctx: StageContext) -> dict[str, Any]:
    """Return how much each dependency has handed over."""
    return {name: len(output.data["bytes"]) for name, output in ctx.inputs.prior_outputs.items()}


async def clean_up(ctx: StageContext) -> dict[str, Any]:
    """Register three cleanup callbacks, of which one fails."""
    pid = os.getpid()

    def told(name: str) -> Callable[[], Awaitable[None]]:
        async def callback() -> None:
            await asyncio.sleep(0)
            ctx.try_emit_event("cleaned", {"what": name, "same": os.getpid() == pid})

        return callback

    async def broken() -> None:
        msg = "nothing to close"
        raise OSError(msg)

    ctx.register_cleanup(told("first"))
    ctx.register_cleanup(broken, name="broken")
    ctx.register_cleanup(told("last"), name="last")
    return {"registered": 3}


async def ask_provider(ctx: StageContext) -> dict[str, Any]:
    """Call a provider."""
    async with ctx.provider_call("chat", "acme", "small", session="s-1") as call:
        call.metrics["tokens"] = 3
    return {"asked": True}


async def act(ctx: StageContext) -> dict[str, Any]:
    """Wait for the gates, then do something."""
    await ctx.gate()
    ctx.try_emit_event("acted")
    return {"acted": True}


class _Receipt:
    """How to undo something."""

    def to_dict(self) -> dict[str, Any]:
        return {"undo": "delete", "id": 7}


async def leave_receipt(ctx: StageContext) -> dict[str, Any]:
    """Leave an undo receipt."""
    receipt: Any = _Receipt()
    ctx.leave_receipt(receipt)
    return {"done": True}


async def publish(ctx: StageContext) -> dict[str, Any]:
    """Publish some chunks, and say how many were for somebody."""
    heard = 0
    for number in range(ctx.data["chunks"]):
        heard += await ctx.publish({"number": number, "text": "文字"})
    if ctx.data.get("breaks"):
        msg = "no more"
        raise ConnectionError(msg)
    return {"heard": heard}


async def publish_for_ever(ctx: StageContext) -> None:
    """Publish until somebody ends it."""
    ctx.try_emit_event("begun")
    while True:
        await ctx.publish("more")


async def read(ctx: StageContext) -> dict[str, Any]:
    """Read all that the stage ``publisher`` publishes."""
    return {"chunks": [chunk async for chunk in ctx.stream("publisher")]}


async def read_first(ctx: StageContext) -> dict[str, Any]:
    """Read one chunk, and no more."""
    async for chunk in ctx.stream("publisher"):
        return {"first": chunk}
    return {}


async def read_impatiently(ctx: StageContext) -> dict[str, Any]:
    """Read, and be cancelled at every other wait; no chunk gets lost by that."""
    chunks: list[Any] = []
    stream = ctx.stream("publisher")
    while True:
        waiting = asyncio.ensure_future(anext(stream, None))
        if len(chunks) % 2:
            await asyncio.sleep(0)
            waiting.cancel()
        try:
            chunk = await waiting
        except asyncio.CancelledError:
            waiting = asyncio.ensure_future(anext(stream, None))
            chunk = await waiting
        if chunk is None:
            return {"chunks": chunks}
        chunks.append(chunk)


async def read_undeclared(ctx: StageContext) -> dict[str, Any]:
    """Want to read what is not declared."""
    ctx.stream("nobody")
    return {}


async def process_id(_: StageContext) -> dict[str, Any]:
    """Return the process that it runs in."""
    return {"pid": os.getpid()}


async def forget(_: StageContext) -> dict[str, Any]:
    """Leave a Task behind."""
    _forgotten.append(asyncio.ensure_future(asyncio.sleep(HOUR)))
    return {}


async def remember() -> None:
    """End the Tasks that ``forget`` has left on this very event loop; others have ended with theirs."""
    here = [one for one in _forgotten if one.get_loop() is asyncio.get_running_loop()]
    _forgotten.clear()
    for one in here:
        one.cancel()
    await asyncio.gather(*here, return_exceptions=True)


_forgotten: list[asyncio.Future[None]] = []


def no_awaitable(_: StageContext) -> Any:
    """Return something that nobody can await."""
    return {"not": "awaitable"}
