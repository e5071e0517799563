"""``Stamps``: when each stage of a run became ready, began and ended, and what it waited for in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Note", "Stamps", "Stretch"]


class Stretch(NamedTuple):
    """A stretch of a stage's time that begins where the one before it ended, the first one when the run began."""

    part: Part
    ended_ns: int
    attempt: int


class Note(NamedTuple):
    """A stretch of running time in which a stage did not work but waited for something."""

    part: Part
    started_ns: int
    ended_ns: int
    attempt: int


class _More(NamedTuple):
    """What there is of a stage beside its last three stamps."""

    earlier: list[Stretch]
    notes: list[Note]


_NO_MORE: Final = _More([], [])


@final
class Stamps:
    """The stamps of one run, all of the monotonic clock, in nanoseconds.

    What nearly every stage has are three numbers: when it became ready, began and ended. They stand in lists, by
    number, which lanes write into; that one stage ends and the next one becomes ready is one moment, and one number.
    Of those that went another way (another attempt, a gate, a guard's further
    round), the stretches before the last three are kept beside them.

    Args:
        count: How many stages there are.
        started_ns: When the run began.
    """

    __slots__ = ("_more", "began_ns", "ended_ns", "over_ns", "ready_ns", "started_ns")

    def __init__(self, count: int, started_ns: int) -> None:
        self.started_ns = started_ns
        self.over_ns = started_ns
        """When the run ended."""
        self.ready_ns = [started_ns] * count
        self.began_ns = [0] * count  # 0: it has not ended, so nobody knows
        self.ended_ns = [0] * count
        self._more: dict[int, _More] | None = None  # of those, by number

    def ended(self, number: int, began_ns: int, now_ns: int) -> None:
        """A stage has ended, or an attempt of it has."""
        self.began_ns[number] = began_ns
        self.ended_ns[number] = now_ns

    def duration_ms(self, number: int) -> float:
        """Return how long the last attempt of a stage took, in milliseconds."""
        return (self.ended_ns[number] - self.began_ns[number]) / 1e6

    def kept(self, number: int, now_ns: int) -> None:
        """It has been decided that a stage does not start."""
        self.ended(number, now_ns, now_ns)

    def waited(self, number: int, part: Part, now_ns: int) -> None:
        """A stage has waited from the end of its last stretch until now; it is ready again."""
        self._kept(number).earlier.append(Stretch(part, now_ns, self.attempts(number) or 1))
        self.ready_ns[number] = now_ns

    def queued(self, number: int, now_ns: int) -> None:
        """A ready stage finds, on its turn, that it has to wait for something else than its turn."""
        self._kept(number).earlier.extend(self._waits(number, now_ns, self.attempts(number) + 1))

    def attempted(self, number: int) -> None:
        """The attempt that has ended was not the last, or a guard has sent the stage back."""
        self._kept(number).earlier.extend(self._last(number))
        self.began_ns[number] = 0

    def attempts(self, number: int) -> int:
        """Return how many attempts of a stage have ended, the last one aside."""
        return sum(stretch.part is Part.RUN for stretch in self._more_of(number).earlier)

    def note(self, number: int, note: Note) -> None:
        """A part of an attempt's time went to something else than running."""
        self._kept(number).notes.append(note)

    def stretches(self, number: int) -> list[Stretch]:
        """Return how a stage spent its time, as far as it has come."""
        earlier = self._more_of(number).earlier
        # Without a beginning it was between two attempts, or waited for something, when the run ended.
        return [*earlier, *(self._last(number) if self.began_ns[number] else ())]

    def notes(self, number: int) -> Sequence[Note]:
        """Return what of a stage's running time was not its own."""
        return self._more_of(number).notes

    def told(self, number: int) -> dict[str, Any]:
        """Return what events say of how a stage spent its time so far.

        The three stamps say it all of a stage that waited for others, waited for its turn and ran. For any other there
        are the totals of its parts as well.
        """
        told: dict[str, Any] = {
            "ready_ns": self.ready_ns[number],
            "began_ns": self.began_ns[number],
            "ended_ns": self.ended_ns[number],
        }
        if self._more is not None and number in self._more:
            from stageflow.runtime.timeline import spans_of

            totals: dict[str, int] = {}
            for span in spans_of(self.started_ns, self.stretches(number), self.notes(number)):
                totals[span.part.value] = totals.get(span.part.value, 0) + span.duration_ns
            told["parts_ns"] = totals
        return told

    def _more_of(self, number: int) -> _More:
        return _NO_MORE if self._more is None else self._more.get(number, _NO_MORE)

    def _kept(self, number: int) -> _More:
        """Return where more than three numbers of a stage is kept."""
        if self._more is None:
            self._more = {}
        return self._more.setdefault(number, _More([], []))

    def _last(self, number: int) -> tuple[Stretch, ...]:
        attempt, began_ns = self.attempts(number) + 1, self.began_ns[number]
        return (*self._waits(number, began_ns, attempt), Stretch(Part.RUN, self.ended_ns[number], attempt))

    def _waits(self, number: int, until_ns: int, attempt: int) -> tuple[Stretch, Stretch]:
        return (
            Stretch(Part.DEPENDENCIES, self.ready_ns[number], attempt),
            Stretch(Part.QUEUE, until_ns, attempt),
        )
