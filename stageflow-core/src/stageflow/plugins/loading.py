"""Loading: import one plugin module, whatever it does meanwhile."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from stageflow.errors import PluginLoadError, StageflowError
from stageflow.plugins.names import CORE, GRAMMAR, is_bare
from stageflow.plugins.policy import DENY_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stageflow.plugins.discovery import Candidate

__all__ = ["cure", "describe", "disable", "load_error", "load_module"]

_LONGEST: Final = 300  # characters of somebody else's message: a line or three of a terminal
_NAMED: Final = 3


def load_module(candidate: Candidate) -> ModuleType:
    """Import the module of *candidate*.

    Raises:
        PluginLoadError: The entry point is malformed, the import gave no module, or it raised anything but
            ``KeyboardInterrupt``, which is then the error's cause; or it took other modules away.
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
    before = dict(sys.modules)
    try:
        module: Any = import_module(candidate.module)
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        # Not only Exception: a group of base exceptions, or one of the plugin's own, would end every program.
        what = f"Importing {candidate.module!r} raised {describe(exc)}"
        raise load_error(candidate, what, fix=_remedy(candidate, exc)) from exc
    finally:
        taken = _put_back(before)
    if taken:
        sys.modules.pop(candidate.module, None)  # whoever asks again gets the same answer
        what = (
            f"Importing {candidate.module!r} took {_listed(taken)} out of sys.modules, where they are again"
        )
        raise load_error(candidate, what, fix=cure(candidate))
    if not isinstance(module, ModuleType):
        # A module may put anything in its own place in sys.modules.
        what = f"Importing {candidate.module!r} gave {type(module).__name__} {module!r}, not a module"
        raise load_error(candidate, what, fix=f"Let {candidate.module} be a plain module")
    return module


def load_error(candidate: Candidate, what: str, *, fix: str) -> PluginLoadError:
    """Return the error about *candidate*."""
    return PluginLoadError(what, plugin=candidate.name, distribution=candidate.provenance.release, fix=fix)


def describe(exc: BaseException) -> str:
    r"""Return an exception's type and what it says, on one line that no terminal takes for a command.

    ```python
    from stageflow.plugins.loading import describe

    print(describe(ValueError("too   wide")))
    #> ValueError: too wide
    ```
    """
    try:
        said = exc.what if isinstance(exc, StageflowError) else str(exc)
    except BaseException:  # noqa: BLE001 - even to say what it is can be more than an exception can do
        said = "(it cannot say what)"
    text = " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST - 3]}..."
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def disable(candidate: Candidate) -> str:
    """Return how to go on without *candidate*."""
    return f"disable it with {DENY_VARIABLE}={candidate.name}"


def cure(candidate: Candidate) -> str:
    """Return what to do about a fault that only the authors of *candidate* can mend."""
    if candidate.file is not None:
        return f"Mend {candidate.file}, or {disable(candidate)}"
    return f"Update {candidate.distribution} or tell its authors, or {disable(candidate)}"


def _remedy(candidate: Candidate, exc: BaseException) -> str:
    if candidate.name == CORE:
        return f"Reinstall {candidate.distribution}"
    if isinstance(exc, StageflowError) and exc.fix:  # such as an extra that is missing, with the command
        return f"{exc.fix}, or {disable(candidate)}"
    missing = exc.name if isinstance(exc, ModuleNotFoundError) else None
    if missing is None:
        return cure(candidate)
    if f"{candidate.module}.".startswith(f"{missing}."):
        first = f"Reinstall {candidate.distribution}, whose metadata names a module that is not there"
    else:
        from stageflow.plugins.requirements import how_to_install

        wanted_by = candidate.distribution if candidate.file is None else ""
        first = how_to_install(missing, wanted_by=wanted_by)
    return f"{first}, or {disable(candidate)}"


def _put_back(before: Mapping[str, ModuleType]) -> list[str]:
    """Put modules back that an import has taken away, and of the core also those that it has replaced.

    A second copy of a module has second copies of its classes: what one part of the program makes, the other
    does not know. Returns the names of those modules.
    """
    taken = [
        name
        for name, module in before.items()
        if name not in sys.modules
        or (name.startswith(f"{__name__.partition('.')[0]}.") and sys.modules[name] is not module)
    ]
    for name in taken:
        sys.modules[name] = before[name]
    return sorted(taken)


def _listed(names: list[str]) -> str:
    shown = [*map(repr, names[:_NAMED])]
    if len(names) > _NAMED:
        shown.append(f"{len(names) - _NAMED} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
