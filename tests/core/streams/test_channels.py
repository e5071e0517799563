"""``Channel``: what each reader gets, who waits for whom, and what a cancel, an end or a restart does to them."""

from __future__ import annotations

import asyncio
import gc
import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import ReadOnlyDataError, RunStateError, StageError
from stageflow.runtime.channels import Channel, ChannelCounts, StreamBrokenError, StreamClosedError
from stageflow.stages import Overflow, StreamEdge, StreamGap, StreamRestart
from stageflow.testing import leak_check

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


def edge(size: int = 64, overflow: Overflow = Overflow.BLOCK, coalesce: Any = None) -> StreamEdge:
    return StreamEdge("p", size, overflow, coalesce)


def one(size: int = 64, overflow: Overflow = Overflow.BLOCK, coalesce: Any = None, **options: Any) -> Channel:
    return Channel("p", [("r", edge(size, overflow, coalesce))], **options)


def offer(channel: Channel, *chunks: Any) -> list[bool]:
    return [channel.offer(chunk) for chunk in chunks]


def unread(channel: Channel, reader: str = "r") -> list[Any]:
    """Take all that waits."""
    taking, end = channel.subscribe(reader), object()
    return list(iter(lambda: taking.poll(end), end))


def start(coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.create_task(coro)


async def turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def next_of(channel: Channel, reader: str = "r") -> Any:
    return await anext(channel.subscribe(reader))


async def rest_of(channel: Channel, reader: str = "r") -> list[Any]:
    return [chunk async for chunk in channel.subscribe(reader)]


def at_once(coro: Coroutine[Any, Any, Any]) -> Any:
    """Run what must not suspend."""
    try:
        coro.send(None)
    except StopIteration as done:
        return done.value
    coro.close()
    raise AssertionError("it has suspended")


# --- with room ----------------------------------------------------------------------------------------------


def test_a_channel_with_room_needs_no_event_loop():
    channel = one(2)
    assert at_once(channel.publish("a")) is True
    assert channel.offer("b") is True
    reader = channel.subscribe("r")
    assert [at_once(reader.__anext__()), at_once(reader.__anext__())] == ["a", "b"]


def test_every_reader_gets_every_chunk_in_order():
    channel = Channel("p", [("r", edge()), ("s", edge())])
    assert offer(channel, *range(5)) == [True] * 5
    assert unread(channel, "r") == unread(channel, "s") == [0, 1, 2, 3, 4]


def test_chunks_are_made_read_only_once():
    channel = Channel("p", [("r", edge()), ("s", edge())])
    chunk = {"words": ["hi"]}
    channel.offer(chunk)
    chunk["words"].append("changed later")
    (mine,), (theirs,) = unread(channel, "r"), unread(channel, "s")
    assert mine == {"words": ["hi"]}
    assert mine is theirs
    with pytest.raises(ReadOnlyDataError):
        mine["words"].append("x")


@pytest.mark.asyncio
async def test_a_chunk_that_waits_is_what_it_was_when_it_was_published():
    channel = one(1)
    channel.offer("first")
    chunk = ["hi"]
    waits = start(channel.publish(chunk))
    await turns()
    chunk.append("changed later")
    assert await next_of(channel) == "first"
    await waits
    assert unread(channel) == [["hi"]]


def test_plain_channels_hand_on_the_object_itself_and_mark_no_gaps():
    for overflow, left in ((Overflow.DROP_OLDEST, 2), (Overflow.DROP_NEWEST, 0)):
        channel = one(1, overflow, plain=True)
        chunks = [[0], [1], [2]]
        offer(channel, *chunks)
        (chunk,) = unread(channel)
        assert chunk is chunks[left]
        assert channel.counts("r") == (1, 2, 0)


def test_counts():
    channel = one(2, Overflow.DROP_OLDEST)
    offer(channel, *range(5))
    assert channel.published == 5
    assert channel.counts("r") == ChannelCounts(delivered=0, lost=3, waiting=2)
    reader = channel.subscribe("r")
    assert reader.poll() == StreamGap(3)
    assert channel.counts("r") == (0, 3, 2)
    assert reader.poll() == 3
    assert channel.counts("r") == (1, 3, 1)
    with pytest.raises(AttributeError):
        channel.published = 0  # pyright: ignore[reportAttributeAccessIssue]


def test_poll_returns_its_default_if_nothing_waits():
    channel = one()
    reader = channel.subscribe("r")
    assert reader.poll() is None
    assert reader.poll("nothing") == "nothing"
    channel.offer(None)
    assert reader.poll("nothing") is None
    channel.close()
    assert reader.poll("nothing") == "nothing"


# --- without room -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_publish_waits_for_room_and_keeps_the_order():
    channel = one(2)
    waiting = [start(channel.publish(number)) for number in range(6)]
    await turns()
    assert [task.done() for task in waiting] == [True, True, False, False, False, False]
    assert (channel.published, channel.blocked) == (2, 4)
    assert [await next_of(channel) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert [task.result() for task in waiting] == [True] * 6


@pytest.mark.asyncio
async def test_offer_does_not_overtake_the_line():
    channel = one(1)
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    assert await next_of(channel) == 0
    assert channel.offer(2) is False  # there is room, but it is another's
    late = start(channel.publish(3))
    await turns()
    assert [await next_of(channel), await next_of(channel)] == [1, 3]
    assert waits.done()
    assert late.done()


@pytest.mark.asyncio
async def test_the_slowest_blocking_reader_sets_the_pace_and_nobody_gets_a_chunk_before():
    channel = Channel("p", [("slow", edge(1)), ("fast", edge(5))])
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    assert unread(channel, "fast") == [0]
    await turns()
    assert not waits.done()
    assert channel.counts("fast").waiting == 0
    assert unread(channel, "slow") == [0]
    await waits
    assert unread(channel, "slow") == unread(channel, "fast") == [1]


@pytest.mark.asyncio
async def test_room_in_one_of_two_full_readers_is_not_enough():
    channel = Channel("p", [("r", edge(1)), ("s", edge(1))])
    channel.offer(0)
    waits = start(channel.publish(1))
    for reader in ("r", "s"):
        await turns()
        assert not waits.done()
        assert unread(channel, reader) == [0]
    await waits


@pytest.mark.asyncio
async def test_a_reader_that_waits_gets_the_chunk_when_it_comes():
    channel = one()
    waits = start(next_of(channel))
    await turns()
    channel.offer("a")
    assert await waits == "a"


def test_publishing_to_nobody_never_waits_and_says_so():
    channel = Channel("p", [])
    assert at_once(channel.publish("a")) is False
    assert channel.offer("b") is True
    assert channel.published == 2


# --- dropping -----------------------------------------------------------------------------------------------


def test_drop_oldest_keeps_the_newest_behind_the_gap():
    channel = one(3, Overflow.DROP_OLDEST)
    offer(channel, *range(5))
    assert unread(channel) == [StreamGap(2), 2, 3, 4]


def test_drop_oldest_goes_on_with_the_same_gap_until_that_is_read():
    channel = one(2, Overflow.DROP_OLDEST)
    reader = channel.subscribe("r")
    offer(channel, 0, 1, 2)
    assert reader.poll() == StreamGap(1)
    offer(channel, 3, 4)
    assert unread(channel) == [StreamGap(2), 3, 4]


def test_drop_newest_keeps_the_oldest_and_the_gap_is_where_chunks_are_missing():
    channel = one(2, Overflow.DROP_NEWEST)
    reader = channel.subscribe("r")
    offer(channel, 0, 1, 2, 3)
    assert reader.poll() == 0
    offer(channel, 4, 5)
    assert unread(channel) == [1, StreamGap(2), 4, StreamGap(1)]


def test_drop_newest_merges_what_is_lost_in_a_row():
    channel = one(1, Overflow.DROP_NEWEST)
    offer(channel, *range(10))
    assert unread(channel) == [0, StreamGap(9)]
    offer(channel, 10)
    assert unread(channel) == [10]


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
def test_a_dropping_reader_holds_nobody_up(overflow: Overflow):
    channel = one(1, overflow)
    assert [at_once(channel.publish(number)) for number in range(3)] == [True] * 3


@pytest.mark.parametrize("overflow", [Overflow.DROP_OLDEST, Overflow.DROP_NEWEST])
def test_markers_that_a_stage_passes_on_are_chunks_here(overflow: Overflow):
    channel = one(2, overflow)
    offer(channel, StreamGap(7), StreamRestart(2), StreamGap(1))
    assert channel.counts("r") == (0, 1, 2)
    left = [StreamGap(1), StreamRestart(2), StreamGap(1)]
    assert unread(channel) == (left if overflow is Overflow.DROP_OLDEST else [StreamGap(7), *left[1:]])
    assert channel.counts("r").delivered == 2


def test_coalesce_makes_one_of_the_two_newest():
    channel = one(2, Overflow.COALESCE, lambda older, newer: older + newer)
    offer(channel, "a", "b", "c", "d")
    assert channel.counts("r") == (0, 0, 2)
    assert unread(channel) == ["a", "bcd"]


def test_what_coalesce_returns_is_made_read_only():
    channel = one(1, Overflow.COALESCE, lambda older, newer: [*older, *newer])
    offer(channel, [1], [2])
    (chunk,) = unread(channel)
    with pytest.raises(ReadOnlyDataError):
        chunk.append(3)


def failing(error: BaseException) -> Callable[[Any, Any], Any]:
    def coalesce(_older: Any, _newer: Any) -> Any:
        raise error

    return coalesce


@pytest.mark.asyncio
async def test_a_coalesce_that_raises_breaks_its_own_end_and_nobody_elses():
    bad = edge(1, Overflow.COALESCE, failing(TypeError("no +")))
    good = edge(1, Overflow.COALESCE, lambda older, newer: older + newer)
    channel = Channel("p", [("bad", bad), ("good", good), ("r", edge())])
    assert [await channel.publish(text) for text in "abc"] == [True] * 3
    assert channel.readers == ("good", "r")
    reader = channel.subscribe("bad")
    assert await anext(reader) == "a"
    with pytest.raises(
        StreamBrokenError, match=r"coalesce= of its reader 'bad' raised TypeError: no \+"
    ) as raised:
        await anext(reader)
    assert isinstance(raised.value.__cause__, TypeError)
    channel.close()
    assert await rest_of(channel, "good") == ["abc"]
    assert await rest_of(channel) == ["a", "b", "c"]


def test_a_coalesce_that_is_interrupted_hands_the_chunk_to_nobody():
    interrupts = edge(1, Overflow.COALESCE, failing(KeyboardInterrupt()))
    channel = Channel("p", [("r", edge()), ("bad", interrupts)])
    channel.offer("a")
    with pytest.raises(KeyboardInterrupt):
        channel.offer("b")
    assert (channel.published, unread(channel), unread(channel, "bad")) == (1, ["a"], ["a"])


# --- cancels ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_publish_that_is_cancelled_in_the_line_leaves_no_hole():
    channel = Channel("p", [("r", edge(1)), ("s", edge(1))])
    channel.offer(0)
    waiting = [start(channel.publish(number)) for number in (1, 2, 3)]
    await turns()
    waiting[1].cancel()
    await turns()
    for number in (0, 1, 3):
        await turns()
        assert unread(channel, "r") == unread(channel, "s") == [number]
    assert waiting[1].cancelled()


@pytest.mark.asyncio
async def test_a_publish_that_is_cancelled_when_its_turn_has_come_is_nobodys_and_the_next_goes_on():
    channel = one(1)
    channel.offer(0)
    first, second = start(channel.publish(1)), start(channel.publish(2))
    await turns()
    assert unread(channel) == [0]  # wakes the first
    first.cancel()
    assert await second is True
    assert first.cancelled()
    assert unread(channel) == [2]
    assert (channel.published, channel.blocked) == (2, 0)


@pytest.mark.asyncio
async def test_a_read_that_is_cancelled_when_its_chunk_has_come_loses_nothing():
    channel = one()
    waits = start(next_of(channel))
    await turns()
    channel.offer("a")
    waits.cancel()
    await turns()
    assert waits.cancelled()
    assert await next_of(channel) == "a"


@pytest.mark.asyncio
async def test_a_reader_can_give_up_waiting_and_come_back():
    channel = one()
    reader = channel.subscribe("r")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(reader)
    channel.offer("a")
    assert await anext(reader) == "a"


@pytest.mark.asyncio
async def test_nothing_is_left_behind():
    async with leak_check():
        channel = one(1)
        channel.offer(0)
        waiting = [start(channel.publish(1)), start(channel.publish(2))]
        await turns()
        waiting[0].cancel()
        channel.close(ValueError("x"))
        await asyncio.wait(waiting)
        assert isinstance(waiting[1].exception(), StreamClosedError)
        assert (await next_of(channel), channel.blocked) == (0, 0)


@pytest.mark.asyncio
async def test_a_cancelled_publisher_that_was_released_with_an_error_keeps_the_loop_quiet():
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    channel = one(1)
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    channel.close()
    waits.cancel()
    await turns()
    assert waits.cancelled()
    del waits
    gc.collect()
    assert complaints == []


# --- the end ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_closed_stream_is_read_to_its_end():
    channel = one()
    offer(channel, 0, 1)
    channel.close()
    assert channel.closed
    assert await rest_of(channel) == [0, 1]
    assert await rest_of(channel) == []


@pytest.mark.asyncio
async def test_a_broken_stream_is_read_to_its_break_and_breaks_again():
    channel = one()
    offer(channel, 0, 1)
    error = ConnectionError("no route")
    channel.close(error)
    reader = channel.subscribe("r")
    assert [await anext(reader), await anext(reader)] == [0, 1]
    raised: list[StreamBrokenError] = []
    for _ in range(2):
        with pytest.raises(StreamBrokenError, match="'p' broke off: ConnectionError: no route") as caught:
            await anext(reader)
        raised.append(caught.value)
    assert all(one.__cause__ is error for one in raised)
    assert raised[0] is not raised[1]
    assert (raised[0].producer, raised[0].code) == ("p", "SF-RUN-STREAM-BROKEN")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (asyncio.CancelledError(), "its producer was cancelled"),
        (StageError("p", OSError("disk")), "Stage 'p' failed: OSError: disk"),
        (ValueError(), "ValueError: "),
    ],
)
@pytest.mark.asyncio
async def test_the_reason_of_a_break(error: BaseException, reason: str):
    channel = one()
    channel.close(error)
    with pytest.raises(StreamBrokenError) as raised:
        await next_of(channel)
    assert raised.value.reason == reason


