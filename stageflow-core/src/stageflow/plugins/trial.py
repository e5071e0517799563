"""Trials: import each plugin in an interpreter of its own, where it can do no harm, and say what it did.

Whatever a module does while it is imported, it does to the program that imports it: it can wait forever, end
the process, or change the core under everybody's feet. In a trial it does so to a process that nobody needs,
and that has a time limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.plugins.loading import cure, disable, load_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.errors import PluginLoadError
    from stageflow.plugins.discovery import Candidate

__all__ = ["Trial", "try_imports"]

_WORKER: Final = str(Path(__file__).with_name("trial_worker.py"))
_START: Final = 20.0  # seconds that an interpreter may take to start, on however busy a machine
_SAID: Final = 200  # characters of a plugin's output
_FRAME: Final = re.compile(r'^  File "([^"]+)", line (\d+) in ', re.MULTILINE)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What the import of one plugin did to an interpreter that had loaded nothing but the hooks."""

    candidate: Candidate

    seconds: float | None = None
    """How long the import took; None where it did not come to its end."""

    modules: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many modules it imported, by their top-level package, most first."""

    effects: tuple[str, ...] = ()
    """What it did besides, each as *"changes the environment variable 'X'"*."""

    patches: tuple[str, ...] = ()
    """What of the core is something else since."""

    fatal: PluginLoadError | None = None
    """Why the plugin must not be imported where it could do harm; None where it may be."""


async def try_imports(candidates: Iterable[Candidate], *, limit: float, parallel: int = 0) -> list[Trial]:
    """Import each plugin in a process of its own and ask it for its hooks; none is left when this returns.

    Args:
        candidates: The plugins.
        limit: How long one may take, in seconds.
        parallel: How many processes there may be at once; 0 for one per processor.
    """
    places = asyncio.Semaphore(parallel or os.cpu_count() or 1)

    async def one(candidate: Candidate, folder: str) -> Trial:
        async with places:
            return await _try_import(candidate, Path(folder), limit)

    with TemporaryDirectory(prefix="stageflow-trial-", ignore_cleanup_errors=True) as folder:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(one(candidate, mkdtemp(prefix="stageflow-", dir=folder)))
                for candidate in candidates
            ]
    return [task.result() for task in tasks]


async def _try_import(candidate: Candidate, folder: Path, limit: float) -> Trial:
    request = {
        "path": sys.path,
        "module": candidate.module,
        "plugin": candidate.name,
        "folder": str(folder),
        "limit": limit,
    }
    with (folder / "output").open("wb") as output:
        # Files and not pipes: a process that the plugin has started would keep a pipe open. -P: the folder of
        # the worker is no place to import from.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-u", "-P", _WORKER, json.dumps(request)),
            stdin=DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        overdue = False
        try:
            async with asyncio.timeout(limit + _START):
                await process.wait()
        except TimeoutError:
            overdue = True
        finally:
            await _end(process)
    result: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        result = json.loads((folder / "result").read_text("utf-8"))
    if result and not overdue:
        return _finished(candidate, folder, result)
    return Trial(
        candidate=candidate, fatal=_fatal(candidate, folder, process.returncode, limit, overdue=overdue)
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process with all that it has started, and wait for it."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        elif process.returncode is None:
            process.kill()
    await process.wait()


def _finished(candidate: Candidate, folder: Path, result: Mapping[str, Any]) -> Trial:
    said = " ".join((folder / "output").read_text("utf-8", "replace").split())
    effects: list[str] = result["effects"]
    if said and not result["failed"]:  # a failure's own words are in what the host says of it
        effects = [f"prints {said[:_SAID]!r}{'' if len(said) <= _SAID else '...'}", *effects]
    fatal = None
    if result["interrupted"]:
        what = f"{result['interrupted']} raised KeyboardInterrupt"
        fatal = load_error(candidate, what, fix=cure(candidate))
    return Trial(
        candidate=candidate,
        seconds=result["seconds"],
        modules=dict(sorted(result["modules"].items(), key=lambda pair: (-pair[1], pair[0]))),
        effects=tuple(effects),
        patches=tuple(result["patches"]),
        fatal=fatal,
    )


def _fatal(
    candidate: Candidate, folder: Path, code: int | None, limit: float, *, overdue: bool
) -> PluginLoadError:
    doing = f"Importing {candidate.module!r}"
    with suppress(OSError):
        doing = (folder / "doing").read_text("utf-8") or doing
    frames = ""
    with suppress(OSError):
        frames = (folder / "frames").read_text("utf-8", "replace")
    if frames or overdue:
        place = _waiting_in(frames)
        what = f"{doing} did not end within {limit:g} s{f'; it waits in {place}' if place else ''}"
        fix = f"Allow it more with --import-timeout if it is only slow, or {disable(candidate)}"
    elif code is not None and code < 0:
        what = f"{doing} killed the process with {signal.Signals(-code).name}"
        fix = cure(candidate)
    else:
        what = f"{doing} ended the process with exit code {code}, without a word"
        fix = cure(candidate)
    return load_error(candidate, what, fix=fix)


def _waiting_in(frames: str) -> str:
    """Return the line that waits, the innermost that is not of Python itself."""
    library = f"{os.path.dirname(os.__file__)}{os.sep}"  # noqa: PTH120 - compared as text, as the frames have it
    for file, line in _FRAME.findall(frames):
        if not file.startswith("<") and (not file.startswith(library) or "site-packages" in file):
            return f"{Path(file).name}:{line}"
    return ""
