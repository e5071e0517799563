"""Where the time of real runs went: on the real clock, through threads and a process, to the nanosecond."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from stageflow import (
    Effect,
    FailureMode,
    RetryPolicy,
    StageContext,
    StageGraph,
    StageKind,
    StageOutput,
    StageSpec,
)
from stageflow.errors import PipelineValidationError
from stageflow.executors import ProcessExecutor, ThreadExecutor
from stageflow.stages.part import Part
from stageflow.testing.conformance.executor_bodies import where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.runtime.timeline import Timeline

RUNS = 1_000
AGAIN = RetryPolicy(3, base_delay=1e-4, jitter=False)


class Does:
    """Works a little, in turns of the loop, and ends in one way or another; at first in another."""

    def __init__(self, rng: random.Random, stream: str | None) -> None:
        self.turns = rng.randrange(4)
        self.pause = rng.choice([0, 0, 1e-4])
        self.ends = [rng.choice(["ok"] * 8 + ["skip", "retry", "error", "fail"]) for _ in range(3)]
        self.publishes = rng.randrange(4)
        self.stream = stream
        self.attempts = 0

    async def execute(self, ctx: StageContext) -> Any:
        end = self.ends[min(self.attempts, 2)]
        self.attempts += 1
        for _ in range(self.turns):
            await asyncio.sleep(self.pause)
        for chunk in range(self.publishes):
            await ctx.publish(chunk)
        if self.stream is not None:
            async for _ in ctx.stream(self.stream):
                pass
        if end == "error":
            raise ConnectionError
        return {
            "ok": StageOutput.ok,
            "skip": lambda: StageOutput.skip("no need"),
            "retry": lambda: StageOutput.retry("not yet"),
            "fail": lambda: StageOutput.fail("no"),
        }[end]()


def random_graph(rng: random.Random, places: Sequence[Any]) -> StageGraph:
    specs: list[StageSpec] = []
    names = [f"s{number}" for number in range(rng.randint(1, 9))]
    gate = rng.choice([None, *names[:3]])
    for position, name in enumerate(names):
        before = names[:position]
        after = rng.sample(before, min(len(before), rng.randrange(3)))
        read = rng.choice([None, None, *before[-2:]])
        more: dict[str, Any] = {"retry": AGAIN, "conditional": rng.random() < 0.2}
        if name == gate:
            kind, more["gates_effects"] = StageKind.GUARD, True
        else:
            kind, more["effect"] = StageKind.WORK, rng.choice([Effect.NONE, Effect.IDEMPOTENT])
        if rng.random() < 0.1:
            specs.append(StageSpec(name, where, kind, tuple(after), executor=rng.choice(places), **more))
            continue
        streams = () if read is None or read in after or kind is StageKind.GUARD else (read,)
        if streams:
            more["gated"] = rng.random() < 0.5
        specs.append(
            StageSpec(name, Does(rng, *streams or (None,)), kind, tuple(after), streams=streams, **more)
        )
    mode = rng.choice(list(FailureMode))
    try:
        return StageGraph(specs, failure_mode=mode, max_concurrency=rng.choice([None, None, 1, 3]))
    except PipelineValidationError:  # what would wait for itself does not build
        return random_graph(rng, places)


def assert_adds_up(timeline: Timeline) -> None:
    for name, stage in timeline.items():
        assert stage.started_ns == timeline.started_ns, name
        moments = [stage.started_ns, *(span.ended_ns for span in stage.spans)]
        assert [span.started_ns for span in stage.spans] == moments[:-1], name
        assert all(type(moment) is int for moment in moments), name
        assert moments[-1] == stage.ended_ns <= timeline.ended_ns, name
        assert sum(stage.totals.values()) == stage.total_ns == stage.ended_ns - stage.started_ns, name
    path = timeline.critical_path
    assert sum(step.duration_ns for step in path) + timeline.tail_ns == timeline.total_ns


def test_the_timelines_of_1000_random_runs_sum_exactly():
    seen: Counter[str] = Counter()

    async def runs() -> None:
        async with ThreadExecutor(2) as threads, ProcessExecutor(1) as process:
            places = threads, process
            for number in range(RUNS):
                rng = random.Random(number)
                graph = random_graph(rng, places)
                timeout = rng.choice([None] * 9 + [1e-3])
                results = await graph.run(timeout=timeout, raise_errors=False)
                assert set(results) <= set(results.timeline)
                assert_adds_up(results.timeline)
                seen.update(part.value for stage in results.timeline.values() for part in stage.totals)
                seen[type(results.error).__name__] += 1

    asyncio.run(runs())
    parts = set(Part) - {Part.APPROVAL}
    ends = {"NoneType", "StageExecutionError", "RunTimeoutError"}
    assert parts | ends <= set(seen), f"too little happened for the sums to say much: {seen}"
