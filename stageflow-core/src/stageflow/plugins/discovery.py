"""Discovery: which plugins are installed, read from metadata alone.

Nothing here imports a plugin. The metadata of other people's packages is read with tolerance: one package
without a version, or with entry points that do not parse, costs nobody else their plugins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

import importlib_metadata

from stageflow.config.files import is_planted
from stageflow.plugins.markers import PROJECT
from stageflow.plugins.names import canonical
from stageflow.plugins.provenance import Provenance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CORE_DISTRIBUTION", "LOCAL_MODULE", "Candidate", "core_version", "discover", "local_plugin"]

CORE_DISTRIBUTION: Final = "stageflow-core"
"""The distribution that holds this module."""


LOCAL_MODULE: Final = "stageflow_plugin"
"""The module of a project's own plugin, beside its ``stageflow.toml``."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A plugin that is installed, before anybody has decided to import it.

    ```python
    from stageflow.plugins.discovery import Candidate

    candidate = Candidate(name="acme", module="acme.plugin", distribution="stageflow-acme", version="1.2")
    print(candidate.provenance)
    #> plugin 'acme' (stageflow-acme 1.2)
    ```
    """

    name: str
    """The name of the entry point, which is the plugin's name."""

    module: str
    """The module that the entry point names."""

    distribution: str
    """The distribution that registers the entry point."""

    version: str | None = None
    """The distribution's version, or None where its metadata states none."""

    builtin: bool = False
    """Whether it is the core's own plugin, which no policy concerns."""

    file: Path | None = None
    """The file of a project's own plugin; None for one that a distribution brings."""

    @property
    def provenance(self) -> Provenance:
        """The candidate, as the origin of what it contributes."""
        return Provenance(
            plugin=self.name,
            distribution=self.distribution,
            version=self.version,
            module=self.module,
            file="" if self.file is None else str(self.file),
        )

    @property
    def sort_key(self) -> tuple[str, str, str]:
        """What candidates are ordered by, so that no order depends on the file system."""
        return (canonical(self.distribution), self.name, self.module)


def discover(group: str = PROJECT) -> tuple[Candidate, ...]:
    """Return the installed plugins, in an order that does not depend on how they were installed.

    ```python
    from stageflow.plugins.discovery import discover

    print(discover(group="a group that nobody uses"))
    #> ()
    ```
    """
    candidates = (
        Candidate(
            name=point.name,
            module=point.value.strip(),
            distribution=_text(point.dist, "name") or "an unnamed distribution",
            version=_text(point.dist, "version"),
        )
        for point in _entry_points(group)
    )
    return tuple(sorted(candidates, key=lambda candidate: candidate.sort_key))


def local_plugin(folder: Path, name: str) -> Candidate | None:
    """Return a project's own plugin: the ``stageflow_plugin.py`` in its folder; None if there is none.

    Args:
        folder: The folder of the project's ``stageflow.toml``.
        name: What the plugin is called.

    ```python
    from pathlib import Path
    from stageflow.plugins.discovery import local_plugin

    print(local_plugin(Path("a folder that nobody has"), "project"))
    #> None
    ```
    """
    file = folder / f"{LOCAL_MODULE}.py"
    if not file.is_file() or is_planted(file):
        return None
    return Candidate(name=name, module=LOCAL_MODULE, distribution=f"project file {file}", file=file)


def core_version() -> str:
    """Return the version of ``stageflow-core``; ``"0+unknown"`` where it is not installed but on the path."""
    try:
        return importlib_metadata.version(CORE_DISTRIBUTION)
    except importlib_metadata.PackageNotFoundError:
        return "0+unknown"


def _entry_points(group: str) -> Iterator[importlib_metadata.EntryPoint]:
    try:
        # The library's own call drops stale second copies of one distribution's metadata, without reading
        # the metadata of those that it can tell apart by their folders (apache/airflow#25296).
        yield from importlib_metadata.entry_points(group=group)  # pyright: ignore[reportUnknownMemberType] - **params is untyped
    except Exception:  # noqa: BLE001 - any broken package on the path; then each is read on its own
        yield from _entry_points_one_by_one(group)


def _entry_points_one_by_one(group: str) -> Iterator[importlib_metadata.EntryPoint]:
    seen: set[str] = set()
    found = importlib_metadata.distributions()  # pyright: ignore[reportUnknownMemberType] - **kwargs is untyped
    for distribution in found:
        name = canonical(_text(distribution, "name") or "")
        if name in seen:
            continue
        seen.add(name)
        try:
            points = tuple(distribution.entry_points.select(group=group))
        except Exception:  # noqa: BLE001, S112 - what does not parse registers nothing; pip says more about it
            continue
        yield from points


def _text(distribution: object, attribute: str) -> str | None:
    """Read a field of metadata that may be missing, in any of the ways in which libraries say so."""
    try:
        value: object = getattr(distribution, attribute, None)
    except Exception:  # noqa: BLE001 - old releases of the library return None, new ones raise
        return None
    return value if isinstance(value, str) and value else None
