"""The default place for the body of a stage: the event loop it was called on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["InlineExecutor"]


@final
class InlineExecutor:
    """Awaits the body where it is. A graph leaves this executor out of the call altogether."""

    __slots__ = ()
    name = "inline"

    async def execute(self, body: Callable[[Any], Awaitable[object]], ctx: Any) -> object:
        """Await ``body(ctx)``."""
        return await body(ctx)
