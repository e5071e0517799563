"""Stages that publish while they run, and stages that read them: each row of ``docs/explanation/streams.md``, readably.

`test_stream_properties.py` holds whole graphs against the same page; here is one small run for each sentence. The runs
are on a virtual clock, and each must leave nothing behind.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    Effect,
    FailureMode,
    InterceptorResult,
    Pipeline,
    PipelineResults,
    RetryPolicy,
    StageContext,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
    stage,
    use,
)
from stageflow.context import ArgumentTypeError, ArgumentValueError, CyclicDataError
from stageflow.errors import (
    EffectGateDeadlock,
    PipelineValidationError,
    ReadOnlyDataError,
    RunStateError,
    RunTimeoutError,
    StageTimeoutError,
    UndeclaredDependencyError,
)
from stageflow.pipeline import GuardRetryPolicy
from stageflow.runtime.channels import StreamBrokenError, StreamClosedError
from stageflow.runtime.guard_retry import GuardRetryStrategy
from stageflow.runtime.limits import ConcurrencyLimit
from stageflow.stages import Overflow, StreamEdge, StreamGap, StreamRestart
from stageflow.stages.part import Part
from stageflow.testing import EventRecorder, cancel_everywhere, leak_check, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from stageflow.testing import Probe

AT_ONCE = RetryPolicy(3, base_delay=0, jitter=False)
"""Attempts after a ConnectionError or a time-out, without a wait."""

TO_LOSE = (Overflow.DROP_OLDEST, Overflow.DROP_NEWEST)


# --- what the tests are made of ------------------------------------------------------------------------------------


class Says:
    """Publishes its chunks, and ends as it is told, attempt by attempt."""

    def __init__(self, *chunks: Any, then: Any = None, pause: float | None = None) -> None:
        self.chunks = chunks
        self.then = then if isinstance(then, list) else [then]
        self.pause = pause
        self.heard: list[bool] = []
        self.attempts = 0

    async def execute(self, ctx: StageContext) -> Any:
        self.attempts += 1
        for chunk in self.chunks:
            if self.pause is not None:
                await asyncio.sleep(self.pause)
            self.heard.append(await ctx.publish(chunk))
        then = self.then[min(self.attempts, len(self.then)) - 1]
        if isinstance(then, BaseException):
            raise then
        return then


class Reads:
    """Reads a stream to its end, or some of it."""

    def __init__(
        self,
        producer: str = "llm",
        *,
        most: int | None = None,
        pause: float | None = None,
        late: float | None = None,
        catches: bool = False,
        then: Any = None,
    ) -> None:
        self.producer, self.most, self.pause, self.late = producer, most, pause, late
        self.catches, self.then = catches, then if isinstance(then, list) else [then]
        self.got: list[Any] = []
        self.error: StreamBrokenError | None = None
        self.attempts = 0

    async def execute(self, ctx: StageContext) -> Any:
        self.attempts += 1
        if self.late is not None:
            await asyncio.sleep(self.late)
        got = 0
        try:
            while got != self.most:
                self.got.append(await anext(stream := ctx.stream(self.producer)))
                got += 1
                if self.pause is not None:
                    await asyncio.sleep(self.pause)
                del stream
        except StopAsyncIteration:
            pass
        except StreamBrokenError as exc:
            self.error = exc
            if not self.catches:
                raise
        then = self.then[min(self.attempts, len(self.then)) - 1]
        if isinstance(then, BaseException):
            raise then
        return then


async def idle(ctx: StageContext) -> None:
    pass


async def forever(ctx: StageContext) -> None:
    await asyncio.Event().wait()


def spec(name: str, runner: Any, *after: str, reads: Any = (), **more: Any) -> StageSpec:
    return StageSpec(name, runner, more.pop("kind", StageKind.TRANSFORM), after, streams=reads, **more)


def edge(size: int = 64, overflow: Overflow = Overflow.BLOCK, coalesce: Any = None) -> StreamEdge:
    return StreamEdge("llm", size, overflow, coalesce)


class Played:
    """What a run has left behind."""

    def __init__(self, results: PipelineResults, events: EventRecorder) -> None:
        self.results = results
        self.events = events
        self.error: Any = results.error

    @property
    def statuses(self) -> dict[str, str]:
        return {name: str(output.status) for name, output in self.results.items()}

    def words(self, name: str) -> list[str]:
        """Return what was told of a stage, word for word."""
        return [
            event.data["status"] for event in self.of(f"stage.{name}.") if event.data.get("stage") == name
        ]

    def of(self, start: str) -> list[Any]:
        return [event for event in self.events.events if event.type.startswith(start)]

    def closed(self, name: str) -> dict[str, Any]:
        (event,) = [event for event in self.of("stream.closed") if event.data["stage"] == name]
        return event.data


def play(*specs: StageSpec, interceptors: Iterable[Any] = (), **options: Any) -> Played:
    """Run stages on a virtual clock; whatever happens, they leave nothing behind."""
    build = {key: options.pop(key) for key in list(options) if key in {"failure_mode", "max_concurrency"}}
    loops = options.pop("loops", None)
    graph = StageGraph(
        specs, list(interceptors), guard_retry_strategy=GuardRetryStrategy(loops) if loops else None, **build
    )
    events = EventRecorder()

    async def run() -> PipelineResults:
        async with leak_check():
            return await graph.run(sink=events, raise_errors=False, **options)

    return Played(run_virtual(run()), events)


def refused(*specs: StageSpec, **options: Any) -> list[Any]:
    """Build what does not build, and return what is told of it."""
    loops = options.pop("loops", None)
    with pytest.raises(PipelineValidationError) as caught:
        StageGraph(specs, [], guard_retry_strategy=GuardRetryStrategy(loops) if loops else None)
    return caught.value.problems


class Answers(BaseInterceptor):
    """Answers for a stage, so that its body does not run."""

    name = "answers"

    async def before(self, stage_name: str, ctx: Any) -> InterceptorResult | None:
        return InterceptorResult(stage_ran=False, result={"cached": True}) if stage_name == "llm" else None


# --- when the reader starts ----------------------------------------------------------------------------------------


def test_a_reader_waits_for_the_start_of_its_producer_and_not_for_its_end():
    async def slow(ctx: StageContext) -> None:
        await asyncio.sleep(1)

    reader = Reads()
    run = play(
        spec("first", slow), spec("llm", Says("a", pause=1), "first"), spec("tts", reader, reads="llm")
    )
    told = [event.type for event in run.events.events if event.type.startswith("stage.")]
    assert told == [
        "stage.first.started",
        "stage.first.completed",
        "stage.llm.started",
        "stage.tts.started",
        "stage.llm.completed",
        "stage.tts.completed",
    ]
    assert reader.got == ["a"]


@pytest.mark.parametrize(
    ("llm", "expected"),
    [
        ({"when": lambda inputs: False}, "branch_not_taken"),
        ({"when": lambda inputs: 1 / 0}, "dependency_failed"),
        ({"dependencies": ["broken"]}, "dependency_failed"),
        ({"dependencies": ["left_out"]}, "branch_not_taken"),
        ({"effect": Effect.IDEMPOTENT}, "gate_closed"),
        ({"effect": Effect.IDEMPOTENT, "gated": False}, None),
    ],
    ids=[
        "condition",
        "condition raises",
        "dependency failed",
        "branch not taken",
        "gate closed",
        "not gated",
    ],
)
def test_a_producer_that_never_starts_counts_as_a_dependency_would(llm, expected):
    broken = spec("broken", Says(then=StageOutput.fail("no")), kind=StageKind.GUARD, gates_effects=True)
    left_out = spec("left_out", idle, when=lambda inputs: False)
    reader = spec("tts", Reads(), reads="llm")
    producer = StageSpec("llm", Says("a"), **llm)
    run = play(broken, left_out, producer, reader, failure_mode=FailureMode.BEST_EFFORT)
    (last,) = [event for event in run.of("stage.tts.") if event.data["status"] in {"skipped", "completed"}]
    assert last.data.get("reason") == expected
    assert run.words("tts") == (["skipped"] if expected else ["started", "completed"])


def test_a_reader_with_another_way_in_finds_an_empty_stream_that_has_ended():
    reader = Reads()
    run = play(
        spec("llm", Says("a"), when=lambda inputs: False),
        spec("other", idle),
        spec("tts", reader, "other", reads="llm"),
    )
    assert run.statuses == {"llm": "skip", "other": "ok", "tts": "ok"}
    assert reader.got == []
    assert not run.of("stream.closed")


def test_two_producers_one_of_which_never_starts():
    reads, other = Reads("other"), Reads("llm")

    async def both(ctx: StageContext) -> None:
        await reads.execute(ctx)
        await other.execute(ctx)

    run = play(
        spec("llm", Says("a"), when=lambda inputs: False),
        spec("other", Says("b")),
        spec("tts", both, reads=["llm", "other"]),
    )
    assert (reads.got, other.got) == (["b"], [])
    assert run.statuses["tts"] == "ok"


def test_a_conditional_reader_does_not_care_whether_a_producer_that_ran_says_skip():
    skips = spec("llm", Says("a", then=StageOutput.skip("nothing to say")))
    run = play(skips, spec("tts", reader := Reads(), reads="llm", conditional=True))
    assert (run.statuses["tts"], reader.got) == ("ok", ["a"])
    kept = spec("llm", Says("a"), when=lambda inputs: False)
    run = play(
        kept, spec("other", idle), spec("tts", reader := Reads(), "other", reads="llm", conditional=True)
    )
    assert run.of("stage.tts.")[0].data["reason"] == "dependency_skipped"
    assert reader.attempts == 0


def test_a_producer_that_an_interceptor_answers_for_has_started_and_says_nothing():
    reader = Reads()
    run = play(spec("llm", Says("a")), spec("tts", reader, reads="llm"), interceptors=[Answers()])
    assert run.statuses == {"llm": "ok", "tts": "ok"}
    assert reader.got == []
    assert run.closed("llm")["published"] == 0


def test_a_reader_is_left_behind_with_a_producer_that_was():
    run = play(
        spec("first", forever), spec("llm", Says("a"), "first"), spec("tts", Reads(), reads="llm"), timeout=5
    )
    assert isinstance(run.error, RunTimeoutError)
    assert [run.of(f"stage.{name}.")[0].data["reason"] for name in ("llm", "tts")] == ["run_stopped"] * 2


def test_a_held_reader_keeps_its_producer_waiting_until_the_gate_opens():
    async def check(ctx: StageContext) -> None:
        await asyncio.sleep(5)

    says, reader = Says(1, 2, 3), Reads()
    run = play(
        spec("check", check, kind=StageKind.GUARD, gates_effects=True),
        spec("llm", says),
        spec("tts", reader, reads=edge(2), effect=Effect.IDEMPOTENT),
    )
    assert reader.got == [1, 2, 3]
    told = [event.type for event in run.events.events]
    assert told.index("stage.tts.started") > told.index("effect.gate_opened")
    assert told.index("stage.llm.completed") > told.index("stage.tts.started")
    assert Part.STREAM in run.results.timeline["llm"].totals


# --- what the reader finds -----------------------------------------------------------------------------------------

BROKEN = ConnectionError("no route")


@pytest.mark.parametrize("late", [None, 10], ids=["at once", "long afterwards"])
@pytest.mark.parametrize("chunks", [(), ("a",), ("a", "b", "c")])
@pytest.mark.parametrize(
    ("then", "cause"),
    [
        (None, None),
        (StageOutput.skip("enough"), None),
        (StageOutput.fail("no"), RuntimeError),
        (BROKEN, ConnectionError),
    ],
    ids=["ok", "skip", "fail", "raise"],
)
def test_what_was_published_comes_before_the_end(then, cause, chunks, late):
    reader = Reads(late=late, catches=True)
    play(
        spec("llm", Says(*chunks, then=then)),
        spec("tts", reader, reads="llm"),
        failure_mode=FailureMode.BEST_EFFORT,
    )
    assert reader.got == list(chunks)
    if cause is None:
        assert reader.error is None
    else:
        assert reader.error is not None
        assert isinstance(reader.error.__cause__, cause)
        assert cause is RuntimeError or reader.error.__cause__ is BROKEN


def test_a_producer_that_is_over_its_limit_breaks_its_stream():
    async def llm(ctx: StageContext) -> None:
        await ctx.publish("a")
        await asyncio.Event().wait()

    reader = Reads(catches=True)
    play(
        spec("llm", llm, timeout=5),
        spec("tts", reader, reads="llm"),
        failure_mode=FailureMode.CONTINUE_ON_FAILURE,
    )
    assert reader.got == ["a"]
    assert reader.error is not None
    assert isinstance(reader.error.__cause__, StageTimeoutError)


@pytest.mark.parametrize("then", [None, BROKEN], ids=["ok", "broken"])
def test_after_the_end_every_further_read_finds_the_same_end(then):
    found: list[type[BaseException]] = []

    async def tts(ctx: StageContext) -> None:
        stream = ctx.stream("llm")
        for again in (stream, stream, ctx.stream("llm"), ctx.stream("llm")):
            try:
                while True:
                    await anext(again)
            except (StopAsyncIteration, StreamBrokenError) as exc:
                found.append(type(exc))

    play(
        spec("llm", Says("a", then=then)), spec("tts", tts, reads="llm"), failure_mode=FailureMode.BEST_EFFORT
    )
    assert found == [StopAsyncIteration if then is None else StreamBrokenError] * 4


def test_the_end_of_the_run_cancels_a_reader_before_it_finds_the_break():
    async def cancels(ctx: StageContext) -> StageOutput:
        await ctx.publish("a")
        await asyncio.sleep(1)
        return StageOutput.cancel("enough")

    reader = Reads(catches=True)
    run = play(spec("llm", cancels), spec("tts", reader, reads="llm"))
    assert (reader.got, reader.error) == (["a"], None)
    assert run.words("tts") == ["started", "cancelled"]
    assert run.statuses == {"llm": "cancel"}


def test_a_reader_that_swallows_its_cancellation_finds_the_break():
    found: list[Any] = []

    async def tts(ctx: StageContext) -> None:
        stream = ctx.stream("llm")
        with suppress(asyncio.CancelledError):
            found.append(await anext(stream))
            await anext(stream)
        await asyncio.sleep(1)  # until its producer has given way
        with pytest.raises(StreamBrokenError, match="was cancelled"):
            await anext(stream)
        found.append("broken")

    async def llm(ctx: StageContext) -> None:
        await ctx.publish("a")
        await asyncio.Event().wait()

    run = play(spec("llm", llm), spec("tts", tts, reads="llm"), timeout=5)
    assert found == ["a", "broken"]
    assert run.statuses == {"tts": "ok"}


def test_a_reader_that_is_attempted_again_finds_what_its_last_attempt_has_not_read():
    reader = Reads(most=2, then=[BROKEN, None])
    run = play(spec("llm", Says(1, 2, 3, 4, 5)), spec("tts", reader, reads="llm", retry=AT_ONCE))
    assert reader.got == [1, 2, 3, 4]
    assert run.statuses["tts"] == "ok"
    assert run.closed("llm")["published"] == 5


def test_a_reader_between_two_attempts_still_holds_up_its_producer():
    now: list[float] = []

    async def llm(ctx: StageContext) -> None:
        for chunk in range(3):
            await ctx.publish(chunk)
            now.append(asyncio.get_running_loop().time())

    late = RetryPolicy(2, base_delay=100, max_delay=100, jitter=False)
    reader = Reads(most=1, then=[BROKEN, None])
    play(spec("llm", llm), spec("tts", reader, reads=edge(1), retry=late))
    assert (reader.got, now) == ([0, 1], [0, 0, 100])


# --- what the producer finds ---------------------------------------------------------------------------------------


def test_publish_says_whether_anybody_still_reads():
    says = Says("a", "b", "c", pause=1)
    run = play(spec("llm", says), spec("tts", Reads(most=2), reads="llm"))
    assert says.heard == [True, True, False]
    assert run.closed("llm")["readers"] == {"tts": {"delivered": 2, "lost": 0, "waiting": 0}}


def test_publishing_to_nobody_is_no_error():
    says = Says("a", "b")
    run = play(spec("llm", says))
    assert says.heard == [False, False]
    assert run.statuses == {"llm": "ok"}
    assert not run.of("stream.")


@pytest.mark.parametrize(
    "then",
    [None, StageOutput.skip("enough"), StageOutput.fail("no"), BROKEN],
    ids=["ok", "skip", "fail", "raise"],
)
def test_what_waited_for_a_reader_goes_on_when_that_has_ended_in_whichever_way(then):
    says, reader = Says(1, 2, 3, 4, pause=1), Reads(late=10, most=1, then=then)
    run = play(
        spec("llm", says), spec("tts", reader, reads=edge(1)), failure_mode=FailureMode.CONTINUE_ON_FAILURE
    )
    assert says.heard == [True, False, False, False]  # it has ended in the step in which there was room again
    assert run.statuses["llm"] == "ok"
    assert run.closed("llm")["published"] == 4
    assert run.closed("llm")["readers"] == {"tts": {"delivered": 1, "lost": 0, "waiting": 0}}


def test_a_reader_that_never_reads_holds_up_its_producer_until_it_ends():
    async def deaf(ctx: StageContext) -> None:
        await asyncio.sleep(50)

    ended: list[float] = []

    async def llm(ctx: StageContext) -> None:
        for chunk in range(3):
            await ctx.publish(chunk)
        ended.append(asyncio.get_running_loop().time())

    play(spec("llm", llm), spec("tts", deaf, reads=edge(2)))
    assert ended == [50]


def test_a_reader_that_will_never_start_holds_up_nobody():
    async def slow(ctx: StageContext) -> None:
        await asyncio.sleep(50)
        raise BROKEN

    says, other = Says(1, 2, 3, pause=1), Reads()
    run = play(
        spec("slow", slow),
        spec("llm", says),
        spec("tts", Reads(), "slow", reads=edge(1)),
        spec("log", other, reads="llm"),
        failure_mode=FailureMode.BEST_EFFORT,
    )
    assert run.of("stage.tts.")[0].data["reason"] == "dependency_failed"
    assert (says.heard, other.got) == ([True, True, True], [1, 2, 3])
    assert run.closed("llm")["readers"]["tts"] == {"delivered": 0, "lost": 0, "waiting": 0}


def test_who_watches_the_run_counts_as_a_reader():
    says, seen = Says("a", "b"), []

    async def watch() -> None:
        async with Pipeline().with_stage("llm", says, StageKind.AGENT).stream() as stream:
            seen.extend([event.data["chunk"] async for event in stream if event.type == "stream.chunk"])

    run_virtual(watch())
    assert (says.heard, seen) == ([True, True], ["a", "b"])


def test_two_readers_with_different_edges():
    says = Says(1, 2, 3, 4, 5, pause=0)
    steady, late, last, sums = Reads(), Reads(late=9), Reads(late=9), Reads(late=9)
    run = play(
        spec("llm", says),
        spec("steady", steady, reads=edge(1)),
        spec("late", late, reads=edge(2, Overflow.DROP_NEWEST)),
        spec("last", last, reads=edge(2, Overflow.DROP_OLDEST)),
        spec("sums", sums, reads=edge(2, Overflow.COALESCE, lambda older, newer: older + newer)),
    )
    assert steady.got == [1, 2, 3, 4, 5]
    assert late.got == [1, 2, StreamGap(3)]
    assert last.got == [StreamGap(3), 4, 5]
    assert sums.got == [1, 2 + 3 + 4 + 5]
    readers = run.closed("llm")["readers"]
    assert readers["late"] == {"delivered": 0, "lost": 3, "waiting": 2}
    assert readers["last"] == {"delivered": 0, "lost": 3, "waiting": 2}
    assert readers["sums"] == {"delivered": 0, "lost": 0, "waiting": 2}


def test_while_one_blocking_reader_has_no_room_no_reader_gets_the_chunk():
    seen: list[tuple[float, int]] = []

    async def quick(ctx: StageContext) -> None:
        now = asyncio.get_running_loop().time
        seen.extend([(now(), chunk) async for chunk in ctx.stream("llm")])

    play(
        spec("llm", Says(1, 2, 3)),
        spec("slow", Reads(late=10, pause=10), reads=edge(1)),
        spec("quick", quick, reads="llm"),
    )
    assert seen == [(0, 1), (10, 2), (20, 3)]


# --- in between: gaps, restarts, coalesce= that raises -------------------------------------------------------------


@pytest.mark.parametrize("overflow", TO_LOSE)
def test_losses_in_a_row_are_one_gap_as_long_as_it_has_not_been_read(overflow):
    async def llm(ctx: StageContext) -> None:
        for chunk in (1, 2, 3, 4):
            await ctx.publish(chunk)
        await asyncio.sleep(10)  # the reader takes two items meanwhile
        for chunk in (5, 6, 7, 8):
            await ctx.publish(chunk)

    reader = Reads(late=5)
    reader.most = None
    taken: list[Any] = []

    async def tts(ctx: StageContext) -> None:
        await asyncio.sleep(5)
        stream = ctx.stream("llm")
        taken.extend([await anext(stream), await anext(stream)])
        await asyncio.sleep(10)
        taken.extend([item async for item in stream])

    play(spec("llm", llm), spec("tts", tts, reads=edge(2, overflow)))
    if overflow is Overflow.DROP_OLDEST:
        assert taken == [StreamGap(2), 3, StreamGap(3), 7, 8]
    else:
        assert taken == [1, 2, StreamGap(2), 5, 6, StreamGap(2)]


def test_coalesce_that_raises_breaks_the_edge_of_its_reader_alone():
    def fussy(older: int, newer: int) -> int:
        raise LookupError(f"{older} and {newer}")

    says, strict, other = Says(1, 2, 3, pause=1), Reads(late=9, catches=True), Reads()
    run = play(
        spec("llm", says),
        spec("strict", strict, reads=edge(1, Overflow.COALESCE, fussy)),
        spec("other", other, reads="llm"),
    )
    assert strict.got == [1]
    assert strict.error is not None
    assert isinstance(strict.error.__cause__, LookupError)
    assert other.got == [1, 2, 3]
    assert run.statuses == {"llm": "ok", "strict": "ok", "other": "ok"}


def test_a_producer_whose_only_reader_broke_its_edge_hears_that_nobody_reads():
    says = Says(1, 2, 3, pause=1)
    play(
        spec("llm", says),
        spec(
            "tts",
            Reads(late=9, catches=True),
            reads=edge(1, Overflow.COALESCE, lambda older, newer: older / 0),
        ),
    )
    assert says.heard == [True, False, False]


# --- attempts of the producer --------------------------------------------------------------------------------------


def test_a_stage_that_has_published_is_not_attempted_again():
    says, reader = Says("a", then=[BROKEN, None]), Reads(catches=True)
    run = play(
        spec("llm", says, retry=AT_ONCE),
        spec("tts", reader, reads="llm"),
        failure_mode=FailureMode.BEST_EFFORT,
    )
    assert says.attempts == 1
    (told,) = run.of("stage.retry_refused")
    assert (told.data["stage"], told.data["attempt"], told.data["reason"]) == ("llm", 1, "has_published")
    assert run.words("llm") == ["started", "failed"]
    assert run.error.original is BROKEN
    assert reader.error is not None
    assert reader.error.__cause__ is BROKEN


def test_also_when_it_asks_for_that_itself():
    says = Says("a", then=[StageOutput.retry("again"), None])
    run = play(
        spec("llm", says), spec("tts", Reads(catches=True), reads="llm"), failure_mode=FailureMode.BEST_EFFORT
    )
    assert (says.attempts, run.statuses["llm"]) == (1, "fail")
    assert [event.data["reason"] for event in run.of("stage.retry_refused")] == ["has_published"]


def test_nothing_is_refused_where_the_policy_would_make_no_further_attempt():
    run = play(
        spec("llm", Says("a", then=ValueError("no")), retry=AT_ONCE), spec("tts", Reads(), reads="llm")
    )
    assert not run.of("stage.retry_refused")


def test_a_stage_that_has_published_nothing_is_attempted_again_and_nobody_notices():
    class Slow(Says):
        async def execute(self, ctx: StageContext) -> Any:
            if self.attempts == 0:
                self.attempts = 1
                raise BROKEN
            return await super().execute(ctx)

    reader = Reads()
    run = play(spec("llm", Slow("a"), retry=AT_ONCE), spec("tts", reader, reads="llm"))
    assert reader.got == ["a"]
    assert run.words("llm") == ["started", "retrying", "completed"]


def test_a_restart_stands_in_place_of_all_that_has_not_been_read_markers_as_well():
    async def llm(ctx: StageContext) -> None:
        for chunk in range(5):
            await ctx.publish((ctx.attempt, chunk))
        if ctx.attempt < 3:
            raise BROKEN

    reader = Reads(late=9)
    run = play(
        spec("llm", llm, retry=AT_ONCE, restartable=True),
        spec("tts", reader, reads=edge(2, Overflow.DROP_NEWEST)),
    )
    assert reader.got == [StreamRestart(3), (3, 0), (3, 1), StreamGap(3)]
    assert run.words("llm") == ["started", "retrying", "retrying", "completed"]


def test_a_restart_is_found_from_the_moment_in_which_it_is_decided():
    found: list[tuple[float, Any]] = []

    async def tts(ctx: StageContext) -> None:
        now = asyncio.get_running_loop().time
        found.extend([(now(), item) async for item in ctx.stream("llm")])

    late = RetryPolicy(2, base_delay=100, max_delay=100, jitter=False)
    says = Says("a", then=[BROKEN, None], pause=5)
    play(spec("llm", says, retry=late, restartable=True), spec("tts", tts, reads="llm"))
    assert found == [(5, StreamRestart(2)), (110, "a")]


def test_a_time_limit_of_an_attempt_is_no_exception():
    async def llm(ctx: StageContext) -> None:
        await ctx.publish(ctx.attempt)
        if ctx.attempt == 1:
            await asyncio.Event().wait()

    reader = Reads()
    play(spec("llm", llm, retry=AT_ONCE, restartable=True, timeout=5), spec("tts", reader, reads="llm"))
    assert reader.got == [1, StreamRestart(2), 2]
    refused_run = play(spec("llm", llm, retry=AT_ONCE, timeout=5), spec("tts", Reads(), reads="llm"))
    assert [event.data["reason"] for event in refused_run.of("stage.retry_refused")] == ["has_published"]


async def left_behind(publish: Coroutine[Any, Any, Any], into: list[Any]) -> None:
    try:
        into.append(await publish)
    except StreamClosedError as exc:
        into.append(exc)
    into.append(asyncio.get_running_loop().time())


@pytest.mark.parametrize("has_readers", [True, False])
def test_publishing_after_the_stage_has_ended(has_readers):
    found: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    async def llm(ctx: StageContext) -> None:
        async def late() -> None:
            await asyncio.sleep(1)
            await left_behind(ctx.publish("late"), found)

        tasks.append(asyncio.create_task(late()))

    async def goes_on(ctx: StageContext) -> None:
        await asyncio.sleep(5)
        await asyncio.wait(tasks)

    reader = Reads()
    readers = [spec("tts", reader, reads="llm")] if has_readers else []
    play(spec("llm", llm), spec("other", goes_on), *readers)
    error, now = found
    assert now == 1
    assert isinstance(error, StreamClosedError)
    assert isinstance(error, RuntimeError)
    assert error.producer == "llm"
    assert reader.got == []


@pytest.mark.parametrize("restartable", [True, False])
def test_a_call_that_still_waits_for_room_when_its_attempt_is_over(restartable):
    found: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    async def llm(ctx: StageContext) -> None:
        if ctx.attempt == 2:
            await ctx.publish("second")
            return
        await ctx.publish("first")
        tasks.append(asyncio.create_task(left_behind(ctx.publish("waits"), found)))
        await asyncio.sleep(1)
        if restartable:
            raise BROKEN

    reader = Reads(late=9)
    play(spec("llm", llm, retry=AT_ONCE, restartable=restartable), spec("tts", reader, reads=edge(1)))
    assert isinstance(found[0], StreamClosedError)
    assert found[1] == 1, "it hears of that when its attempt ends, and not when there is room"
    assert reader.got == ([StreamRestart(2), "second"] if restartable else ["first"])


def test_an_attempt_that_is_over_publishes_nothing_into_the_next_one():
    found: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    async def llm(ctx: StageContext) -> None:
        if ctx.attempt == 1:

            async def late() -> None:
                await asyncio.sleep(5)
                await left_behind(ctx.publish("old"), found)

            tasks.append(asyncio.create_task(late()))
            raise BROKEN
        await ctx.publish("new")
        await asyncio.sleep(10)

    reader = Reads()
    play(spec("llm", llm, retry=AT_ONCE), spec("tts", reader, reads="llm"))
    assert reader.got == ["new"]
    assert isinstance(found[0], StreamClosedError)


# --- the failure modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", FailureMode)
def test_the_producer_fails_while_its_reader_runs(mode):
    reader = Reads(pause=1)
    run = play(
        spec("llm", Says("a", "b", then=BROKEN, pause=0)), spec("tts", reader, reads="llm"), failure_mode=mode
    )
    assert run.error.stage == "llm"
    assert run.error.original is BROKEN
    if mode is FailureMode.FAIL_FAST:
        assert run.words("tts") == ["started", "cancelled"]
        assert run.statuses == {"llm": "fail"}
        assert run.events.types[-1] == "pipeline.failed"
        return
    assert reader.got == ["a", "b"]
    assert run.statuses == {"llm": "fail", "tts": "fail"}
    assert run.words("tts") == ["started", "failed"]
    assert ["'tts'" in note for note in run.error.__notes__] == [True]
    last = "pipeline.completed" if mode is FailureMode.BEST_EFFORT else "pipeline.failed"
    assert run.events.types[-1] == last


@pytest.mark.parametrize("mode", FailureMode)
def test_the_reader_fails_while_its_producer_runs(mode):
    says = Says(1, 2, 3, pause=1)
    run = play(spec("llm", says), spec("tts", Reads(most=1, then=BROKEN), reads="llm"), failure_mode=mode)
    assert run.error.stage == "tts"
    if mode is FailureMode.FAIL_FAST:
        assert run.words("llm") == ["started", "cancelled"]
        assert run.statuses == {"tts": "fail"}
    else:
        assert says.heard == [True, False, False]
        assert run.statuses == {"llm": "ok", "tts": "fail"}


def test_a_reader_that_never_waits_again_comes_to_the_break_although_the_run_is_ending():
    async def tts(ctx: StageContext) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        async for _ in ctx.stream("llm"):
            pass

    run = play(spec("llm", Says("a", then=BROKEN, pause=1)), spec("tts", tts, reads="llm"))
    assert run.words("tts") == ["started", "failed"]
    assert (run.error.stage, run.statuses) == ("llm", {"llm": "fail", "tts": "fail"})


def test_dependants_of_a_reader_do_not_care_for_the_producer():
    run = play(
        spec("llm", Says("a", then=BROKEN)),
        spec("tts", Reads(catches=True), reads="llm"),
        spec("only", idle, "tts"),
        spec("both", idle, "tts", "llm"),
        failure_mode=FailureMode.CONTINUE_ON_FAILURE,
    )
    assert run.statuses == {"llm": "fail", "tts": "ok", "only": "ok", "both": "skip"}
    assert run.of("stage.both.")[0].data["reason"] == "dependency_failed"


def test_best_effort_with_a_producer_that_fails_midway_returns_what_there_is():
    reader, lost = Reads(catches=True, then={"said": "a b"}), Reads(late=5)
    run = play(
        spec("llm", Says("a", "b", then=BROKEN, pause=1)),
        spec("tts", reader, reads="llm"),
        spec("log", lost, reads="llm"),
        failure_mode=FailureMode.BEST_EFFORT,
    )
    assert run.results["tts"].data == {"said": "a b"}
    assert run.statuses == {"llm": "fail", "tts": "ok", "log": "fail"}
    assert lost.got == ["a", "b"]
    assert run.events.types[-1] == "pipeline.completed"


# --- guard retry ---------------------------------------------------------------------------------------------------


def test_a_guard_sends_back_a_producer_and_its_reader_who_finds_the_new_stream_alone():
    rounds: list[list[Any]] = []

    async def llm(ctx: StageContext) -> None:
        for chunk in range(3):
            await ctx.publish((len(rounds) + 1, chunk))

    async def tts(ctx: StageContext) -> None:
        rounds.append([])
        async for chunk in ctx.stream("llm"):
            rounds[-1].append(chunk)
            if len(rounds) == 1:
                break  # and leaves the rest

    async def check(ctx: StageContext) -> StageOutput:
        return StageOutput.ok() if len(rounds) == 2 else StageOutput.fail("no")

    run = play(
        spec("llm", llm),
        spec("tts", tts, reads=edge(2, Overflow.DROP_NEWEST)),
        spec("check", check, "llm", "tts", kind=StageKind.GUARD),
        loops={"check": GuardRetryPolicy("llm", 2, stagnation_limit=9)},
    )
    assert run.statuses == {"llm": "ok", "tts": "ok", "check": "ok"}
    assert rounds == [[(1, 0)], [(2, 0), (2, 1), StreamGap(1)]] or rounds[1][:2] == [(2, 0), (2, 1)]
    assert not any(isinstance(item, StreamRestart) for got in rounds for item in got)
    assert [event.data["published"] for event in run.of("stream.closed")] == [3, 3]


@pytest.mark.parametrize(
    "specs",
    [
        [
            spec("llm", idle),
            spec("check", idle, "llm", kind=StageKind.GUARD),
            spec("tts", idle, reads="llm"),
        ],
        [
            spec("mic", idle),
            spec("llm", idle, reads="mic"),
            spec("check", idle, "llm", kind=StageKind.GUARD),
        ],
    ],
    ids=["the reader is outside", "the producer is outside"],
)
def test_a_stream_does_not_cross_the_border_of_a_loop(specs):
    problems = refused(*specs, loops={"check": GuardRetryPolicy("llm")})
    assert [problem.code for problem in problems] == ["SF-BUILD-GUARD-RETRY"]


# --- a full buffer -------------------------------------------------------------------------------------------------


def test_publish_suspends_only_when_it_has_to_wait():
    seen: list[str] = []

    async def llm(ctx: StageContext) -> None:
        for chunk in range(4):
            asyncio.get_running_loop().call_soon(seen.append, "turn")
            await ctx.publish(chunk)
            seen.append(f"published {chunk}")

    play(spec("llm", llm), spec("tts", Reads(), reads=edge(3)))
    assert seen[:3] == ["published 0", "published 1", "published 2"]
    assert seen.index("turn") < seen.index("published 3")


def test_a_producer_that_never_waits_gives_a_reader_with_a_dropping_edge_no_turn():
    reader = Reads()
    run = play(spec("llm", Says(*range(100))), spec("tts", reader, reads=edge(2, Overflow.DROP_OLDEST)))
    assert reader.got == [StreamGap(98), 98, 99]
    assert run.closed("llm")["published"] == 100


def test_calls_that_wait_are_served_in_their_order_and_none_overtakes_them():
    order: list[str] = []

    async def llm(ctx: StageContext) -> None:
        async def publishes(name: str) -> None:
            for number in range(3):
                await ctx.publish(f"{name}{number}")
                order.append(f"{name}{number}")

        async with asyncio.TaskGroup() as group:
            for name in "xyz":
                group.create_task(publishes(name))

    reader = Reads(pause=1)
    run = play(spec("llm", llm), spec("tts", reader, reads=edge(1)))
    assert reader.got == order
    assert [[one for one in reader.got if one[0] == name] for name in "xyz"] == [
        [f"{name}{number}" for number in range(3)] for name in "xyz"
    ]
    assert run.closed("llm")["published"] == 9


# --- who waits, and what runs meanwhile ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["of the run", "of the stages"])
def test_a_producer_and_its_reader_can_share_one_place(how):
    at_work: list[str] = []
    limit = ConcurrencyLimit(1)

    async def llm(ctx: StageContext) -> None:
        for chunk in range(5):
            at_work.append("llm")
            await asyncio.sleep(1)
            assert at_work.pop() == "llm"
            await ctx.publish(chunk)

    got: list[int] = []

    async def tts(ctx: StageContext) -> None:
        async for chunk in ctx.stream("llm"):
            assert not at_work
            at_work.append("tts")
            await asyncio.sleep(1)
            assert at_work.pop() == "tts"
            got.append(chunk)

    own = {"limit": limit} if how == "of the stages" else {}
    options = {} if how == "of the stages" else {"max_concurrency": 1}
    run = play(spec("llm", llm, **own), spec("tts", tts, reads=edge(1), **own), **options)
    assert got == [0, 1, 2, 3, 4]
    assert run.error is None
    assert limit.active == 0
    for name in ("llm", "tts"):
        parts = run.results.timeline[name].totals
        assert {Part.STREAM, Part.QUEUE, Part.RUN} <= parts.keys()
        assert sum(parts.values()) == run.results.timeline[name].total_ns


def test_a_place_is_lent_to_any_other_stage_while_a_reader_waits():
    async def other(ctx: StageContext) -> None:
        await asyncio.sleep(2)

    run = play(
        spec("llm", Says("a", pause=10)),
        spec("tts", Reads(), reads="llm"),
        spec("other", other),
        max_concurrency=2,
    )
    told = run.events.types
    assert told.index("stage.other.completed") < told.index("stage.llm.completed")


def test_two_tasks_of_one_stage_that_wait_do_not_keep_its_place():
    """One of them goes on and ends; the other still waits, for a reader who needs the place."""

    async def llm(ctx: StageContext) -> None:
        async with asyncio.TaskGroup() as group:
            for name in ("x", "y"):
                group.create_task(publishes(ctx, name))

    async def publishes(ctx: StageContext, name: str) -> None:
        for number in range(4):
            await ctx.publish(f"{name}{number}")

    reader = Reads()
    run = play(spec("llm", llm), spec("tts", reader, reads=edge(1)), max_concurrency=1)
    assert run.error is None
    assert len(reader.got) == 8


def test_a_stage_that_reads_two_streams_at_once_does_not_keep_its_place():
    got: list[Any] = []

    async def joins(ctx: StageContext) -> None:
        async def reads(name: str) -> None:
            got.extend([chunk async for chunk in ctx.stream(name)])

        async with asyncio.TaskGroup() as group:
            group.create_task(reads("a"))
            group.create_task(reads("b"))

    edges = [StreamEdge("a", 1), StreamEdge("b", 1)]
    run = play(
        spec("a", Says(1, 2, 3, 4)),
        spec("b", Says(5, 6, 7, 8, pause=1)),
        spec("join", joins, reads=edges),
        max_concurrency=1,
    )
    assert run.error is None
    assert sorted(got) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_stage_that_gives_up_waiting_for_its_place_goes_on_with_a_place_all_the_same():
    limit = ConcurrencyLimit(1)
    at_work: list[str] = []
    most: list[int] = []

    async def work(name: str, seconds: float) -> None:
        at_work.append(name)
        most.append(len(at_work))
        await asyncio.sleep(seconds)
        at_work.remove(name)

    async def llm(ctx: StageContext) -> None:
        await ctx.publish(1)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):  # the room is there at once, and the place only after ten seconds
                await ctx.publish(2)
        await work("llm", 20)

    async def tts(ctx: StageContext) -> None:
        await anext(ctx.stream("llm"))
        await work("tts", 10)

    run = play(spec("llm", llm, limit=limit), spec("tts", tts, reads=edge(1), limit=limit))
    assert run.error is None
    assert most == [1, 1], "two at work, of a limit of one"


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_stage_over_its_limit_does_not_wait_for_its_place_before_it_ends(tasks):
    ended: list[float] = []

    async def llm(ctx: StageContext) -> None:
        async def publishes() -> None:
            for chunk in range(3):
                await ctx.publish(chunk)

        try:
            if tasks == 1:
                await publishes()
            async with asyncio.TaskGroup() as group:
                for _ in range(tasks):
                    group.create_task(publishes())
        finally:
            ended.append(asyncio.get_running_loop().time())

    async def tts(ctx: StageContext) -> None:
        await anext(ctx.stream("llm"))
        await asyncio.sleep(100)

    run = play(
        spec("llm", llm, timeout=5),
        spec("tts", tts, reads=edge(1)),
        max_concurrency=1,
        failure_mode=FailureMode.CONTINUE_ON_FAILURE,
    )
    assert isinstance(run.error.original, StageTimeoutError)
    assert ended == [5]


def test_nor_does_a_task_of_it_that_the_stage_itself_has_cancelled():
    limit = ConcurrencyLimit(1)
    ended: list[float] = []

    async def sleeps_long(ctx: StageContext) -> None:
        await asyncio.sleep(100)

    async def sleeps_briefly(ctx: StageContext) -> None:
        await asyncio.sleep(0.5)

    async def tts(ctx: StageContext) -> None:
        async def fails() -> None:
            await asyncio.sleep(1)
            raise BROKEN

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                group.create_task(anext(ctx.stream("llm")))
        finally:
            ended.append(asyncio.get_running_loop().time())

    run = play(
        spec("tts", tts, reads="llm", timeout=5, limit=limit),
        spec("llm", sleeps_long),
        spec("first", sleeps_briefly),
        spec("busy", sleeps_long, "first", limit=limit),
        failure_mode=FailureMode.CONTINUE_ON_FAILURE,
    )
    assert isinstance(run.error.original, (StageTimeoutError, ExceptionGroup))
    assert ended[0] <= 5


@pytest.mark.parametrize("who", ["llm", "tts"])
def test_the_time_limit_of_a_stage_runs_while_it_waits(who):
    limits = {who: {"timeout": 5}}
    run = play(
        spec("llm", Says(1, 2, 3) if who == "llm" else forever, **limits.get("llm", {})),
        spec("tts", forever if who == "llm" else Reads(), reads=edge(1), **limits.get("tts", {})),
        timeout=100,
    )
    assert run.error.stage == who
    assert isinstance(run.error.original, StageTimeoutError)


def test_a_producer_that_never_ends_is_ended_by_the_deadline():
    async def llm(ctx: StageContext) -> None:
        while True:
            await asyncio.sleep(1)
            await ctx.publish("tick")

    reader = Reads()
    run = play(spec("llm", llm), spec("tts", reader, reads="llm"), timeout=10.5)
    assert isinstance(run.error, RunTimeoutError)
    assert reader.got == ["tick"] * 10
    assert run.closed("llm")["published"] == 10
    assert (run.words("llm"), run.words("tts")) == (["started", "cancelled"],) * 2


def test_a_reader_that_gives_up_waiting_finds_the_chunk_next_time():
    got: list[Any] = []

    async def tts(ctx: StageContext) -> None:
        stream = ctx.stream("llm")
        while True:
            try:
                async with asyncio.timeout(2):
                    got.append(await anext(stream))
            except TimeoutError:
                got.append("nothing")
            except StopAsyncIteration:
                return

    play(spec("llm", Says("a", "b", pause=5)), spec("tts", tts, reads="llm"))
    assert got == ["nothing", "nothing", "a", "nothing", "nothing", "b"]


def test_a_chunk_for_which_there_was_no_room_in_time_reaches_nobody():
    async def llm(ctx: StageContext) -> None:
        await ctx.publish("a")
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await ctx.publish("given up")
        await ctx.publish("b")

    slow, quick = Reads(late=10), Reads()
    run = play(spec("llm", llm), spec("slow", slow, reads=edge(1)), spec("quick", quick, reads="llm"))
    assert (slow.got, quick.got) == (["a", "b"],) * 2
    assert run.closed("llm")["published"] == 2


def test_two_tasks_of_one_reader_cannot_wait_at_once():
    async def tts(ctx: StageContext) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(anext(ctx.stream("llm")))

    run = play(spec("llm", Says("a", pause=5)), spec("tts", tts, reads="llm"))
    assert isinstance(run.error.original, ExceptionGroup)
    assert isinstance(run.error.original.exceptions[0], RunStateError)


# --- every stream is closed, and that is told once -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("llm", "options"),
    [
        (Says("a"), {}),
        (Says("a", then=BROKEN), {"failure_mode": FailureMode.BEST_EFFORT}),
        (Says("a", then=StageOutput.cancel("enough")), {}),
        (forever, {"timeout": 5}),
        (
            Says(then=BROKEN),
            {"timeout": 5, "retry": RetryPolicy(3, base_delay=50, max_delay=99, jitter=False)},
        ),
        (
            Says("a", then=BROKEN),
            {"timeout": 5, "retry": RetryPolicy(3, base_delay=50, max_delay=99, jitter=False)},
        ),
    ],
    ids=["ok", "fail", "cancel", "cancelled", "cancelled between attempts", "the same, having published"],
)
def test_that_a_stream_has_ended_is_told_once_however_its_producer_ends(llm, options):
    more = {"retry": options.pop("retry"), "restartable": True} if "retry" in options else {}
    run = play(spec("llm", llm, **more), spec("tts", Reads(catches=True), reads="llm"), **options)
    assert [event.data["stage"] for event in run.of("stream.closed")] == ["llm"]


def test_also_if_the_run_is_stopped_before_its_body_has_begun():
    token = CancellationToken()

    class Stops(EventRecorder):
        def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
            super().try_emit(type=type, data=data)
            if type == "stage.llm.started":
                token.cancel("enough")

    events = Stops()

    async def run() -> None:
        graph = StageGraph([spec("llm", Says("a")), spec("tts", Reads(), reads="llm")], [])
        async with leak_check():
            await graph.run(sink=events, cancel_token=token, raise_errors=False)

    run_virtual(run())
    assert events.types in (
        [
            "pipeline.started",
            "stage.llm.started",
            "stream.closed",
            "stage.llm.cancelled",
            "stage.tts.skipped",
            "pipeline.cancelled",
        ],
        [
            "pipeline.started",
            "stage.llm.started",
            "stage.llm.cancelled",
            "stream.closed",
            "stage.tts.skipped",
            "pipeline.cancelled",
        ],
    )


# --- what is not refused at build time, but wrong all the same -----------------------------------------------------


def test_reading_a_stream_that_is_not_declared_names_the_fix():
    async def tts(ctx: StageContext) -> None:
        ctx.stream("llm")

    run = play(spec("llm", Says("a")), spec("tts", tts, "llm"))
    error = run.error.original
    assert isinstance(error, UndeclaredDependencyError)
    assert "streams=['llm']" in error.fix
    assert "'tts'" in error.fix


@pytest.mark.parametrize("producer", [None, 1, object()])
def test_a_stream_is_named_by_a_text_or_a_stage(producer):
    async def tts(ctx: StageContext) -> None:
        ctx.stream(producer)

    run = play(spec("tts", tts))
    assert isinstance(run.error.original, ArgumentTypeError)


@pytest.mark.parametrize("size", [0, -1])
def test_a_buffer_holds_at_least_one_chunk(size):
    with pytest.raises(ArgumentValueError, match="size"):
        StreamEdge("llm", size)


def test_chunks_may_be_anything():
    class Odd:
        __hash__ = None  # type: ignore[assignment]

    odd, huge = Odd(), b"x" * 10_000_000
    reader = Reads()
    play(spec("llm", Says(odd, huge, None, {"a": [1]}, StageOutput.ok())), spec("tts", reader, reads="llm"))
    assert reader.got[0] is odd
    assert reader.got[1] is huge
    assert reader.got[2] is None
    assert reader.got[3] == {"a": [1]}


def test_what_is_published_is_a_copy_that_nobody_can_change():
    mutable = {"words": ["a"]}

    async def llm(ctx: StageContext) -> None:
        await ctx.publish(mutable)
        mutable["words"].append("later")

    first, second = Reads(), Reads()
    play(spec("llm", llm), spec("tts", first, reads="llm"), spec("log", second, reads="llm"))
    assert (first.got, second.got) == ([{"words": ["a"]}],) * 2
    with pytest.raises(ReadOnlyDataError):
        first.got[0]["words"].append("b")


def test_a_chunk_that_contains_itself_reaches_nobody_and_does_no_harm():
    found: list[Any] = []

    async def llm(ctx: StageContext) -> None:
        cyclic: list[Any] = []
        cyclic.append(cyclic)
        try:
            await ctx.publish(cyclic)
        except CyclicDataError as exc:
            found.append(exc)
        await ctx.publish("a")

    reader = Reads()
    run = play(spec("llm", llm), spec("tts", reader, reads="llm"))
    assert len(found) == 1
    assert reader.got == ["a"]
    assert run.closed("llm")["published"] == 1


# --- what does not build -------------------------------------------------------------------------------------------


def test_all_that_is_wrong_with_streams_is_told_at_once():
    problems = refused(
        spec("llm", idle),
        spec("own", idle, reads="own"),
        spec("unknown", idle, reads="lm"),
        spec("twice", idle, reads=["llm", edge(5)]),
        spec("both", idle, "llm", reads="llm"),
    )
    told = {problem.stages[0]: problem for problem in problems}
    assert {problem.code for problem in problems} == {"SF-BUILD-STREAM"}
    assert told.keys() == {"own", "unknown", "twice", "both"}
    assert "llm" in told["unknown"].fix
    assert all(problem.fix for problem in problems)


@pytest.mark.parametrize(
    ("specs", "code"),
    [
        ([spec("a", idle, reads="b"), spec("b", idle, reads="a")], "SF-BUILD-CYCLE"),
        ([spec("a", idle, "b"), spec("b", idle, reads="a")], "SF-BUILD-CYCLE"),
        (
            [spec("llm", idle), spec("score", idle, "llm"), spec("tts", idle, "score", reads="llm")],
            "SF-BUILD-STREAM-DEADLOCK",
        ),
        (
            [
                spec("llm", idle),
                spec("cut", idle, reads="llm"),
                spec("score", idle, "llm"),
                spec("tts", idle, "score", reads="cut"),
            ],
            "SF-BUILD-STREAM-DEADLOCK",
        ),
        (
            [spec("llm", idle), spec("score", idle, reads="llm"), spec("tts", idle, "score", reads="llm")],
            "SF-BUILD-STREAM-DEADLOCK",
        ),
        (
            [
                spec("llm", idle),
                spec("check", idle, "llm", kind=StageKind.GUARD, gates_effects=True),
                spec("tts", idle, reads="llm", effect=Effect.IDEMPOTENT),
            ],
            "SF-BUILD-GATE",
        ),
        (
            [
                spec("llm", idle),
                spec("check", idle, reads="llm", kind=StageKind.GUARD, gates_effects=True),
                spec("tts", idle, reads="llm", effect=Effect.IDEMPOTENT),
            ],
            "SF-BUILD-GATE",
        ),
    ],
    ids=[
        "streams in a circle",
        "a dependency and a stream",
        "cannot start",
        "cannot go on",
        "waits for one that reads to the end",
        "a gate that waits for the producer",
        "a gate that reads the producer",
    ],
)
def test_what_would_wait_for_itself_does_not_build(specs, code):
    codes = {problem.code for problem in refused(*specs)}
    assert codes == {code} if code != "SF-BUILD-CYCLE" else code in codes
    loose = [
        one.__replace__(
            streams=tuple(StreamEdge(each.producer, 1, Overflow.DROP_OLDEST) for each in one.streams)
        )
        for one in specs
    ]
    if code != "SF-BUILD-CYCLE":
        assert StageGraph(loose, []).stage_specs  # who loses chunks holds up nobody


def test_circles_of_two_kinds_are_both_told():
    problems = refused(
        spec("a", idle, reads="b"),
        spec("b", idle, "a"),
        spec("llm", idle),
        spec("score", idle, "llm"),
        spec("tts", idle, "score", reads="llm"),
    )
    assert {problem.code for problem in problems} == {"SF-BUILD-CYCLE", "SF-BUILD-STREAM-DEADLOCK"}


def test_a_pure_reader_that_a_gate_needs_cannot_wait_for_that_gate():
    found: list[Any] = []

    async def tts(ctx: StageContext) -> None:
        try:
            await ctx.gate()
        except EffectGateDeadlock as exc:
            found.append(exc)
        found.extend([chunk async for chunk in ctx.stream("llm")])

    run = play(
        spec("llm", Says(1, 2, 3)),
        spec("check", idle, "llm", kind=StageKind.GUARD, gates_effects=True),
        spec("tts", tts, reads=edge(1)),
    )
    assert isinstance(found[0], EffectGateDeadlock)
    assert found[1:] == [1, 2, 3]
    assert run.error is None


# --- pipeline.stream() ---------------------------------------------------------------------------------------------


def watched(
    *specs: StageSpec, pause: float | None = None, most: int | None = None, **options: Any
) -> tuple[list[Any], Any]:
    """Read a run as a stream; returns what was seen, and the stream."""
    graph, seen = StageGraph(specs, []), []

    async def watch() -> Any:
        async with leak_check(), graph.stream(**options) as stream:
            events = aiter(stream)
            async for event in events:
                seen.append(event)
                if len(seen) == most:
                    break
                if pause is not None:
                    await asyncio.sleep(pause)
            await events.aclose()
        return stream

    return seen, run_virtual(watch())


def test_chunks_are_seen_in_their_place_among_the_events():
    seen, stream = watched(
        spec("llm", Says("a", "b", pause=1)), spec("tts", Reads(most=1, then={"said": "a"}), reads="llm")
    )
    told = [(event.type, event.data.get("chunk")) for event in seen]
    assert told == [
        ("pipeline.started", None),
        ("stage.llm.started", None),
        ("stage.tts.started", None),
        ("stream.chunk", "a"),
        ("stage.tts.completed", None),
        ("stream.chunk", "b"),
        ("stream.closed", None),
        ("stage.llm.completed", None),
        ("pipeline.completed", None),
    ]
    chunks = [event.data for event in seen if event.type == "stream.chunk"]
    assert [(one["stage"], one["attempt"], one["index"]) for one in chunks] == [("llm", 1, 1), ("llm", 1, 2)]
    stamps = [event.data["monotonic_ns"] for event in seen]
    assert stamps == sorted(stamps)
    assert stream.results["tts"].data == {"said": "a"}


def test_chunks_of_several_attempts_are_told_apart_and_counted_through():
    seen, _ = watched(
        spec("llm", Says("a", "b", then=[BROKEN, None]), retry=AT_ONCE, restartable=True),
        spec("tts", Reads(), reads="llm"),
    )
    chunks = [event.data for event in seen if event.type == "stream.chunk"]
    assert [(one["attempt"], one["index"], one["chunk"]) for one in chunks] == [
        (1, 1, "a"),
        (1, 2, "b"),
        (2, 3, "a"),
        (2, 4, "b"),
    ]


def test_a_slow_viewer_holds_up_nobody_and_learns_exactly_what_it_has_missed():
    seen, _ = watched(spec("llm", Says(*range(10))), pause=100, buffer=3)
    told = [event.data.get("chunk", event.type) for event in seen]
    assert told[0] == "pipeline.started"
    assert told[1] == "stream.gap"
    assert seen[1].data == {"lost": 10, "lost_chunks": 9} or seen[1].data["lost_chunks"] <= 10
    missing = 1 + 1 + 10 + 1 + 1 - (len(seen) - 1)  # started, started, chunks, completed, completed
    assert seen[1].data["lost"] == missing
    assert seen[1].data["lost_chunks"] == 10 - sum(event.type == "stream.chunk" for event in seen)
    assert seen[1].sequence == 0


def test_a_viewer_does_not_make_a_blocking_producer_go_faster():
    seen, _ = watched(spec("llm", Says(1, 2, 3)), spec("tts", Reads(late=10, pause=10), reads=edge(1)))
    told = [event.data.get("chunk", event.type) for event in seen]
    assert told.index(2) > told.index("stage.tts.started")
    assert [one for one in told if isinstance(one, int)] == [1, 2, 3]


def test_a_viewer_who_leaves_ends_the_run_and_its_streams():
    events = EventRecorder()
    seen, _ = watched(
        spec("llm", Says(*range(100), pause=1)), spec("tts", Reads(), reads="llm"), most=10, sink=events
    )
    assert len(seen) == 10
    assert events.types[-1] == "pipeline.cancelled"
    assert [event.data["stage"] for event in events.events if event.type == "stream.closed"] == ["llm"]


# --- runs inside of runs, typed stages, other ways to say it -------------------------------------------------------


def test_a_reader_starts_a_run_for_every_chunk_and_that_has_streams_of_its_own():
    inner = StageGraph([spec("llm", Says(1, 2)), spec("count", Reads(then={"heard": 2}), reads="llm")], [])
    heard: list[Any] = []

    async def tts(ctx: StageContext) -> None:
        heard.extend([(chunk, await hears()) async for chunk in ctx.stream("llm")])

    async def hears() -> int:
        return (await inner.run())["count"].data["heard"]

    run = play(spec("llm", Says("a", "b", pause=1)), spec("tts", tts, reads=edge(1)), max_concurrency=1)
    assert heard == [("a", 2), ("b", 2)]
    assert run.error is None
    assert run.closed("llm")["published"] == 2


def test_typed_stages():
    @stage
    async def llm(ctx: StageContext) -> str:
        for word in ("It", "is", "mild"):
            await ctx.publish(word)
        return "It is mild"

    @stage(streams=[llm])
    async def speak(ctx: StageContext) -> list[str]:
        return [word async for word in ctx.stream(llm)]

    @stage(streams=[StreamEdge("speak_not", 1, Overflow.DROP_OLDEST)], after=[speak])
    async def refers(ctx: StageContext) -> None: ...

    @stage
    async def count(words: list[str] = use(speak)) -> int:
        return len(words)

    results = run_virtual(Pipeline.from_stages(llm, speak, count).run())
    assert results.value(speak) == ["It", "is", "mild"]
    assert results.value(count) == 3
    with pytest.raises(PipelineValidationError, match="speak_not"):
        Pipeline.from_stages(llm, speak, refers).build()


def test_a_typed_stage_may_be_restartable():
    @stage(restartable=True, retry=AT_ONCE)
    async def llm(ctx: StageContext) -> None:
        await ctx.publish(ctx.attempt)
        if ctx.attempt == 1:
            raise BROKEN

    @stage(streams=[StreamEdge("llm", 2)])
    async def speak(ctx: StageContext) -> list[object]:
        return [repr(item) async for item in ctx.stream("llm")]

    results = run_virtual(Pipeline.from_stages(llm, speak).run())
    assert results.value(speak) in (["StreamRestart(attempt=2)", "2"], ["1", "StreamRestart(attempt=2)", "2"])


def test_the_builder_takes_streams():
    reader = Reads()
    pipeline = (
        Pipeline()
        .with_stage("llm", Says("a"), StageKind.AGENT, restartable=True)
        .with_stage("tts", reader, StageKind.TRANSFORM, streams=["llm"])
    )
    run_virtual(pipeline.run())
    assert reader.got == ["a"]


def test_two_runs_of_one_graph_do_not_hear_each_other():
    got: dict[str, list[Any]] = {}

    async def llm(ctx: StageContext) -> None:
        for number in range(3):
            await asyncio.sleep(1)
            await ctx.publish((ctx.input_text, number))

    async def tts(ctx: StageContext) -> None:
        got[ctx.input_text or ""] = [chunk async for chunk in ctx.stream("llm")]

    graph = StageGraph([spec("llm", llm), spec("tts", tts, reads=edge(1))], [])

    async def both() -> None:
        await asyncio.gather(graph.run(input_text="one"), graph.run(input_text="two"))

    run_virtual(both())
    assert got == {name: [(name, number) for number in range(3)] for name in ("one", "two")}


def test_outside_of_a_run_nobody_reads():
    async def main() -> None:
        ctx = StageContext.for_testing() if hasattr(StageContext, "for_testing") else None
        if ctx is None:
            from stageflow.testing import create_test_stage_context

            ctx = create_test_stage_context()
        assert await ctx.publish("a") is False
        with pytest.raises(RunStateError, match="no run"):
            ctx.stream("llm")

    run_virtual(main())


# --- a cancel at every await ---------------------------------------------------------------------------------------


class Ledger:
    """What one run has published, and what its readers got."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.got: dict[str, list[Any]] = {}

    def wrong(self) -> int:
        """Count readers that got something else than a beginning of what was published."""
        return sum(got != self.published[: len(got)] for got in self.got.values())


