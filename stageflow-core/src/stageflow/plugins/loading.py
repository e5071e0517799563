"""Loading: import one plugin module, whatever it does meanwhile."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from stageflow.errors import PluginLoadError
from stageflow.plugins.names import CORE, GRAMMAR, is_bare
from stageflow.plugins.policy import DENY_VARIABLE

if TYPE_CHECKING:
    from stageflow.plugins.discovery import Candidate

__all__ = ["describe", "disable", "load_error", "load_module"]


def load_module(candidate: Candidate) -> ModuleType:
    """Import the module of *candidate*.

    Raises:
        PluginLoadError: The entry point is malformed, the import gave no module, or it raised an exception or
            ``SystemExit``, which is then the error's cause.
    """
    if not is_bare(candidate.name):
        raise load_error(
            candidate,
            f"{candidate.name!r} is not a name for a plugin",
            fix=f"Name its entry point with {GRAMMAR}",
        )
    if not all(part.isidentifier() for part in candidate.module.split(".")):
        raise load_error(
            candidate,
            f"Its entry point names {candidate.module!r}, which is not a module",
            fix=f"Write the entry point as '{candidate.name} = \"package.plugin\"'",
        )
    try:
        module: Any = import_module(candidate.module)
    except (Exception, SystemExit) as exc:
        what = f"Importing {candidate.module!r} raised {describe(exc)}"
        raise load_error(candidate, what, fix=_remedy(candidate, exc)) from exc
    if not isinstance(module, ModuleType):
        # A module may put anything in its own place in sys.modules.
        what = f"Importing {candidate.module!r} gave {type(module).__name__} {module!r}, not a module"
        raise load_error(candidate, what, fix=f"Let {candidate.module} be a plain module")
    return module


def load_error(candidate: Candidate, what: str, *, fix: str) -> PluginLoadError:
    """Return the error about *candidate*."""
    return PluginLoadError(what, plugin=candidate.name, distribution=candidate.provenance.release, fix=fix)


def describe(exc: BaseException) -> str:
    """Return an exception's type and what it says, on one line."""
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def disable(candidate: Candidate) -> str:
    """Return how to go on without *candidate*."""
    return f"disable it with {DENY_VARIABLE}={candidate.name}"


def _remedy(candidate: Candidate, exc: BaseException) -> str:
    if candidate.name == CORE:
        return f"Reinstall {candidate.distribution}"
    missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
    if missing is None:
        cure = f"Update {candidate.distribution} or tell its authors"
    elif f"{candidate.module}.".startswith(f"{missing}."):
        cure = f"Reinstall {candidate.distribution}, whose metadata names a module that is not there"
    else:
        cure = f"Install the package that provides {missing!r}, which {candidate.distribution} needs"
    return f"{cure}, or {disable(candidate)}"
