"""``LoadReport``: what became of each plugin, and why."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.errors import (
    ContributionConflictError,
    ContributionNotFoundError,
    PluginApiError,
    PluginError,
    close_matches,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.registry import Registry

__all__ = ["LoadReport", "PluginState", "PluginStatus", "sentence"]


@final
class PluginState(StrEnum):
    """The five things that can become of a plugin that is installed."""

    LOADED = "loaded"
    """Imported and registered; what it contributes is used."""

    DISABLED = "disabled"
    """Not imported, because a list of names says so."""

    INCOMPATIBLE = "incompatible"
    """Imported, but written for another hook API."""

    CONFLICTING = "conflicting"
    """It claims a name that somebody else claims too; neither gets it."""

    FAILED = "failed"
    """Its import, its hooks or what they returned broke the contract."""

    @property
    def predicate(self) -> str:
        """The state, as what is said of a plugin: ``is loaded``, ``has failed``."""
        return "has failed" if self is PluginState.FAILED else f"is {self.value}"


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class PluginStatus:
    """What became of one plugin."""

    candidate: Candidate
    state: PluginState
    reason: str
    """Why it is in this state, in a sentence without the final full stop."""

    fix: str = ""
    """What would make it load."""

    errors: tuple[PluginError, ...] = ()
    """Everything that went wrong with it; each error's ``__cause__`` has the traceback."""

    @property
    def builtin(self) -> bool:
        """Whether it is the core's own plugin."""
        return self.candidate.builtin

    def with_error(self, error: PluginError) -> PluginStatus:
        """Return the status after *error*: the worst state, and all the reasons."""
        errors = (*self.errors, error)
        states = [_STATE_OF.get(type(each), PluginState.FAILED) for each in errors]
        return replace(
            self,
            state=next((s for s in states if s is not PluginState.CONFLICTING), PluginState.CONFLICTING),
            reason="; ".join(each.what for each in errors),
            fix="; ".join(dict.fromkeys(each.fix for each in errors if each.fix)),
            errors=errors,
        )

    def to_dict(self) -> dict[str, str | None]:
        """Return the status as plain data."""
        return {
            "name": self.candidate.name,
            "distribution": self.candidate.distribution,
            "version": self.candidate.version,
            "state": self.state.value,
            "reason": self.reason,
            "fix": self.fix or None,
        }

    def __str__(self) -> str:
        text = f"{self.candidate.provenance} {self.state.predicate}: {sentence(self.reason)}"
        return f"{text} What to do: {sentence(self.fix)}" if self.fix else text


_STATE_OF: Final[Mapping[type[PluginError], PluginState]] = {
    PluginApiError: PluginState.INCOMPATIBLE,
    ContributionConflictError: PluginState.CONFLICTING,
}


@final
@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of every plugin, the built-in one included.

    ```python
    from stageflow.plugins import PluginHost

    report = PluginHost(()).report
    print(report.render() or "No plugins are installed.")
    #> No plugins are installed.
    print(report.to_dict())
    #> {'plugins': []}
    ```
    """

    plugins: tuple[PluginStatus, ...]
    """The plugins: the built-in one first, then by distribution and name."""

    notices: tuple[str, ...] = ()
    """Sentences about names that are nobody's, in lists of plugins and in what interceptors wish."""

    @property
    def external(self) -> tuple[PluginStatus, ...]:
        """The plugins that are not the core's own."""
        return tuple(status for status in self.plugins if not status.builtin)

    def named(self, name: str) -> tuple[PluginStatus, ...]:
        """Return what is known about the plugins called *name*: one, none, or several that conflict."""
        return tuple(status for status in self.plugins if status.candidate.name == name)

    def to_dict(self, *, builtin: bool = False) -> dict[str, list[dict[str, str | None]]]:
        """Return the report as plain data, for JSON.

        Args:
            builtin: Whether the core's own plugin is in it.
        """
        return {"plugins": [status.to_dict() for status in (self.plugins if builtin else self.external)]}

    def render(self, *, builtin: bool = False) -> str:
        """Return the report as aligned text, a line per plugin, with the fix of those that need one.

        Args:
            builtin: Whether the core's own plugin is in it.
        """
        statuses = self.plugins if builtin else self.external
        rows = [(s.candidate.name, s.candidate.provenance.release, s.state.value) for s in statuses]
        widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
        lines: list[str] = []
        for status, row in zip(statuses, rows, strict=True):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join([*cells, status.reason]).rstrip())
            if status.fix:
                lines.append(f"    What to do: {sentence(status.fix)}")
        return "\n".join(lines)

    def explain(self, noun: str, name: str, known: Iterable[str] = ()) -> ContributionNotFoundError | None:
        """Return the error for a missing *name* whose owner is installed, or None where it is not.

        Args:
            noun: What was looked for.
            name: The name that nobody contributes.
            known: The names that are there.
        """
        # Everything before the first dot; a bare word may be a plugin's own section or scheme.
        owners = self.named(name.partition(".")[0])
        if not owners:
            return None
        broken = [status for status in owners if status.state is not PluginState.LOADED]
        owner = (broken or owners)[0]
        origin = owner.candidate.provenance
        what = f"No {noun} is named {name!r}: {origin} {owner.state.predicate}"
        if broken:
            what += f": {owner.reason}"
            fix = owner.fix
        else:
            names = list(known)
            own = [each for each in names if each.startswith(f"{origin.plugin}.")]
            what += ", but contributes none of that name"
            fix = close_matches(name, names)
            if not fix:
                other = f"Use one of {', '.join(map(repr, own))}"
                fix = other if own else f"Install a release of {origin.distribution} that has it"
        return ContributionNotFoundError(what, plugin=origin.plugin, distribution=origin.release, fix=fix)

    def why(self, name: str, registries: Iterable[Registry[Any]] = ()) -> str:
        """Return in a few lines where *name* comes from, or why it is not there.

        Args:
            name: A plugin, or anything that a plugin contributes.
            registries: Everything that is contributed.
        """
        registries = tuple(registries)
        lines = [_upper(str(status)) for status in self.named(name)]
        lines += [line for registry in registries for line in _contributed(name, registry)]
        if lines:
            return "\n".join(lines)
        explained = self.explain("contribution", name, (key for registry in registries for key in registry))
        if explained is not None:
            return str(explained)
        everything = [status.candidate.name for status in self.plugins]
        everything += [key for registry in registries for key in registry]
        hint = (
            close_matches(name, dict.fromkeys(everything))
            or "'stageflow plugins list' shows what is installed."
        )
        return f"No plugin is named {name!r}, and none contributes that name. {hint}"


def sentence(text: str) -> str:
    """Return *text* with a full stop, if it has no other end.

    ```python
    from stageflow.plugins.report import sentence

    print(sentence("Install it"), sentence("Did you mean 'acme'?"))
    #> Install it. Did you mean 'acme'?
    ```
    """
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _contributed(name: str, registry: Registry[Any]) -> Iterable[str]:
    """Say who contributes *name*, and what the plugin called *name* contributes."""
    if name in registry.conflicts:
        yield str(registry.conflicts[name][0])
    for key, entry in registry.items():
        if key == name:
            yield f"{_upper(str(entry))}, target {_target(entry.contribution.source)}."
        elif entry.provenance.plugin == name:
            yield f"  {registry.noun} {key!r}, target {_target(entry.contribution.source)}"


def _upper(text: str) -> str:
    # Not capitalize(), which would lower the names inside.
    return text[:1].upper() + text[1:]


def _target(source: object) -> str:
    return repr(source) if isinstance(source, str) else f"{getattr(source, '__qualname__', source)}"
