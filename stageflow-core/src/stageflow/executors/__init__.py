"""Where the body of a stage runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.executors.inline import InlineExecutor
    from stageflow.executors.process import ProcessExecutor
    from stageflow.executors.thread import run_in_thread
    from stageflow.executors.thread_pool import ThreadExecutor
    from stageflow.executors.unpicklable import UnpicklableError
    from stageflow.executors.worker_errors import RemoteError, WorkerLostError, WorkerStartError

__all__ = [
    "InlineExecutor",
    "ProcessExecutor",
    "RemoteError",
    "ThreadExecutor",
    "UnpicklableError",
    "WorkerLostError",
    "WorkerStartError",
    "run_in_thread",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "inline": ("InlineExecutor",),
            "process": ("ProcessExecutor",),
            "thread": ("run_in_thread",),
            "thread_pool": ("ThreadExecutor",),
            "unpicklable": ("UnpicklableError",),
            "worker_errors": ("RemoteError", "WorkerLostError", "WorkerStartError"),
        },
    )
