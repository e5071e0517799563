"""What can go wrong with the workers of an executor."""

from __future__ import annotations

from stageflow.errors import ErrorClass, RunError, SystemicError, shown

__all__ = ["RemoteError", "WorkerLostError", "WorkerStartError"]


class WorkerLostError(SystemicError):
    """The process in which a stage ran has ended before the stage did. Worth another attempt, in a new process.

    Args:
        executor: The executor's name.
        stage: The stage.
        status: How the process ended, as ``exit status 3`` or ``signal SIGKILL``.
        pid: The process.

    ```python
    from stageflow.executors import WorkerLostError

    error = WorkerLostError("process", "resize", "signal SIGKILL", 4711)
    print(error.what, "-", error.error_class, error.retryable)
    #> Worker process 4711 has ended before its stage did: signal SIGKILL - systemic True
    ```
    """

    code = "SF-RUN-WORKER-LOST"

    def __init__(self, executor: str, stage: str, status: str, pid: int) -> None:
        self.executor = executor
        self.stage = stage
        self.status = status
        self.pid = pid
        super().__init__(
            f"Worker process {pid} has ended before its stage did: {status}",
            where=f"stage {shown(stage)}, executor {shown(executor)}",
            fix="Look for what ended it: the kernel when memory ran out, a crash in native code, os._exit(); "
            "another attempt gets a new process",
        )

    @property
    def retryable(self) -> bool:
        """True: the surroundings of one process are broken, and the next one has others."""
        return True


class WorkerStartError(SystemicError):
    """An executor needs a worker, and cannot start one.

    Args:
        executor: The executor's name.
        reason: Why not.

    ```python
    from stageflow.executors import WorkerStartError

    print(WorkerStartError("thread", "RuntimeError: can't start new thread").what)
    #> Executor 'thread' cannot start a worker: RuntimeError: can't start new thread
    ```
    """

    code = "SF-RUN-WORKER-START"

    def __init__(self, executor: str, reason: str) -> None:
        self.executor = executor
        self.reason = reason
        super().__init__(
            f"Executor {shown(executor)} cannot start a worker: {reason}",
            where=f"executor {shown(executor)}",
            fix="Free what is lacking (memory, processes, file descriptors), or lower max_workers; "
            "what a worker process said of itself is on its standard error",
        )


class RemoteError(RunError):
    """A stage in another process raised an exception that cannot be brought back; this one stands for it.

    Args:
        type_name: The type of that exception, as ``"acme.client.QuotaError"``.
        text: What it said.
        error_class: What kind of trouble it is.
        retryable: Whether the same may work if it is tried again.

    ```python
    from stageflow.executors import RemoteError

    print(RemoteError("acme.QuotaError", "no more today").what)
    #> acme.QuotaError: no more today
    ```
    """

    code = "SF-RUN-REMOTE"

    def __init__(
        self,
        type_name: str,
        text: str,
        error_class: ErrorClass = ErrorClass.PERMANENT,
        *,
        retryable: bool = False,
    ) -> None:
        self.type_name = type_name
        self.text = text
        self.error_class = error_class
        self.remote_retryable = retryable
        super().__init__(
            f"{type_name}: {text}",
            fix="Let the exception keep only what can be pickled, and pass its arguments to Exception.__init__",
        )

    @property
    def retryable(self) -> bool:
        """What the exception itself was."""
        return self.remote_retryable
