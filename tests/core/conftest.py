"""What the kernel's tests share: a sink that checks what every run promises of its events, and a look for leftovers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TERMINAL = frozenset({"completed", "failed", "skipped", "cancelled"})
ENDS = frozenset({"pipeline.completed", "pipeline.failed", "pipeline.cancelled"})


class Recorder:
    """Keeps every event of one run."""

    def __init__(self, hook: Callable[[str, dict[str, Any]], object] | None = None) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.hook = hook

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.try_emit(type=type, data=data)

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, dict(data or {})))
        if self.hook is not None:
            self.hook(type, data or {})

    @property
    def types(self) -> list[str]:
        return [type for type, _ in self.events]

    def of(self, stage: str) -> list[str]:
        """Return what happened to *stage*, as the last words of the event types."""
        start = f"stage.{stage}."
        return [type.removeprefix(start) for type, _ in self.events if type.startswith(start)]

    def data(self, type: str) -> dict[str, Any]:
        """Return the payload of the only event of that type."""
        (found,) = [data for known, data in self.events if known == type]
        return found

    def assert_sound(self, stages: Iterable[str], end: str | None = None) -> None:
        """Assert what holds for every run that has ended, whatever became of it."""
        types = self.types
        assert types[0] == "pipeline.started", types
        assert types[-1] in ENDS, f"the run has no terminal event, or something came after it: {types}"
        assert sum(type in ENDS for type in types) == 1, types
        assert sum(type == "pipeline.started" for type in types) == 1, types
        if end is not None:
            assert types[-1] == f"pipeline.{end}", types
        assert [data["sequence"] for _, data in self.events] == list(range(1, len(types) + 1))
        stamps = [data["monotonic_ns"] for _, data in self.events]
        assert stamps == sorted(stamps)
        assert len({data["pipeline_run_id"] for _, data in self.events}) == 1
        for stage in stages:
            words = self.of(stage)
            assert sum(word in TERMINAL for word in words) == 1, f"terminal events of {stage!r}: {words}"
            assert words == ["skipped"] or (words[0] == "started" and words[-1] in TERMINAL), (
                f"{stage!r}: {words}"
            )
            assert all(word == "retrying" for word in words[1:-1]), f"{stage!r}: {words}"


@pytest.fixture
def sink() -> Recorder:
    return Recorder()


@pytest.fixture(scope="session")
def new_sink() -> type[Recorder]:
    return Recorder


@pytest.fixture
def left_over() -> Callable[[], set[asyncio.Task[Any]]]:
    """Return a function that returns every Task but the caller's, as they are at that very moment."""
    return lambda: asyncio.all_tasks() - {asyncio.current_task()}