@pytest.mark.parametrize("error", [None, ValueError("x")])
@pytest.mark.asyncio
async def test_close_wakes_everybody(error: Exception | None):
    channel = Channel("p", [("r", edge(1)), ("s", edge())])
    channel.offer(0)
    reads = start(rest_of(channel, "s"))
    publishes = [start(channel.publish(number)) for number in (1, 2)]
    await turns()
    channel.close(error)
    await asyncio.wait([reads, *publishes])
    assert [type(task.exception()) for task in publishes] == [StreamClosedError] * 2
    assert isinstance(reads.exception(), StreamBrokenError if error else type(None))
    assert (channel.blocked, channel.published) == (0, 1)


@pytest.mark.asyncio
async def test_the_first_close_stays():
    channel = one()
    channel.close()
    channel.close(ValueError("later"))
    assert await rest_of(channel) == []


@pytest.mark.asyncio
async def test_a_closed_stream_takes_no_more():
    channel = one()
    channel.close()
    for publishing in (channel.offer, lambda chunk: at_once(channel.publish(chunk))):
        with pytest.raises(StreamClosedError, match="'p' takes no more chunks: it has ended") as raised:
            publishing("late")
        assert (raised.value.producer, raised.value.reason) == ("p", "it has ended")
    with pytest.raises(StreamClosedError):
        channel.restart(2)
    assert channel.published == 0


