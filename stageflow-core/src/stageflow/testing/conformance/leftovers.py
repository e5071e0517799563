"""What a process holds beside its event loop: threads, child processes, descriptors, and runs that have ended."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final
from uuid import UUID, uuid4

from stageflow.context.snapshot import ContextSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Holdings", "kept_runs", "of_a_new_run"]


@final
class Holdings(NamedTuple):
    """What the process holds at one moment.

    Attributes:
        threads: The threads that are alive.
        processes: The ids of its child processes, where the system lists them.
        descriptors: How many files, sockets and pipes are open, where the system lists them.

    ```python
    from stageflow.testing.conformance.leftovers import Holdings

    before = Holdings.now()
    print(Holdings.now().beyond(before))
    #> []
    ```
    """

    threads: frozenset[threading.Thread]
    processes: frozenset[int]
    descriptors: int

    @classmethod
    def now(cls) -> Holdings:
        """Look, after the garbage is collected."""
        gc.collect()
        threads = frozenset(one for one in threading.enumerate() if one.is_alive())
        processes: set[int] = set()
        for path in Path("/proc/self/task").glob("*/children"):
            processes.update(map(int, path.read_text("ascii").split()))
        folder = Path("/proc/self/fd")
        descriptors = len(list(folder.iterdir())) if folder.exists() else 0
        return cls(threads, frozenset(processes), descriptors)

    def beyond(self, before: Holdings) -> list[str]:
        """Return in words what is held now and was not *before*."""
        more = [f"thread {one.name!r}" for one in self.threads - before.threads]
        more += [f"child process {one}" for one in sorted(self.processes - before.processes)]
        if self.descriptors > before.descriptors:
            more.append(f"{self.descriptors - before.descriptors} open files, sockets or pipes")
        return sorted(more)


def kept_runs(run_ids: Iterable[UUID | None]) -> list[UUID]:
    """Return those of the runs whose snapshots somebody still holds, after the garbage is collected."""
    wanted = {one for one in run_ids if one is not None}
    gc.collect()
    alive = {one.pipeline_run_id for one in gc.get_objects() if type(one) is ContextSnapshot}
    return sorted(wanted & alive)


def of_a_new_run(snapshot: ContextSnapshot[Any]) -> ContextSnapshot[Any]:
    """Return a copy of a run that nobody can hold yet, whatever a test before has left."""
    return snapshot.with_run_id(snapshot.run_id.with_pipeline_run_id(uuid4()))
