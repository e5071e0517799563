"""``Folder``: tools that list, read and write the text files of one folder, and of nothing outside of it."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, final

from stageflow import Effect

from stageflow_tools.context import ToolContext  # noqa: TC001 - the tool's annotation is read at run time
from stageflow_tools.function_tool import FunctionTool
from stageflow_tools.output import ToolOutput

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path


__all__ = ["Folder"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LISTED: Final = 1_000


@final
class Folder:
    """The text files of one folder, as the tools ``list_files``, ``read_file`` and ``write_file``.

    A path is relative to the folder, and each of its parts is opened below the one before without following links: so
    no name, and nothing that others put there meanwhile, leads out. A write replaces the whole file, and can be undone.

    Args:
        path: The folder, which is there.
        max_bytes: How large a file may be that is read or written.
        read_only: Whether there is no ``write_file``.

    Raises:
        NotADirectoryError: It is no folder.

    ```python
    import asyncio
    import tempfile

    from stageflow_tools import ToolCall, ToolExecutor, ToolRegistry
    from stageflow_tools.builtin import Folder


    async def main(path):
        tools = ToolExecutor(registry=ToolRegistry(*Folder(path).tools))
        await tools.execute(ToolCall("write_file", {"path": "notes/moon.txt", "text": "It is far."}))
        print((await tools.execute(ToolCall("list_files"))).data["files"])
        output = await tools.execute(ToolCall("read_file", {"path": "../secret"}))
        print(output.error)


    with tempfile.TemporaryDirectory() as path:
        asyncio.run(main(path))
    #> ['notes/moon.txt']
    #> '../secret' is no path inside the folder
    ```
    """

    def __init__(self, path: Path | str, *, max_bytes: int = 1_000_000, read_only: bool = False) -> None:
        self._root = os.fspath(path)
        self._max_bytes = max_bytes
        self._read_only = read_only
        if not os.path.isdir(self._root):  # noqa: PTH112 - a str here
            msg = f"{self._root} is no folder"
            raise NotADirectoryError(msg)

    @property
    def tools(self) -> tuple[FunctionTool[..., Any], ...]:
        """The tools, for a registry."""
        look = (
            FunctionTool(self.list_files, effect=Effect.NONE),
            FunctionTool(self.read_file, effect=Effect.NONE),
        )
        if self._read_only:
            return look
        write = FunctionTool(self.write_file, undoable=True, undo_handler=self.undo_write)
        return (*look, write)

    def list_files(self) -> ToolOutput:
        """List the files of the folder and of those inside of it."""
        found: list[str] = []
        for folder, folders, files, _ in os.fwalk(self._root, follow_symlinks=False):
            folders.sort()
            inside = os.path.relpath(folder, self._root)
            for name in sorted(files):
                if len(found) == _MOST_LISTED:
                    return ToolOutput.ok({"files": found, "more": True})
                found.append(name if inside == "." else os.path.join(inside, name))  # noqa: PTH118 - a str here
        return ToolOutput.ok({"files": found, "more": False})

    def read_file(self, path: str) -> ToolOutput:
        """Read a text file.

        Args:
            path: Where it is, relative to the folder.
        """
        try:
            with self._parent_of(path) as (folder, name):
                text = self._read(folder, name)
        except (OSError, ValueError) as exc:
            return _refused(path, exc)
        return ToolOutput.ok({"path": path, "text": text})

    def write_file(self, path: str, text: str, ctx: ToolContext) -> ToolOutput:
        """Write a text file, in place of the one that is there.

        Args:
            path: Where it is, relative to the folder. Folders that are not there are made.
            text: What is to be in it.
            ctx: The call.
        """
        if (size := len(text.encode())) > self._max_bytes:
            return ToolOutput.fail(f"The text has {size:,} bytes, and may have {self._max_bytes:,}")
        try:
            with self._parent_of(path, make=True) as (folder, name):
                before: str | None = None
                with suppress(FileNotFoundError):
                    before = self._read(folder, name)
                ctx.keep_for_undo(path=path, before=before)
                self._replace(folder, name, text)
        except (OSError, ValueError) as exc:
            ctx.undo_metadata = None  # it was not written
            return _refused(path, exc)
        return ToolOutput.ok({"path": path, "bytes": size})

    async def undo_write(self, undo_metadata: Mapping[str, Any]) -> None:
        """Put back what was in a file before it was written, or remove it if there was none."""
        from stageflow.executors import run_in_thread

        def undo() -> None:
            with self._parent_of(undo_metadata["path"]) as (folder, name):
                if undo_metadata["before"] is None:
                    with suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                else:
                    self._replace(folder, name, undo_metadata["before"])

        await run_in_thread(undo)

    @contextmanager
    def _parent_of(self, path: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """Open the folder that a path names a file in, step by step.

        Raises:
            ValueError: It leads out of the folder, or names nothing in it.
            OSError: A part of it is not there, or is a link.
        """
        parts = path.split("/")
        if path.startswith("/") or "\0" in path or not all(parts) or {".", ".."} & set(parts):
            msg = f"{path!r} is no path inside the folder"
            raise ValueError(msg)
        folder = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=folder)
                below = os.open(part, _DIRECTORY, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, parts[-1]
        finally:
            os.close(folder)

    def _read(self, folder: int, name: str) -> str:
        # Not to wait for whoever is at the other end, if it is a pipe.
        number = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                msg = f"{name!r} is no file"
                raise ValueError(msg)
            content = file.read(self._max_bytes + 1)
        if len(content) > self._max_bytes:
            msg = f"{name!r} is larger than {self._max_bytes:,} bytes"
            raise ValueError(msg)
        try:
            return content.decode()
        except UnicodeDecodeError as exc:
            msg = f"{name!r} is no text in UTF-8"
            raise ValueError(msg) from exc

    def _replace(self, folder: int, name: str, text: str) -> None:
        beside = f".{token_hex(8)}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        number = os.open(beside, flags, 0o666, dir_fd=folder)
        try:
            with os.fdopen(number, "w", encoding="utf-8", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(number)
            os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=folder)
            raise


def _refused(path: str, error: OSError | ValueError) -> ToolOutput:
    if isinstance(error, OSError):
        return ToolOutput.fail(f"{path!r}: {error.strerror or type(error).__name__}")
    return ToolOutput.fail(str(error))
