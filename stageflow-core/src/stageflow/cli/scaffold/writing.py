"""``write_tree``: makes a folder with all its files, or leaves everything as it was."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, NoReturn

from stageflow.cli.files import OUTPUT_CODE, reason_of
from stageflow.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["check_free", "tree_of", "write_tree"]

_SHOWN: Final = 3


def check_free(folder: Path) -> None:
    """Find out whether a folder can be made.

    Args:
        folder: Where it is to be; the folder around it has to be there.

    Raises:
        ConfigurationError: There is something of that name; the error says what.
    """
    if not folder.parent.is_dir():
        what = f"There is no folder {str(folder.parent)!r} to make {folder.name!r} in"
        raise ConfigurationError(what, fix="Make it first, or name another --directory", code=OUTPUT_CODE)
    if os.path.lexists(folder):
        what = f"{str(folder)!r} is there already: {_described(folder)}"
        fix = "Nothing is ever overwritten: move it away, or take another name or --directory"
        raise ConfigurationError(what, fix=fix, code=OUTPUT_CODE)


def write_tree(folder: Path, texts: Mapping[str, str]) -> None:
    """Make a folder with files in it.

    They are written into a hidden folder beside it, which takes its place when all of them are there: whoever is
    interrupted, or finds the disk full, leaves nothing behind.

    Args:
        folder: The folder; there must be nothing of that name.
        texts: The files by their paths within it.

    Raises:
        ConfigurationError: It is there, or cannot be made.

    ```python
    from pathlib import Path

    from stageflow.cli.scaffold.writing import write_tree

    write_tree(Path("made"), {"src/one.py": "", "README.md": "# One"})
    print(sorted(path.name for path in Path("made").rglob("*")))
    #> ['README.md', 'one.py', 'src']
    ```
    """
    check_free(folder)
    try:
        with TemporaryDirectory(
            prefix=f".{folder.name}.", dir=folder.parent, ignore_cleanup_errors=True
        ) as hidden:
            built = Path(hidden) / folder.name  # within it: the hidden folder itself is closed to others
            for path, text in texts.items():
                file = built / path
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("x", encoding="utf-8", newline="\n") as opened:
                    opened.write(text)
            check_free(folder)
            built.rename(folder)
    except OSError as exc:
        _refuse(folder, exc)


def tree_of(folder: str, paths: Mapping[str, str]) -> str:
    """Return the files below a folder as a tree, to be read.

    ```python
    from stageflow.cli.scaffold.writing import tree_of

    print(tree_of("made", {"README.md": "", "src/one.py": "", "src/two.py": ""}))
    #> made/
    #> ├── README.md
    #> └── src/
    #>     ├── one.py
    #>     └── two.py
    ```
    """
    return "\n".join([f"{folder}/", *_branches([path.split("/") for path in sorted(paths)], "")])


def _branches(paths: list[list[str]], prefix: str) -> list[str]:
    names = dict.fromkeys(path[0] for path in paths)
    lines: list[str] = []
    for name in names:
        below = [path[1:] for path in paths if path[0] == name and len(path) > 1]
        last = name == list(names)[-1]
        lines.append(f"{prefix}{'└── ' if last else '├── '}{name}{'/' if below else ''}")
        lines += _branches(below, f"{prefix}{'    ' if last else '│   '}")
    return lines


def _described(path: Path) -> str:
    """Say what is at a path."""
    if path.is_symlink():
        return "a link"
    if not path.is_dir():
        return "a file"
    try:
        names = sorted(one.name for one in path.iterdir())
    except OSError as exc:
        return f"a folder that cannot be read ({reason_of(exc)})"
    if not names:
        return "an empty folder"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"a folder with {', '.join(map(repr, names[:_SHOWN]))}{more}"


def _refuse(folder: Path, error: OSError) -> NoReturn:
    what = f"Cannot make the folder {str(folder)!r}: {reason_of(error)}"
    fix = "See that there is room, and that you may write there; nothing was made"
    raise ConfigurationError(what, fix=fix, code=OUTPUT_CODE) from error
