"""``ChildRunTracker``: which run started which, for as long as they run."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, final
from uuid import UUID

from stageflow.context.checks import check_type, wrong_value
from stageflow.pipeline.child_scope import Current

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ChildRunTracker", "clear_child_tracker", "get_child_tracker", "set_child_tracker"]

_COUNTERS: Final = (
    "registration_count",
    "unregistration_count",
    "lookup_count",
    "tree_traversal_count",
    "cleanup_count",
    "max_concurrent_children",
    "max_depth_seen",
)


@final
class ChildRunTracker:
    """Knows which run started which, and counts.

    A child that has ended is forgotten, and with its last child a parent, so what is kept is what runs. The methods
    are async as they always were, but none of them waits; they may be called from several threads.

    ```python
    import asyncio
    from uuid import UUID

    from stageflow.pipeline.subpipeline import ChildRunTracker


    async def main():
        tracker, parent, child = ChildRunTracker(), UUID(int=1), UUID(int=2)
        await tracker.register_child(parent, child)
        print(await tracker.get_parent(child) == parent, (await tracker.get_metrics())["active_children"])
        #> True 1
        await tracker.unregister_child(parent, child)
        print(await tracker.get_children(parent))
        #> set()


    asyncio.run(main())
    ```
    """

    __slots__ = ("_children", "_counts", "_lock", "_parents")

    def __init__(self) -> None:
        self._children: dict[UUID, dict[UUID, None]] = {}  # in the order of registration
        self._parents: dict[UUID, UUID] = {}
        self._counts: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        self._lock = threading.Lock()

    def add(self, parent_run_id: UUID, child_run_id: UUID) -> None:
        """Remember that one run started another; once more says nothing new.

        Raises:
            ArgumentTypeError: One of them is no UUID.
            ArgumentValueError: The child has another parent, or is above the parent itself.
        """
        owner = "ChildRunTracker.register_child"
        check_type(owner, "parent_run_id", parent_run_id, UUID, "a UUID")
        check_type(owner, "child_run_id", child_run_id, UUID, "a UUID")
        with self._lock:
            known = self._parents.get(child_run_id)
            if known == parent_run_id:
                return
            if known is not None:
                raise wrong_value(owner, "child_run_id", "has another parent already", child_run_id)
            above = [parent_run_id, *self._above(parent_run_id)]
            if child_run_id in above:
                raise wrong_value(
                    owner, "child_run_id", "is a run above its parent, or the parent", child_run_id
                )
            children = self._children.setdefault(parent_run_id, {})
            children[child_run_id] = None
            self._parents[child_run_id] = parent_run_id
            self._counts["registration_count"] += 1
            self._most("max_concurrent_children", len(children))
            self._most("max_depth_seen", len(above))

    def remove(self, parent_run_id: UUID, child_run_id: UUID) -> None:
        """Forget that one run started another, if that was so."""
        _check_id("unregister_child", "parent_run_id", parent_run_id)
        _check_id("unregister_child", "child_run_id", child_run_id)
        with self._lock:
            if child_run_id in self._parents and self._parents[child_run_id] == parent_run_id:
                self._unlink(parent_run_id, child_run_id)
                self._counts["unregistration_count"] += 1

    def children_of(self, run_id: UUID) -> tuple[UUID, ...]:
        """Return the children of a run, in the order in which they were started."""
        _check_id("children_of", "run_id", run_id)
        with self._lock:
            return tuple(self._children.get(run_id, ()))

    async def register_child(self, parent_run_id: UUID, child_run_id: UUID) -> None:
        """Remember that one run started another; see ``add``."""
        self.add(parent_run_id, child_run_id)

    async def unregister_child(self, parent_run_id: UUID, child_run_id: UUID) -> None:
        """Forget that one run started another, if that was so."""
        self.remove(parent_run_id, child_run_id)

    async def get_children(self, run_id: UUID) -> set[UUID]:
        """Return the children of a run."""
        _check_id("get_children", "run_id", run_id)
        with self._lock:
            self._counts["lookup_count"] += 1
            return set(self._children.get(run_id, ()))

    async def get_parent(self, run_id: UUID) -> UUID | None:
        """Return the run that started this one, or None if nobody did or it has ended."""
        _check_id("get_parent", "run_id", run_id)
        with self._lock:
            self._counts["lookup_count"] += 1
            return self._parents.get(run_id)

    async def get_all_descendants(self, run_id: UUID) -> set[UUID]:
        """Return the children of a run, and theirs, and so on."""
        _check_id("get_all_descendants", "run_id", run_id)
        with self._lock:
            self._counts["tree_traversal_count"] += 1
            found: set[UUID] = set()
            ahead = [run_id]
            while ahead:
                children = self._children.get(ahead.pop(), ())
                found.update(children)
                ahead.extend(children)
            return found

    async def get_root_run(self, run_id: UUID) -> UUID:
        """Return the run above all of those above this one; the run itself if nobody started it."""
        _check_id("get_root_run", "run_id", run_id)
        with self._lock:
            self._counts["tree_traversal_count"] += 1
            root = run_id
            for root in self._above(run_id):  # noqa: B007 - the last one counts
                pass
            return root

    async def cleanup_run(self, run_id: UUID) -> None:
        """Forget a run: who started it, and whom it started."""
        _check_id("cleanup_run", "run_id", run_id)
        with self._lock:
            self._counts["cleanup_count"] += 1
            parent = self._parents.get(run_id)
            if parent is not None:
                self._unlink(parent, run_id)
            for child in self._children.pop(run_id, ()):
                del self._parents[child]

    async def get_metrics(self) -> dict[str, Any]:
        """Return the counts since the start or the last reset, and how much there is now.

        ``registration_count``, ``unregistration_count``, ``lookup_count``, ``tree_traversal_count``,
        ``cleanup_count``, ``max_concurrent_children`` (of one run), ``max_depth_seen``; ``active_parents``,
        ``active_children``, ``total_relationships``.
        """
        with self._lock:
            return {
                **self._counts,
                "active_parents": len(self._children),
                "active_children": len(self._parents),
                "total_relationships": sum(map(len, self._children.values())),
            }

    async def reset_metrics(self) -> None:
        """Count from 0 again; what runs is not forgotten."""
        with self._lock:
            self._counts = dict.fromkeys(_COUNTERS, 0)

    def _above(self, run_id: UUID) -> Iterator[UUID]:
        while (parent := self._parents.get(run_id)) is not None:
            yield parent
            run_id = parent

    def _unlink(self, parent: UUID, child: UUID) -> None:
        del self._parents[child]
        children = self._children[parent]
        del children[child]
        if not children:
            del self._children[parent]

    def _most(self, counter: str, value: int) -> None:
        self._counts[counter] = max(self._counts[counter], value)


def _check_id(method: str, argument: str, value: object) -> None:
    """Refuse what is no id. None is one of which nothing is known: a context may have no run."""
    check_type(f"ChildRunTracker.{method}", argument, value, (UUID, type(None)), "a UUID")


_current: Current[ChildRunTracker] = Current("stageflow_child_tracker", ChildRunTracker)


def get_child_tracker() -> ChildRunTracker:
    """Return the current tracker: the one set in this context, else the one of the running event loop.

    Every event loop has one of its own, which goes with it. Where no loop runs, a new one is set, so that loops started
    from there have it.

    ```python
    from stageflow.pipeline.subpipeline import clear_child_tracker, get_child_tracker

    print(get_child_tracker() is get_child_tracker())
    #> True
    clear_child_tracker()
    ```
    """
    return _current.get()


def set_child_tracker(tracker: ChildRunTracker) -> None:
    """Make *tracker* the current one in this context and those copied from it.

    Raises:
        ArgumentTypeError: It is no ``ChildRunTracker``.

    ```python
    from stageflow.pipeline.subpipeline import (
        ChildRunTracker,
        clear_child_tracker,
        get_child_tracker,
        set_child_tracker,
    )

    mine = ChildRunTracker()
    set_child_tracker(mine)
    print(get_child_tracker() is mine)
    #> True
    clear_child_tracker()
    print(get_child_tracker() is mine)
    #> False
    clear_child_tracker()
    ```
    """
    check_type("set_child_tracker", "tracker", tracker, ChildRunTracker, "a ChildRunTracker")
    _current.set(tracker)


def clear_child_tracker() -> None:
    """Forget the tracker set in this context, and the one of the running event loop.

    ```python
    from stageflow.pipeline.subpipeline import (
        ChildRunTracker,
        clear_child_tracker,
        get_child_tracker,
        set_child_tracker,
    )

    mine = ChildRunTracker()
    set_child_tracker(mine)
    print(get_child_tracker() is mine)
    #> True
    clear_child_tracker()
    print(get_child_tracker() is mine)
    #> False
    clear_child_tracker()
    ```
    """
    _current.clear()
