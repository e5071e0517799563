"""``Configuration``: what files, environment and code say, to be read section by section."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, final

from stageflow.config.environment import Environment
from stageflow.config.files import find_files, read_file
from stageflow.config.layers import Layer, Merged
from stageflow.config.origin import Origin, OriginKind
from stageflow.config.problems import VALUE_CODE, SettingsError, SettingsProblem
from stageflow.config.section import Section, read_section
from stageflow.errors import ConfigurationError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from pydantic import BaseModel

    from stageflow.config.files import ConfigFile

__all__ = ["Configuration"]

_M = TypeVar("_M", bound="BaseModel")


@final
class Configuration:
    """What files, environment and code say, to be read section by section.

    From the weakest to the strongest:

    1. the defaults of a section's model,
    2. ``[tool.stageflow]`` of the nearest ``pyproject.toml``,
    3. the nearest ``stageflow.toml``,
    4. the environment, ``STAGEFLOW_<SECTION>__<KEY>``,
    5. code.

    Tables are merged key by key; everything else, lists too, is replaced whole. Made directly, it holds what code says
    and nothing else; ``find`` and ``load`` read the rest.

    Args:
        values: What code says: for each section its keys.

    Raises:
        ConfigurationError: *values* is no mapping, or the name of a section no str.

    ```python
    from pydantic import BaseModel, SecretStr
    from stageflow.config import Configuration


    class AcmeSettings(BaseModel):
        retries: int = 3
        token: SecretStr


    config = Configuration({"acme": {"token": "swordfish"}})
    for setting in config.section("acme", AcmeSettings).settings:
        print(setting.path, setting.value, setting.origin)
    #> acme.retries 3 default
    #> acme.token ********** code
    ```
    """

    __slots__ = ("_code", "_environment", "_files")

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        if values is not None and not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            what = f"A configuration cannot be made of a {type(values).__name__}"
            raise ConfigurationError(what, fix='Pass a mapping of sections, as {"acme": {"retries": 3}}')
        if values is not None and not all(isinstance(name, str) for name in values):  # pyright: ignore[reportUnnecessaryIsInstance]
            what = (
                f"A configuration has sections {', '.join(map(shown, values))}, whose names are not all texts"
            )
            raise ConfigurationError(what, fix="Name each section by a str")
        self._code = Layer({} if values is None else dict(values), Origin(kind=OriginKind.CODE))
        self._environment = Environment({})
        self._files: tuple[ConfigFile, ...] = ()

    @classmethod
    def find(
        cls,
        values: Mapping[str, Any] | None = None,
        *,
        folder: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the nearest files and the environment. What is wrong with a file is an error when a section is read.

        Args:
            values: What code says.
            folder: Where to look first, and then in the folders above; the working directory by default.
            environ: The environment; that of the process by default.
        """
        config = cls(values)
        config._environment = Environment(os.environ if environ is None else environ)
        config._files = find_files(_absolute(folder or os.curdir))
        return config

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str],
        values: Mapping[str, Any] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read one file, in place of those that ``find`` would find, and the environment.

        Args:
            file: The file; of a ``pyproject.toml`` the table ``[tool.stageflow]``.
            values: What code says.
            environ: The environment; that of the process by default.
        """
        config = cls(values)
        config._environment = Environment(os.environ if environ is None else environ)
        config._files = (read_file(_absolute(file)),)
        return config

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that take part, the strongest first."""
        return tuple(file.path for file in reversed(self._files))

    @property
    def project(self) -> Path | None:
        """The folder of the ``stageflow.toml``; None where there is none."""
        named = [file.path for file in self._files if file.kind is OriginKind.FILE]
        return named[0].parent if named else None

    @property
    def problems(self) -> tuple[SettingsProblem, ...]:
        """What is wrong with the files as such."""
        return tuple(file.problem for file in self._files if file.problem is not None)

    @property
    def sections(self) -> Mapping[str, Origin]:
        """Each section that something is said about, with where; those of the environment in lower case."""
        found: dict[str, Origin] = {}
        for layer in (*self._layers(), self._code):
            for name in layer.tree:
                found[name] = layer.origin_of((name,))
        return {**self._environment.sections(), **found}

    def mentions(self, section: str) -> bool:
        """Say whether anything is said about a section, or about one within it.

        ```python
        from stageflow.config import Configuration

        print(Configuration({"acme": {"cache": {"size": 3}}}).mentions("acme.cache"))
        #> True
        ```
        """
        path = tuple(section.split("."))
        return any(
            _has(layer.tree, path) for layer in (*self._layers(), self._code)
        ) or self._environment.mentions(path)

    def section(self, name: str, model: type[BaseModel], *, inner: Iterable[str] = ()) -> Section:
        """Read a section through its model; what is wrong is in the result.

        Args:
            name: The section, ``acme``, or ``acme.cache`` for one within it.
            model: Its pydantic model.
            inner: Sections within this one that have models of their own.
        """
        environment, problems = self._environment.layer(tuple(name.split(".")), model)
        try:
            merged = Merged([*self._layers(), environment, self._code])
            return read_section(name, model, merged, inner=inner, problems=problems)
        except RecursionError:
            message = f"Section {name!r} cannot be read: something in it is nested too deeply"
            fix = "Keep data elsewhere: it is for settings"
            return Section(
                name, None, (), [SettingsProblem(code=VALUE_CODE, message=message, fix=fix, path=name)]
            )

    def read(self, name: str, model: type[_M], *, inner: Iterable[str] = ()) -> _M:
        """Return a section as an instance of its model; see ``section`` for the arguments.

        Raises:
            SettingsError: Something is wrong with it, or with a file.
        """
        section = self.section(name, model, inner=inner)
        if self.problems:
            raise SettingsError([*self.problems, *section.problems])
        return cast("_M", section.values)

    def __repr__(self) -> str:
        # No values: some of them are secrets.
        files = [str(path) for path in self.files]
        return f"<Configuration of {', '.join(map(shown, self.sections)) or 'nothing'}, files {files!r}>"

    def _layers(self) -> Iterator[Layer]:
        """Yield the layers of the files, the weakest first."""
        for file in self._files:
            if file.layer is not None:
                yield file.layer


def _absolute(path: str | os.PathLike[str]) -> Path:
    # Not resolve(): beside a link stands the project that the link is in, not what it points to.
    try:
        return Path(os.path.abspath(path))  # noqa: PTH100 - absolute() leaves ".." in it
    except OSError:  # the working directory is gone
        return Path(path)


def _has(tree: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    value: Any = tree
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = cast("Mapping[str, Any]", value)[part]
    return True