@pytest.mark.parametrize("error", [StreamClosedError("p", "it has ended"), StreamBrokenError("p", "why")])
def test_errors_pickle(error: StreamClosedError | StreamBrokenError):
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.producer, again.reason, str(again)) == (
        type(error),
        error.producer,
        error.reason,
        str(error),
    )


# --- leaving ------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_reader_that_leaves_holds_nobody_up():
    channel = Channel("p", [("r", edge(1)), ("s", edge(5))])
    channel.offer(0)
    waiting = [start(channel.publish(number)) for number in (1, 2)]
    await turns()
    channel.leave("r")
    assert [await task for task in waiting] == [True, True]
    assert channel.readers == ("s",)
    assert unread(channel, "s") == [0, 1, 2]
    assert channel.counts("r") == (0, 0, 0)


@pytest.mark.asyncio
async def test_when_the_last_reader_leaves_publishers_go_on_for_nobody():
    channel = one(1)
    channel.offer(0)
    waiting = [start(channel.publish(number)) for number in (1, 2, 3)]
    await turns()
    channel.leave("r")
    assert [await task for task in waiting] == [False] * 3
    assert channel.published == 4


@pytest.mark.asyncio
async def test_leaving_ends_a_wait():
    channel = one()
    waits = start(rest_of(channel))
    await turns()
    channel.leave("r")
    channel.leave("r")
    assert await waits == []
    channel.close(ValueError("not for who has left"))
    assert await rest_of(channel) == []


