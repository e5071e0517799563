"""What a stage does: next to nothing, so that what is measured is what surrounds it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workloads import Dag

Body = Callable[[str], Awaitable[dict[str, int]]]


async def inline(name: str) -> dict[str, int]:
    """Return at once."""
    return {"value": 1}


async def suspending(name: str) -> dict[str, int]:
    """Give way to the event loop once."""
    await asyncio.sleep(0)
    return {"value": 1}


BODIES: dict[str, Body] = {"inline": inline, "suspending": suspending}


class CheckingBody:
    """A body that knows the graph: ``verify`` raises unless every stage ran after its dependencies, once per run."""

    def __init__(self, dag: Dag) -> None:
        self.dag = dag
        self.ended = dict.fromkeys(dag, 0)
        self.early: list[str] = []

    async def __call__(self, name: str) -> dict[str, int]:
        turn = self.ended[name]
        self.early += [f"{name} before {one}" for one in self.dag[name] if self.ended[one] <= turn]
        await asyncio.sleep(0)
        self.ended[name] += 1
        return {"value": 1}

    def verify(self, runs: int) -> None:
        wrong = [f"{name} ran {times} times" for name, times in self.ended.items() if times != runs]
        if wrong or self.early:
            msg = f"{len(wrong)} wrong counts, {len(self.early)} wrong orders: {[*wrong, *self.early][:3]}"
            raise AssertionError(msg)
