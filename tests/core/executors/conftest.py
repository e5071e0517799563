"""What the executors' tests share."""

from __future__ import annotations

import importlib
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from stageflow import ContextSnapshot, PipelineTimer, StageContext, StageInputs
from stageflow.context import RunIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of bodies, which worker processes find as this one does: on sys.path."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("executor_work")


@pytest.fixture
def make_ctx() -> Callable[..., StageContext]:
    """Return what makes a context that belongs to no run."""

    def make(sink: Any = None, **data: Any) -> StageContext:
        snapshot = ContextSnapshot(RunIdentity(UUID(int=5), org_id=UUID(int=6)), input_text="Ada")
        ctx = StageContext(snapshot, StageInputs(snapshot), "stage", PipelineTimer(), sink)
        ctx.scope.data.update(data)
        return ctx

    return make


class Program:
    """A Python program in a process of its own, which says on its standard output how far it is."""

    def __init__(self, folder: Path, source: str, *options: str, stdout: Any = subprocess.PIPE) -> None:
        path = folder / "program.py"
        path.write_text(source, "utf-8")
        command = [sys.executable, *options, str(path)]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[int, str, str]:
        """Wait for its end; return the status, what is left of its output, and what it said of errors."""
        out, err = self.process.communicate(timeout=15)
        return self.process.returncode, out or "", err


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Return what starts a program; one that is alive at the end is killed."""
    started: list[Program] = []

    def start(source: str, *options: str, **more: Any) -> Program:
        one = Program(tmp_path, f"import sys\nsys.path.insert(0, {str(HERE)!r})\n{source}", *options, **more)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGKILL)
        one.process.communicate()


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Return what waits until the process behind a pidfd has ended."""

    def wait(pidfd: int) -> bool:
        return bool(select.select([pidfd], [], [], 15)[0])

    return wait