@pytest.mark.asyncio
async def test_a_reader_that_leaves_after_the_end_gets_nothing_more():
    channel = one()
    channel.offer(0)
    channel.close(ValueError("x"))
    channel.leave("r")
    assert await rest_of(channel) == []


@pytest.mark.asyncio
async def test_a_reader_that_leaves_while_another_is_full_wakes_nobody():
    channel = Channel("p", [("r", edge(1)), ("s", edge(1))])
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    channel.leave("r")
    await turns()
    assert not waits.done()
    assert unread(channel, "s") == [0]
    assert await waits is True


# --- restarting ---------------------------------------------------------------------------------------------


def test_a_restart_takes_the_place_of_all_that_is_unread():
    for overflow in (Overflow.BLOCK, Overflow.DROP_OLDEST, Overflow.DROP_NEWEST):
        channel = one(2, overflow)
        offer(channel, 0, 1, *([] if overflow is Overflow.BLOCK else [2]))
        channel.restart(2)
        assert channel.counts("r").waiting == 0
        assert offer(channel, "a", "b") == [True, True]  # the marker takes no room
        assert unread(channel) == [StreamRestart(2), "a", "b"]


def test_a_restart_takes_the_place_of_one_that_is_unread():
    channel = one()
    channel.offer(0)
    channel.restart(2)
    channel.restart(3)
    assert unread(channel) == [StreamRestart(3)]
    channel.restart(4)
    assert unread(channel) == [StreamRestart(4)]


