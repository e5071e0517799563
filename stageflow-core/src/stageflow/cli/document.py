"""``Document``: a TOML file that is edited as a person would, with its comments and its order left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast, final

from stageflow.cli.files import write_whole
from stageflow.config.files import PYPROJECT_NAME, TABLE, read_file
from stageflow.config.problems import SettingsError
from stageflow.extras import require_extra

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from pathlib import Path

__all__ = ["Document"]

_BOM: Final = "\ufeff"


@final
class Document:
    """One configuration file, or an empty one where there is none.

    Args:
        path: The file; of a ``pyproject.toml``, the table ``[tool.stageflow]`` is edited.

    Raises:
        SettingsError: There is a file, and it cannot be read.
        MissingExtraError: The library that edits TOML is not installed.
    """

    def __init__(self, path: Path) -> None:
        require_extra("cli", "tomlkit", feature="Editing a configuration file")
        import tomlkit

        text = ""
        if path.exists() or path.is_symlink():
            problem = read_file(path).problem
            if problem is not None:
                raise SettingsError([problem])
            # Bytes, because reading as text would change the ends of lines.
            text = path.read_bytes().decode("utf-8")
        self.path = path
        self._bom = text[:1] == _BOM
        self._document = tomlkit.parse(text.removeprefix(_BOM))

    def put(self, section: str, key: str, names: Sequence[str]) -> None:
        """Let a key be a list of names; one that is there keeps its layout and the comments of the names that stay.

        Args:
            section: The section; it is made if there is none.
            key: The key.
            names: What the list holds from now on.
        """
        table = self._table((*(TABLE if self.path.name == PYPROJECT_NAME else ()), section))
        found: Any = table.get(key)
        if not isinstance(found, list):
            table[key] = list(names)
            return
        items: list[Any] = found  # pyright: ignore[reportUnknownVariableType] - whatever it holds
        for index in reversed(range(len(items))):
            if items[index] not in names:
                del items[index]
        for name in names:
            if name not in items:
                items.append(name)

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            ConfigurationError: It cannot be written.
        """
        import tomlkit

        text = tomlkit.dumps(self._document)
        write_whole(self.path, f"{_BOM if self._bom else ''}{text}")

    def _table(self, path: Sequence[str]) -> MutableMapping[str, Any]:
        import tomlkit

        table = cast("MutableMapping[str, Any]", self._document)
        for part in path:
            if part not in table:
                table[part] = tomlkit.table()
            table = table[part]
        return table