def swept(probe: Probe, **options: Any) -> Coroutine[Any, Any, Any]:
    """Make a run in which everybody waits for each other: for chunks, for room, for a place."""
    ledger = Ledger()
    probe.expect_none("readers with wrong chunks", ledger.wrong)

    async def llm(ctx: StageContext) -> None:
        for chunk in range(4):
            if chunk == 2:
                await asyncio.sleep(1)
            ledger.published.append(chunk)
            try:
                await ctx.publish(chunk)
            except BaseException:
                ledger.published.pop()
                raise

    def reads(name: str, pause: float | None) -> Callable[..., Any]:
        async def reader(ctx: StageContext) -> None:
            got = ledger.got[name] = []
            async for chunk in ctx.stream("llm"):
                got.append(chunk)
                if pause is not None:
                    await asyncio.sleep(pause)

        return reader

    graph = StageGraph(
        [
            spec("llm", llm),
            spec("tts", reads("tts", 0), reads=edge(1)),
            spec("log", reads("log", 1), reads=edge(2)),
        ],
        [],
        **options,
    )
    return graph.run(sink=probe.events)


@pytest.mark.parametrize("most", [None, 1, 2])
@pytest.mark.parametrize("mode", [FailureMode.FAIL_FAST, FailureMode.BEST_EFFORT])
def test_a_cancel_at_every_await_loses_and_leaves_nothing(mode, most):
    report = cancel_everywhere(
        lambda probe: swept(probe, failure_mode=mode, max_concurrency=most), name="streams"
    )
    assert report.delivered > 50
    assert not report.missed


def test_a_second_cancel_does_no_harm_either():
    cancel_everywhere(
        lambda probe: swept(probe, max_concurrency=1), name="streams", targets=["caller"], again=True
    )


def test_what_a_run_leaves_to_the_garbage_collector_says_nothing(recwarn):
    async def peeks(ctx: StageContext) -> None:
        stream = ctx.stream("llm")
        await anext(stream)

    play(spec("llm", Says(1, 2, 3)), spec("tts", peeks, reads="llm"))
    gc.collect()
    assert not [one for one in recwarn if issubclass(one.category, (ResourceWarning, RuntimeWarning))]


def test_an_error_of_a_stream_is_raised_from_the_run_with_the_results():
    async def run() -> None:
        graph = StageGraph([spec("llm", Says("a", then=BROKEN)), spec("tts", Reads(late=1), reads="llm")], [])
        await graph.run()

    with pytest.raises(StageExecutionError) as caught:
        run_virtual(run())
    assert caught.value.stage == "llm"
    assert caught.value.results["llm"].status == "fail"