def test_a_gap_stands_behind_an_unread_restart():
    channel = one(2, Overflow.DROP_OLDEST)
    channel.offer(0)
    channel.restart(2)
    offer(channel, *range(6))
    assert channel.counts("r") == (0, 4, 2)
    assert unread(channel) == [StreamRestart(2), StreamGap(4), 4, 5]


def test_readers_notice_no_restart_of_a_producer_that_has_published_nothing():
    channel = one()
    channel.restart(2)
    assert unread(channel) == []


@pytest.mark.asyncio
async def test_a_restart_releases_who_waits_for_room_and_wakes_who_waits_for_chunks():
    channel = Channel("p", [("r", edge(1)), ("s", edge())])
    channel.offer(0)
    old = start(channel.publish("old"))
    assert unread(channel, "s") == [0]
    reads = start(next_of(channel, "s"))
    await turns()
    channel.restart(2)
    new = start(channel.publish("new"))
    assert await reads == StreamRestart(2)
    with pytest.raises(StreamClosedError, match="attempt 2 has begun"):
        await old
    assert await new is True
    assert unread(channel) == [StreamRestart(2), "new"]


@pytest.mark.asyncio
async def test_a_publisher_whose_turn_has_come_is_of_the_old_attempt_all_the_same():
    channel = one(1)
    channel.offer(0)
    old = start(channel.publish("old"))
    await turns()
    assert unread(channel) == [0]  # wakes it
    channel.restart(2)
    with pytest.raises(StreamClosedError):
        await old
    assert unread(channel) == [StreamRestart(2)]


def test_who_has_left_is_not_called_back():
    channel = one()
    channel.offer(0)
    channel.leave("r")
    channel.restart(2)
    assert unread(channel) == []


# --- iterators ----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_second_wait_at_the_same_time_is_an_error_and_the_first_goes_on():
    channel = one()
    first = start(next_of(channel))
    await turns()
    with pytest.raises(RunStateError, match="Two Tasks of 'r' wait for chunks of 'p'"):
        await next_of(channel)
    channel.offer("a")
    with pytest.raises(RunStateError):  # the chunk is there, and the first is on its way to it
        await next_of(channel)
    assert await first == "a"
    channel.offer("b")
    assert await next_of(channel) == "b"


@pytest.mark.asyncio
async def test_a_new_iterator_goes_on_where_the_last_one_stopped():
    channel = one()
    offer(channel, 0, 1, 2)
    channel.close()
    async for chunk in channel.subscribe("r"):
        assert chunk == 0
        break
    assert await rest_of(channel) == [1, 2]


