"""What must have happened before what else can: the starts and ends of stages, for what a build has to rule out.

```
   start of a ──► flow of a ──► end of a ──► start of b        b depends on a
   start of p ──► start of r    end of p ──► end of r          r reads the stream of p to its end,
                  flow of r ──► flow of p                      and p waits for it when the stream is full
   end of a gate ──► start of a held stage                     the stage has an effect
```

*Flow* is that nothing keeps a started stage from coming to its end. With these edges, "could this wait for itself?" is
a question of reachability: for dependencies, for guards that hold others, for streams and for gates alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from stageflow.errors import BuildProblem, shown
from stageflow.runtime.validation import find_cycles
from stageflow.stages.stream_edge import Overflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stageflow.runtime.compilation import CompiledStage

__all__ = ["Precedence"]


@final
class Precedence:
    """The edges of one pipeline. Its events are numbered: start, flow and end of stage 0, of stage 1, and so on.

    Args:
        stages: The compiled stages. Their dependencies are known to be free of circles.
    """

    __slots__ = ("_before_gates", "_stages", "_waits_for")

    def __init__(self, stages: Sequence[CompiledStage]) -> None:
        self._stages = stages
        self._waits_for: list[list[int]] = [[] for _ in range(3 * len(stages))]
        for stage in stages:
            start, flow, end = (3 * stage.number + event for event in range(3))
            self._waits_for[end].append(flow)
            self._waits_for[flow].append(start)
            self._waits_for[start] += [3 * number + 2 for number in (*stage.dependencies, *stage.holders)]
            for producer, edge in stage.streams:
                self._waits_for[start].append(3 * producer)
                self._waits_for[end].append(3 * producer + 2)
                if edge.overflow is Overflow.BLOCK:
                    self._waits_for[3 * producer + 1].append(flow)
        self._before_gates: dict[int, int] = {}  # event -> the event that waits for it, towards a gate
        for stage in stages:
            if (
                stage.spec.gates_effects
            ):  # what a gate has said is final when nobody can send it back any more
                for number in (stage.number, *stage.sent_back_by):
                    self._search(3 * number + 2)

    def _search(self, event: int) -> None:
        """Note everything that has to happen before *event*."""
        self._before_gates.setdefault(event, event)
        pending = [event]
        for waiter in pending:  # grows while it is read
            for wanted in self._waits_for[waiter]:
                if wanted not in self._before_gates:
                    self._before_gates[wanted] = waiter
                    pending.append(wanted)

    def precedes_gate(self, number: int) -> bool:
        """Say whether a gate waits for a stage to come to its end, or to go on reading."""
        return 3 * number + 1 in self._before_gates

    def problems(self) -> Iterator[BuildProblem]:
        """Yield what would wait for itself."""
        for stage in self._stages:
            if stage.held and 3 * stage.number in self._before_gates:
                yield self._gate_problem(stage)
        edges = {str(event): [str(one) for one in wanted] for event, wanted in enumerate(self._waits_for)}
        for cycle in find_cycles(edges):
            yield self._circle([int(event) for event in cycle])

    def _gate_problem(self, stage: CompiledStage) -> BuildProblem:
        names = self._way_to_gate(3 * stage.number)
        last = next(one for one in self._stages if one.name == names[-1])
        gate = f"the gate {shown(last.name)}"
        if not last.spec.gates_effects:
            gate = f"a gate that the guard {shown(last.name)} may send back"
        message = (
            f"Stage {shown(stage.name)} ({stage.spec.effect}) would be held by {gate}, "
            f"which waits for it: {' -> '.join(names)}"
        )
        fix = (
            f"Let the gate come first, or say gated=False on {shown(stage.name)} if its effect may come before; "
            "where the way leads through a stream, its edge may also drop or coalesce"
        )
        return BuildProblem("SF-BUILD-GATE", message, fix=fix, stages=names)

    def _way_to_gate(self, event: int) -> list[str]:
        """Return the stages between *event* and the gate that waits for it."""
        numbers = [event // 3]
        while (waiter := self._before_gates[event]) != event:
            event = waiter
            numbers.append(event // 3)
        return [self._stages[number].name for number in dict.fromkeys(numbers)]

    def _circle(self, cycle: list[int]) -> BuildProblem:
        names = [self._stages[number].name for number in dict.fromkeys(event // 3 for event in cycle)]
        way = " -> ".join([*names, names[0]])
        full = [
            (self._stages[waiter // 3].name, self._stages[wanted // 3].name)
            for waiter, wanted in zip(cycle, [*cycle[1:], cycle[0]], strict=True)
            if waiter % 3 == 1 and waiter // 3 != wanted // 3
        ]
        if not full:
            message = f"Stages wait for each other, as dependencies or as streams: {way}"
            fix = f"Remove one of these edges, for example {names[-1]!r} from {names[0]!r}"
            return BuildProblem("SF-BUILD-CYCLE", message, fix=fix, stages=names)
        producer, reader = full[0]
        message = (
            f"Stage {shown(producer)} waits for {shown(reader)} when their stream is full, and that one "
            f"cannot go on before {shown(producer)} has ended: {way}"
        )
        fix = (
            "Let the other one depend on what the stream gives, or let the edge lose chunks: "
            f"streams=[StreamEdge({producer!r}, overflow=Overflow.DROP_OLDEST)]"
        )
        return BuildProblem("SF-BUILD-STREAM-DEADLOCK", message, fix=fix, stages=names)
