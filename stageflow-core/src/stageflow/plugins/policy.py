"""``PluginPolicy``: which plugins may be imported, decided from names alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from stageflow.errors import close_matches
from stageflow.plugins.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.provenance import Provenance

__all__ = ["ALLOW_VARIABLE", "DENY_VARIABLE", "Denial", "PluginPolicy", "keep_one"]

ALLOW_VARIABLE: Final = "STAGEFLOW_PLUGINS"
"""The environment variable that lists the only plugins to load; empty for none."""

DENY_VARIABLE: Final = "STAGEFLOW_DISABLED_PLUGINS"
"""The environment variable that lists plugins not to load; ``*`` for all."""

_ALL: Final = "*"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Denial:
    """Why a plugin is not imported, and what would change that."""

    reason: str
    fix: str


@dataclass(frozen=True, slots=True)
class _Names:
    """A list of names, and where it was written."""

    names: tuple[str, ...]
    source: str

    def match(self, candidate: Candidate) -> str | None:
        known = (_ALL, canonical(candidate.name), canonical(candidate.distribution))
        return next((name for name in self.names if name == _ALL or canonical(name) in known), None)


@final
class PluginPolicy:
    """Says no to plugins before anything of theirs is imported.

    Plugins are named by their own name or by their distribution's. Being denied anywhere is final; an
    allow-list in the environment replaces the configured one. The built-in plugin is not asked about.

    Args:
        enabled: The configured allow-list; None for everybody.
        disabled: The configured deny-list; ``*`` for all.
        enabled_in: Where the allow-list was written, for messages.
        disabled_in: The same of the deny-list.
        environ: Where to read ``STAGEFLOW_PLUGINS`` and ``STAGEFLOW_DISABLED_PLUGINS``; None for the
            process's environment, ``{}`` for nowhere.

    ```python
    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.provenance import Provenance
    from stageflow.plugins.policy import PluginPolicy

    acme = Candidate(name="acme", module="acme.plugin", distribution="stageflow-acme", version="1.2")
    denial = PluginPolicy(environ={"STAGEFLOW_DISABLED_PLUGINS": "stageflow-acme"}).denial(acme)
    print(denial.reason)
    #> STAGEFLOW_DISABLED_PLUGINS lists 'stageflow-acme'
    ```
    """

    __slots__ = ("_allow", "_deny")

    def __init__(
        self,
        *,
        enabled: Iterable[str] | None = None,
        disabled: Iterable[str] = (),
        enabled_in: str = "plugins.enabled",
        disabled_in: str = "plugins.disabled",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        self._allow: _Names | None = None
        if ALLOW_VARIABLE in environ:
            self._allow = _Names(_split(environ[ALLOW_VARIABLE]), ALLOW_VARIABLE)
        elif enabled is not None:
            self._allow = _Names(_split(enabled), enabled_in)
        self._deny = (
            _Names(_split(environ.get(DENY_VARIABLE, "")), DENY_VARIABLE),
            _Names(_split(disabled), disabled_in),
        )

    def denial(self, candidate: Candidate) -> Denial | None:
        """Return why *candidate* must not be imported, or None where it may be."""
        for names in self._deny:
            match = names.match(candidate)
            if match is not None:
                return Denial(
                    reason=f"{names.source} lists {match!r}", fix=f"Take {match!r} out of {names.source}"
                )
        if self._allow is None or self._allow.match(candidate) is not None:
            return None
        listed = ", ".join(map(repr, self._allow.names)) or "nothing"
        return Denial(
            reason=f"{self._allow.source} allows {listed}",
            fix=f"Add {candidate.name!r} to {self._allow.source}",
        )

    def unknown_names(self, candidates: Iterable[Candidate]) -> tuple[str, ...]:
        """Return a sentence for each listed name that no candidate has, with close matches."""
        known = dict.fromkeys(name for c in candidates for name in (c.name, c.distribution))
        spellings = {canonical(name) for name in known} | {_ALL}
        sentences: list[str] = []
        for names in self._deny if self._allow is None else (self._allow, *self._deny):
            for name in names.names:
                if canonical(name) not in spellings:
                    what = f"{names.source} lists {name!r}, but no such plugin or distribution is installed."
                    sentences.append(f"{what} {close_matches(name, known)}".rstrip())
        return tuple(sentences)


def keep_one(claimants: Iterable[Provenance]) -> str:
    """Return the two ways out of a conflict, the environment and the configuration, for a message."""
    distribution = [*claimants][-1].distribution
    return (
        f"Keep one: set {DENY_VARIABLE}={distribution}, or list {distribution!r} under plugins.disabled in the "
        "configuration; or do so with the other"
    )


def _split(names: Iterable[str]) -> tuple[str, ...]:
    """Trim the names; a plain string is a comma-separated list, as it is in the environment."""
    parts = names.split(",") if isinstance(names, str) else names
    return tuple(dict.fromkeys(stripped for part in parts if (stripped := part.strip())))