@pytest.mark.asyncio
async def test_a_closed_iterator_leaves_the_rest_to_the_next():
    channel = one()
    reader = channel.subscribe("r")
    offer(channel, 0, 1)
    assert await anext(reader) == 0
    await reader.aclose()
    assert [chunk async for chunk in reader] == []
    assert reader.poll() is None
    assert channel.readers == ("r",)
    assert await next_of(channel) == 1


@pytest.mark.asyncio
async def test_closing_an_iterator_ends_the_wait_in_it_and_in_no_other():
    lent: list[str] = []
    channel = one(on_wait=lent.append)
    reader, other = channel.subscribe("r"), channel.subscribe("r")
    waits = start(anext(reader, "closed"))  # pyright: ignore[reportArgumentType]
    await turns()
    await other.aclose()
    await turns()
    assert not waits.done()
    await reader.aclose()
    assert await waits == "closed"
    assert lent == ["r"]


# --- lending ------------------------------------------------------------------------------------------------


class Slots:
    """Lends a slot while a stage waits; a stage gets it back when it is free."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.free = asyncio.Event()
        self.free.set()

    def __call__(self, stage: str) -> Callable[[], Coroutine[Any, Any, None]]:
        self.log.append(f"{stage} lends")

        async def resume() -> None:
            self.log.append(f"{stage} wants it back")
            await self.free.wait()
            self.log.append(f"{stage} has it back")

        return resume


@pytest.mark.asyncio
async def test_who_waits_lends_and_who_does_not_wait_does_not():
    slots = Slots()
    channel = one(1, on_wait=slots)
    assert await channel.publish(0)
    assert await next_of(channel) == 0
    assert slots.log == []
    reads = start(next_of(channel))
    await turns()
    assert slots.log == ["r lends"]
    channel.offer(1)
    assert await reads == 1
    assert slots.log == ["r lends", "r wants it back", "r has it back"]
    slots.log.clear()
    channel.offer(2)
    waits = start(channel.publish(3))
    await turns()
    assert slots.log == ["p lends"]
    assert await next_of(channel) == 2
    await waits
    assert slots.log == ["p lends", "p wants it back", "p has it back"]


@pytest.mark.asyncio
async def test_a_reader_takes_its_chunk_when_it_has_the_slot_back():
    slots = Slots()
    channel = one(on_wait=slots)
    reads = start(next_of(channel))
    await turns()
    slots.free.clear()
    channel.offer("a")
    await turns()
    assert channel.counts("r") == (0, 0, 1)
    reads.cancel()
    await turns()
    assert reads.cancelled()
    assert channel.counts("r") == (0, 0, 1)
    assert await next_of(channel) == "a"


@pytest.mark.asyncio
async def test_a_producer_hands_its_chunk_over_when_it_has_the_slot_back():
    slots = Slots()
    channel = one(1, on_wait=slots)
    channel.offer(0)
    first, second = start(channel.publish(1)), start(channel.publish(2))
    await turns()
    slots.free.clear()
    assert await next_of(channel) == 0
    await turns()
    assert (channel.published, channel.blocked, channel.counts("r").waiting) == (1, 2, 0)
    assert channel.offer(3) is False
    first.cancel()  # while it waits for the slot
    slots.free.set()
    assert await second is True
    assert first.cancelled()
    assert unread(channel) == [2]


@pytest.mark.asyncio
async def test_what_ends_while_a_producer_waits_for_the_slot_releases_it():
    slots = Slots()
    channel = one(1, on_wait=slots)
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    slots.free.clear()
    assert await next_of(channel) == 0
    await turns()
    channel.close()
    slots.free.set()
    with pytest.raises(StreamClosedError):
        await waits
    assert channel.published == 1


@pytest.mark.asyncio
async def test_a_cancelled_wait_takes_the_slot_back_first():
    slots = Slots()
    channel = one(1, on_wait=slots)
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    slots.free.clear()
    waits.cancel()
    await turns()
    assert not waits.done()
    assert slots.log[-1] == "p wants it back"
    slots.free.set()
    await turns()
    assert waits.cancelled()
    assert (slots.log[-1], channel.blocked) == ("p has it back", 0)


@pytest.mark.asyncio
async def test_nobody_else_may_read_while_a_reader_waits_for_its_slot():
    slots = Slots()
    channel = one(on_wait=slots)
    reads = start(next_of(channel))
    await turns()
    slots.free.clear()
    channel.offer("a")
    await turns()
    with pytest.raises(RunStateError):
        await next_of(channel)
    slots.free.set()
    assert await reads == "a"


@pytest.mark.asyncio
async def test_a_chunk_that_is_gone_when_the_slot_is_back_makes_the_reader_wait_again():
    slots = Slots()
    channel = one(on_wait=slots)
    reads = start(next_of(channel))
    await turns()
    slots.free.clear()
    channel.offer("a")
    await turns()
    assert unread(channel) == ["a"]
    slots.free.set()
    await turns()
    assert slots.log.count("r lends") == 2
    channel.offer("b")
    assert await reads == "b"


@pytest.mark.parametrize("place", ["on_wait", "resume"])
@pytest.mark.asyncio
async def test_what_a_lender_raises_ends_the_call_and_leaves_the_channel_whole(place: str):
    raises = True

    def on_wait(_stage: str) -> Callable[[], Coroutine[Any, Any, None]]:
        if place == "on_wait" and raises:
            raise ZeroDivisionError

        async def resume() -> None:
            if raises:
                raise ZeroDivisionError

        return resume

    channel = one(1, on_wait=on_wait)
    reads = start(next_of(channel))
    await turns()
    channel.offer(0)
    with pytest.raises(ZeroDivisionError):
        await reads
    publishes = start(channel.publish(1))
    await turns()
    assert unread(channel) == [0]
    with pytest.raises(ZeroDivisionError):
        await publishes
    raises = False
    reads = start(next_of(channel))
    await turns()
    assert channel.offer(2) is True
    assert await reads == 2
    assert (channel.blocked, channel.published) == (0, 2)


@pytest.mark.asyncio
async def test_a_lender_that_has_nothing_to_take_back_returns_none():
    lent: list[str] = []
    channel = one(1, on_wait=lent.append)
    reads = start(next_of(channel))
    await turns()
    await channel.publish(0)
    assert await reads == 0
    assert lent == ["r"]


@pytest.mark.asyncio
async def test_a_call_that_is_thrown_away_awaits_nothing():
    slots = Slots()
    channel = one(1, on_wait=slots)
    reads = channel.subscribe("r").__anext__()
    reads.send(None)
    reads.close()
    channel.offer(0)
    publishes = channel.publish(1)
    publishes.send(None)
    publishes.close()
    assert slots.log == ["r lends", "p lends"]
    assert (unread(channel), channel.blocked) == ([0], 0)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.asyncio
async def test_a_producer_and_its_reader_get_along_with_one_slot(size: int):
    slot = asyncio.Semaphore(1)

    def on_wait(_stage: str) -> Callable[[], Coroutine[Any, Any, object]]:
        slot.release()
        return slot.acquire

    channel = one(size, on_wait=on_wait)

    async def produces() -> None:
        async with slot:
            for number in range(20):
                await channel.publish(number)
            channel.close()

    async def reads() -> list[Any]:
        async with slot:
            return await rest_of(channel)

    _, got = await asyncio.gather(produces(), reads())
    assert got == list(range(20))
    assert not slot.locked()


# --- arguments ----------------------------------------------------------------------------------------------


def test_wrong_arguments():
    with pytest.raises(ArgumentTypeError):
        Channel(7, [])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentValueError):
        Channel("", [])
    with pytest.raises(ArgumentTypeError):
        Channel("p", [(None, edge())])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentValueError, match="twice: 'r'"):
        Channel("p", [("r", edge()), ("r", edge())])


@pytest.mark.parametrize("method", ["subscribe", "leave", "counts"])
def test_unknown_readers(method: str):
    with pytest.raises(
        ArgumentValueError, match=rf"Channel\.{method}\(reader=...\) does not read the stream of 'p': 's'"
    ):
        getattr(one(), method)("s")


@pytest.mark.asyncio
async def test_repr():
    channel = one(1)
    channel.offer(0)
    waits = start(channel.publish(1))
    await turns()
    assert repr(channel) == "<Channel 'p', 1 published, 1 reading, 1 blocked>"
    channel.close()
    assert repr(channel) == "<Channel 'p', 1 published, closed>"
    with suppress(StreamClosedError):
        await waits
    assert channel.producer == "p"
