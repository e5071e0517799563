"""``Stamps``: when each stage of a run became ready, began and ended, and what it waited for in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

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


@final
class Stamps:
    """The stamps of one run, all of the monotonic clock, in nanoseconds.

    What nearly every stage has are three numbers: it became ready, it began, and it took so long. They stand in lists,
    by number, which lanes write into. Of those that went another way (another attempt, a gate, a guard's further
    round), the stretches before the last three are kept beside them.

    Args:
        count: How many stages there are.
        started_ns: When the run began.
    """

    __slots__ = ("_earlier", "_notes", "began_ns", "ended_ns", "ready_ns", "started_ns", "took_ns")

    def __init__(self, count: int, started_ns: int) -> None:
        self.started_ns = started_ns
        self.ended_ns = started_ns
        self.ready_ns = [started_ns] * count
        self.began_ns = [0] * count  # 0: it has not ended, so nobody knows
        self.took_ns = [0] * count
        self._earlier: dict[int, list[Stretch]] = {}
        self._notes: dict[int, list[Note]] = {}

    def ended(self, number: int, began_ns: int, now_ns: int) -> None:
        """A stage has ended, or an attempt of it has."""
        self.began_ns[number] = began_ns
        self.took_ns[number] = now_ns - began_ns

    def kept(self, number: int, now_ns: int) -> None:
        """It has been decided that a stage does not start."""
        self.ended(number, now_ns, now_ns)

    def waited(self, number: int, part: Part, now_ns: int) -> None:
        """A stage has waited from the end of its last stretch until now; it is ready again."""
        self._stretches(number).append(Stretch(part, now_ns, self.attempts(number) or 1))
        self.ready_ns[number] = now_ns

    def queued(self, number: int, now_ns: int) -> None:
        """A ready stage finds, on its turn, that it has to wait for something else than its turn."""
        self._stretches(number).extend(self._waits(number, now_ns, self.attempts(number) + 1))

    def attempted(self, number: int) -> None:
        """The attempt that has ended was not the last, or a guard has sent the stage back."""
        self._stretches(number).extend(self._last(number))
        self.began_ns[number] = 0

    def attempts(self, number: int) -> int:
        """Return how many attempts of a stage have ended, the last one aside."""
        return sum(stretch.part is Part.RUN for stretch in self._earlier.get(number, ()))

    def note(self, number: int, note: Note) -> None:
        """A part of an attempt's time went to something else than running."""
        self._notes.setdefault(number, []).append(note)

    def stretches(self, number: int) -> list[Stretch]:
        """Return how a stage spent its time, as far as it has come."""
        earlier = self._earlier.get(number, ())
        # Without a beginning it was between two attempts, or waited for something, when the run ended.
        return [*earlier, *(self._last(number) if self.began_ns[number] else ())]

    def notes(self, number: int) -> Sequence[Note]:
        """Return what of a stage's running time was not its own."""
        return self._notes.get(number, ())

    def totals(self, number: int) -> dict[str, int]:
        """Return how much of a stage's time went to which part, so far, in nanoseconds."""
        ready_ns, began_ns = self.ready_ns[number], self.began_ns[number]
        if number not in self._earlier and number not in self._notes:
            return {
                "dependencies": ready_ns - self.started_ns,
                "queue": began_ns - ready_ns,
                "run": self.took_ns[number],
            }
        from stageflow.runtime.timeline import spans_of

        totals: dict[str, int] = {}
        for span in spans_of(self.started_ns, self.stretches(number), self.notes(number)):
            totals[span.part.value] = totals.get(span.part.value, 0) + span.duration_ns
        return totals

    def _stretches(self, number: int) -> list[Stretch]:
        return self._earlier.setdefault(number, [])

    def _last(self, number: int) -> tuple[Stretch, ...]:
        attempt, began_ns = self.attempts(number) + 1, self.began_ns[number]
        ended_ns = began_ns + self.took_ns[number]
        return (*self._waits(number, began_ns, attempt), Stretch(Part.RUN, ended_ns, attempt))

    def _waits(self, number: int, until_ns: int, attempt: int) -> tuple[Stretch, Stretch]:
        return (
            Stretch(Part.DEPENDENCIES, self.ready_ns[number], attempt),
            Stretch(Part.QUEUE, until_ns, attempt),
        )
