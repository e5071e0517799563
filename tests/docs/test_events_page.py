"""The page about events lists every event type of the vocabulary, and every key that the core puts into each."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import (
    CancellationToken,
    Effect,
    FailureMode,
    Pipeline,
    PipelineContext,
    RetryPolicy,
    StageKind,
    StageOutput,
    StageSpec,
)
from stageflow.events import vocabulary
from stageflow.pipeline.subpipeline import SubpipelineSpawner
from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
from stageflow.runtime.progress import SkipReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "events.md").read_text("utf-8")
_EVERY, *_ = PAGE.partition("## The run")
_, _, _STAGES = PAGE.partition("## Stages")
_STAGE_KEYS, *_ = _STAGES.partition("### ")
_SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))


def rows(text: str) -> dict[str, str]:
    """Return the keys in the first column of the tables in *text*, each with what is said of it."""
    lines = re.findall(r"^\| (`[^|]+`) \| (.+) \|$", text, re.MULTILINE)
    return {key: said for keys, said in lines for key in re.findall(r"`(\w+)`", keys)}


def types_in_the_vocabulary() -> set[str]:
    names = {name for name in vocabulary.__all__ if name.isupper()}
    return {
        f"stage.<name>.{getattr(vocabulary, name)}"
        if name.startswith("STAGE_")
        else getattr(vocabulary, name)
        for name in names
    }


def test_every_event_type_has_a_section():
    assert set(_SECTIONS) == types_in_the_vocabulary()


@pytest.fixture(scope="module")
def seen() -> dict[str, list[set[str]]]:
    """Make the core emit everything it can, and return the keys of each event by type."""
    found: dict[str, list[set[str]]] = {}
    for type_, data in asyncio.run(everything()):
        name = re.sub(r"^stage\..+\.", "stage.<name>.", type_)
        found.setdefault(name, []).append(set(data))
    return found


@pytest.mark.parametrize("type_", _SECTIONS)
def test_a_section_has_the_keys_of_its_event(type_: str, seen: dict[str, list[set[str]]]):
    every = {} if type_ in {vocabulary.STREAM_GAP, vocabulary.STREAM_CHUNK} else rows(_EVERY)
    at_times = {key for key, said in every.items() if "only if" in said}
    common = set(every) - at_times
    if type_ == vocabulary.PIPELINE_CANCELED:  # a child's context emits it
        common -= {"pipeline", "sequence", "monotonic_ns"}
    if type_.startswith("stage.<name>."):
        common |= set(rows(_STAGE_KEYS))
    own = rows(_SECTIONS[type_].partition("\nA stage that returned")[0])
    always = {key for key, said in own.items() if "only if" not in said and "; not if" not in said}
    assert set.union(*seen[type_]) - (at_times - set(own)) == common | set(own)
    assert set.intersection(*seen[type_]) == common | always


def test_every_reason_for_a_skip_is_listed():
    reasons = {value for name, value in vars(SkipReason).items() if name.isupper()}
    assert set(rows(_SECTIONS["stage.<name>.skipped"].partition("\nA stage that returned")[2])) == reasons


class _Collect:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data or {}))


async def _fine(ctx) -> None: ...


async def _broken(ctx) -> None:
    raise ValueError


async def _broken_later(ctx) -> None:
    await asyncio.sleep(0)
    raise ValueError


async def _flaky(ctx) -> None:
    if ctx.attempt == 1:
        raise ConnectionError


async def _stuck(ctx) -> None:
    await asyncio.sleep(60)


async def _skipping(ctx) -> StageOutput:
    return StageOutput.skip("nothing to do")


async def _cancelling(ctx) -> StageOutput:
    await asyncio.sleep(0.01)
    return StageOutput.cancel("enough")


async def _untidy(ctx) -> None:
    async def cleanup() -> None:
        raise ValueError

    ctx.register_cleanup(cleanup)


async def _spawning(ctx) -> None:
    spawner = SubpipelineSpawner()
    for runner in (_fine, _broken):
        await spawner.spawn(runner.__name__, ctx, None, "_spawning", runner)
    canceling = asyncio.create_task(spawner.cancel_with_children(ctx.pipeline_run_id))
    try:
        await spawner.spawn("_stuck", ctx, None, "_spawning", _stuck)
    finally:
        await canceling


async def _publishing(ctx) -> None:
    await ctx.publish("Hel")


class _Receipt:
    receipt_id = "r-1"

    def to_dict(self) -> dict[str, Any]:
        return {"undo": "nothing"}


async def _reversible(ctx) -> None:
    ctx.leave_receipt(_Receipt())


def _pipeline(*runners: Callable[..., Any], **options: Any) -> Pipeline:
    kind = options.pop("kind", StageKind.TRANSFORM)
    return Pipeline.from_stages(*(StageSpec(one.__name__, one, kind, **options) for one in runners))


def _gated(guard: Callable[..., Any]) -> Pipeline:
    gate = StageSpec("_gate", guard, StageKind.GUARD, gates_effects=True)
    return _pipeline(_fine, kind=StageKind.WORK).compose(Pipeline.from_stages(gate))


def _guarded(verdicts: Iterator[bool]) -> Pipeline:
    async def guard(ctx) -> StageOutput:
        return StageOutput.ok() if next(verdicts) else StageOutput.fail("no")

    draft = StageSpec("_draft", _fine, StageKind.AGENT)
    return Pipeline.from_stages(draft, StageSpec("_guard", guard, StageKind.GUARD, ["_draft"]))


async def everything() -> list[tuple[str, dict[str, Any]]]:
    sink = _Collect()
    retry = RetryPolicy(2, base_delay=0, jitter=False)
    patient = RetryPolicy(2, base_delay=60, jitter=False)

    async def run(pipeline: Pipeline, context: PipelineContext | None = None, **options: Any) -> None:
        graph = pipeline.build(failure_mode=options.pop("failure_mode", FailureMode.FAIL_FAST))
        await graph.run(context, sink=sink, raise_errors=False, **options)

    await run(_pipeline(_fine, _skipping, _untidy), PipelineContext())
    await run(_pipeline(_flaky, retry=retry))
    never = RetryPolicy(3, base_delay=0, jitter=False, retry_on=(Exception,))
    await run(_pipeline(_broken, retry=never))
    await run(_pipeline(_broken, _stuck))
    await run(_pipeline(_broken), failure_mode=FailureMode.BEST_EFFORT)
    await run(_pipeline(_fine, when=lambda _: 1 / 0))
    await run(_pipeline(_flaky, kind=StageKind.WORK, retry=retry))
    await run(_pipeline(_reversible, effect=Effect.REVERSIBLE))
    for guard in (_fine, _broken):
        await run(_gated(guard))
    await run(_gated(_broken_later), failure_mode=FailureMode.BEST_EFFORT)
    await run(_pipeline(_stuck, _cancelling))
    await run(_pipeline(_flaky, retry=patient), timeout=0.05)  # ends while it waits for the next attempt
    await run(_pipeline(_fine, when=lambda _: False))
    await run(_pipeline(_spawning))
    token = CancellationToken()
    token.cancel()
    await run(_pipeline(_fine), cancel_token=token)
    for rounds in (2, 3):
        strategy = GuardRetryStrategy({"_guard": GuardRetryPolicy("_draft", rounds, stagnation_limit=9)})
        guarded = _guarded(iter((False, False, True)))
        await guarded.build(guard_retry_strategy=strategy).run(sink=sink, raise_errors=False)
    reader = StageSpec("_reader", _fine, streams=["_publishing"])
    await run(_pipeline(_publishing).compose(Pipeline.from_stages(reader)))
    for buffer in (1, 100):
        async for event in _pipeline(_publishing).stream(buffer=buffer):
            sink.events += _of_the_reader(event)
    return sink.events


def _of_the_reader(event: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if event.type in {vocabulary.STREAM_GAP, vocabulary.STREAM_CHUNK}:
        yield event.type, dict(event.data)
