"""Runs one block of Python out of a page or a docstring, alone, in an empty folder."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from stageflow.events import NoOpEventSink, clear_event_sink, get_event_sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_examples import CodeExample

ROOT = Path(__file__).resolve().parents[2]

_CHANGES = {"open", "os.mkdir", "os.rename", "os.symlink", "shutil.copyfile", "sqlite3.connect"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_written: list[str] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    """Note, while a block runs, what is written below the repository; caches of bytecode do not count."""
    if _written is None or event not in _CHANGES:
        return
    if event == "open" and not args[2] & _WRITING:
        return
    for path in args[:2]:
        if isinstance(path, str) and Path(path).is_relative_to(ROOT) and "__pycache__" not in path:
            _written.append(path)


sys.addaudithook(_watch)  # for as long as the process lives: Python has no way to take one back


@pytest.fixture
def run_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Callable[[CodeExample], None]]:
    """Return what runs a block, and fail if one leaves anything behind outside its folder.

    A block that needs libsndfile is skipped where there is none, as a test on a real component is.
    """
    global _written  # noqa: PLW0603 - the audit hook cannot be given anything
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STAGEFLOW_")]:
        monkeypatch.delenv(name)
    before = _environment()
    levels = {name: logging.getLogger(name).level for name in ("", *logging.root.manager.loggerDict)}
    for name in levels:  # as in a program that has not set up logging, whatever an earlier test has
        logging.getLogger(name).setLevel(logging.NOTSET if name else logging.WARNING)

    def run(example: CodeExample) -> None:
        # Not EvalExample.run: when the block raises, the traceback that it makes up breaks pytest's own report
        # (pytest-examples 0.0.18, pytest 9.2.0). The empty lines let the real one point into the page.
        source = "\n" * example.start_line + example.source
        code = compile(source, str(example.path), "exec", dont_inherit=True)
        module = ModuleType("__main__")  # where a program runs that is started by itself
        program = tmp_path.with_suffix(".py")  # where processes that it starts find what is in it
        program.write_text(source, "utf-8")
        module.__file__ = str(program)
        monkeypatch.setitem(sys.modules, "__main__", module)
        try:
            exec(code, module.__dict__)  # noqa: S102 - to run it is the job
        except Exception as error:
            if not _lacks_library(error):
                raise
            request.node.add_marker("real")
            pytest.skip(f"libsndfile does not load: {error}")

    _written = written = []
    try:
        yield run
    finally:
        _written = None
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    sink = get_event_sink()
    clear_event_sink()
    assert not written, "the block wrote into the repository"
    assert isinstance(sink, NoOpEventSink), "the block left an event sink set"
    assert _environment() == before, "the block left environment variables changed"


def _lacks_library(error: BaseException | None) -> bool:
    """Say whether an error, or one behind it, is that audio files cannot be read on this machine."""
    if error is None:
        return False
    ours, theirs = getattr(error, "code", "") == "SF-VOICE-LIBRARY", "libsndfile" in str(error)
    return ours or (isinstance(error, OSError) and theirs) or _lacks_library(error.__cause__)


def _environment() -> dict[str, str]:
    """Return the environment variables, without the one in which pytest says what it is doing."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
