"""``stageflow plugins disable`` and ``enable``: whether a plugin is loaded, written into the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

import click

from stageflow.cli import options
from stageflow.cli.document import Document
from stageflow.cli.jsonable import dump
from stageflow.cli.output import put
from stageflow.cli.program import FAILED, OK
from stageflow.config.files import FILE_NAME
from stageflow.config.origin import OriginKind, shown_path
from stageflow.config.sections import PluginsSettings
from stageflow.errors import ConfigurationError, ContributionNotFoundError, close_matches
from stageflow.plugins.discovery import discover, local_plugin
from stageflow.plugins.names import canonical
from stageflow.plugins.policy import PluginPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stageflow.cli.session import Session
    from stageflow.config import Origin
    from stageflow.plugins.discovery import Candidate

__all__ = ["disable", "enable"]

_ALL: Final = "*"


@click.command("disable")
@click.argument("name")
@options.as_json
@options.verbose
@click.pass_obj
def disable(session: Session, name: str) -> int:
    """Let the plugin NAME not be loaded any more: list it under plugins.disabled.

    The nearest stageflow.toml is edited, and keeps its comments; if there is none, one is made in the current folder.
    NAME is a plugin or a distribution.
    """
    lists = _Lists(session)
    found = _candidates(lists, name)
    if not lists.holds("disabled", found):
        lists.put("disabled", [*lists.values.disabled, name])
    return _told(session, lists, found, wanted="disabled")


@click.command("enable")
@click.argument("name")
@options.as_json
@options.verbose
@click.pass_obj
def enable(session: Session, name: str) -> int:
    """Let the plugin NAME be loaded again: take it out of plugins.disabled.

    If there is a list plugins.enabled, it is added to that. NAME is a plugin or a distribution.
    """
    lists = _Lists(session)
    found = _candidates(lists, name)
    if _ALL in lists.values.disabled:
        msg = f"Plugin {name!r} cannot be enabled alone: plugins.disabled lists '*' ({lists.origins['disabled']})"
        raise ConfigurationError(
            msg, fix="List the plugins that are to be disabled instead, or those under plugins.enabled"
        )
    if lists.holds("disabled", found):
        spellings = _spellings(found)
        lists.put("disabled", [one for one in lists.values.disabled if canonical(one) not in spellings])
    if lists.values.enabled is not None and not lists.holds("enabled", found):
        lists.put("enabled", [*lists.values.enabled, name])
    return _told(session, lists, found, wanted="enabled")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class _Edit:
    """A list that was written, and where."""

    key: str
    path: Path


@final
class _Lists:
    """The two lists of ``[plugins]``, as they are, and as they become."""

    def __init__(self, session: Session) -> None:
        self._config = session.config
        section = self._config.section("plugins", PluginsSettings)
        self._config.read("plugins", PluginsSettings)  # raises what is wrong with files, too
        values: Any = section.values
        self.values: PluginsSettings = values
        self.origins: dict[str, Origin] = {one.path.partition(".")[2]: one.origin for one in section.settings}
        self.edits: list[_Edit] = []
        self.after: dict[str, Sequence[str] | None] = {
            "enabled": self.values.enabled,
            "disabled": self.values.disabled,
        }

    @property
    def project(self) -> Path | None:
        """The folder of the ``stageflow.toml``."""
        return self._config.project

    def holds(self, key: str, candidates: Iterable[Candidate]) -> bool:
        """Say whether a list names a plugin, by any of its names."""
        names = {canonical(name) for name in self.after[key] or () if name != _ALL} | {
            name for name in self.after[key] or () if name == _ALL
        }
        return _ALL in names or not _spellings(candidates).isdisjoint(names)

    def put(self, key: str, names: Sequence[str]) -> None:
        """Write a list to where it stands already, or to the nearest ``stageflow.toml``."""
        origin = self.origins[key]
        if origin.kind is OriginKind.ENVIRONMENT:
            msg = f"plugins.{key} is set by {origin.variable}, which is stronger than any file"
            raise ConfigurationError(msg, fix=f"Unset {origin.variable}, or change it")
        path = origin.file or self._file()
        document = Document(path)
        document.put("plugins", key, names)
        document.save()
        self.after[key] = names
        self.edits.append(_Edit(key=key, path=path))

    def _file(self) -> Path:
        return next(iter(self._config.files), Path.cwd() / FILE_NAME)


def _candidates(lists: _Lists, name: str) -> list[Candidate]:
    """Return the installed plugins of that name, or of the distribution of that name.

    Raises:
        ContributionNotFoundError: There is none.
    """
    local = None if lists.project is None else local_plugin(lists.project, lists.values.local)
    known = [*discover(), *([] if local is None else [local])]
    found = [one for one in known if canonical(name) in (canonical(one.name), canonical(one.distribution))]
    if not found:
        names = dict.fromkeys(name for one in known for name in (one.name, one.distribution))
        msg = f"No plugin or distribution is named {name!r}"
        raise ContributionNotFoundError(
            msg, fix=close_matches(name, names) or "'stageflow plugins list' shows what is installed"
        )
    return found


def _spellings(candidates: Iterable[Candidate]) -> set[str]:
    return {canonical(name) for one in candidates for name in (one.name, one.distribution)}


def _told(session: Session, lists: _Lists, candidates: Sequence[Candidate], *, wanted: str) -> int:
    """Say what was written, and whether it has the effect that was wanted."""
    policy = PluginPolicy(enabled=lists.after["enabled"], disabled=lists.after["disabled"] or ())
    denials = [policy.denial(one) for one in candidates]
    obstacle = next((one for one in denials if one is not None), None) if wanted == "enabled" else None
    names = " and ".join(str(one.provenance) for one in candidates)
    if session.as_json:
        record = {
            "plugins": [one.name for one in candidates],
            "state": "disabled" if any(denials) else "enabled",
            "changed": bool(lists.edits),
            "files": sorted({str(edit.path) for edit in lists.edits}),
        }
        put(dump(record if obstacle is None else record | {"reason": obstacle.reason, "fix": obstacle.fix}))
        return OK if obstacle is None else FAILED
    for edit in lists.edits:
        put(f"Wrote plugins.{edit.key} to {shown_path(edit.path)}.")
    state = f"{names[:1].upper()}{names[1:]} is {'' if lists.edits else 'already '}{wanted}."
    if obstacle is None:
        put(state)
        return OK
    put(f"{names[:1].upper()}{names[1:]} is still disabled: {obstacle.reason}. What to do: {obstacle.fix}.")
    return FAILED
