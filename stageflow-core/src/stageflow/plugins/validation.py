"""Validation: does a plugin keep the contract of the hooks, in how it implements them and what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, cast

from stageflow.errors import ContributionInvalidError
from stageflow.plugins import hookspecs
from stageflow.plugins.hookspecs import HOOKS
from stageflow.plugins.loading import load_error
from stageflow.plugins.markers import PROJECT, deprecation_of

if TYPE_CHECKING:
    from types import ModuleType

    from stageflow.plugins.contributions import Contribution
    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.provenance import Provenance

__all__ = ["check_hooks", "check_result", "invalid"]

_ARGUMENT: Final = "context"
_ORDERING: Final = ("wrapper", "hookwrapper", "tryfirst", "trylast")


def check_hooks(module: ModuleType, candidate: Candidate) -> frozenset[str]:
    """Return the hooks that a plugin module implements.

    Raises:
        PluginLoadError: One of them is misspelt, async, a wrapper, takes other arguments than ``context``,
            or lacks ``@hookimpl``; all that is wrong is in one error.
    """
    hooks: set[str] = set()
    problems: list[tuple[str, str]] = []
    # The module's own dictionary, because looking attributes up could run a module's __getattr__.
    for name, value in vars(module).items():
        if not inspect.isroutine(value):
            continue
        marks: Any = getattr(value, f"{PROJECT}_impl", None)
        if isinstance(marks, Mapping):
            options = cast("Mapping[str, Any]", marks)
            hook = options.get("specname") or name
            problem = _removal(hook) or _hook_problem(hook, value, options)
            if problem is not None:
                problems.append(problem)
            elif hook in HOOKS:
                hooks.add(hook)
        elif name in HOOKS and getattr(value, "__module__", None) == module.__name__:
            problems.append((f"{name!r} is not marked as a hook", f"Write @hookimpl above 'def {name}'"))
    if problems:
        what, fix = ("; ".join(dict.fromkeys(texts)) for texts in zip(*problems, strict=True))
        raise load_error(candidate, what, fix=fix)
    return frozenset(hooks)


def _removal(hook: str) -> tuple[str, str] | None:
    """Return what is wrong with an implementation of a hook whose removal is due, and how to mend it."""
    deprecation = deprecation_of(getattr(hookspecs, hook)) if hook in HOOKS else None
    removed = None if deprecation is None else deprecation.due()
    return None if removed is None else (removed.what, removed.fix)


def _hook_problem(hook: str, function: Any, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what is wrong with one implementation, and how to mend it."""
    if hook not in HOOKS:
        if options.get("optionalhook"):
            return None
        return (
            f"{hook!r} is not a hook",
            _nearest_hook(hook) or f"The hooks are {', '.join(HOOKS)}",
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return (
            f"{hook!r} is async, and hooks are sync",
            "Write 'def', return records, and await in what they name: a stage, a sink, a tool",
        )
    used = [option for option in _ORDERING if options.get(option)]
    if used:
        return (
            f"{hook!r} uses {' and '.join(used)}, which order calls, not contributions",
            "Write a plain @hookimpl; interceptors are ordered by priority, before and after",
        )
    takes = [name for name in inspect.signature(function).parameters if name != _ARGUMENT]
    if takes:
        return (
            f"{hook!r} takes {', '.join(map(repr, takes))}, which no hook is given",
            f"Write 'def {hook}({_ARGUMENT})', or leave the argument out",
        )
    return None


def _nearest_hook(name: str) -> str:
    # Without the prefix, which makes every hook look like every other.
    prefix = f"{PROJECT}_"
    near = get_close_matches(name.removeprefix(prefix), [hook.removeprefix(prefix) for hook in HOOKS], n=1)
    return f"Did you mean '{prefix}{near[0]}'?" if near else ""


def check_result(hook: str, results: Iterable[object], provenance: Provenance) -> tuple[Contribution, ...]:
    """Return the records that a hook's implementation returned.

    Args:
        hook: The hook.
        results: What its implementations in one plugin returned.
        provenance: The plugin.

    Raises:
        ContributionInvalidError: Something is not an iterable of the hook's records, has a name that is not
            the plugin's to give, or has a name twice.
    """
    wanted = HOOKS[hook]
    records: dict[tuple[str, str], Contribution] = {}
    for answer in results:
        if answer is None:
            raise invalid(hook, "returned None", provenance, fix="Return a list; an empty one for nothing")
        for record in _listed(answer, hook, provenance):
            if not isinstance(record, wanted):
                what = f"returned a list with {_article(record)}, where {_expected(hook)} is expected"
                raise invalid(hook, what, provenance, fix=f"Return [{wanted[0].__name__}(...)]")
            problem = record.ownership_problem(provenance.plugin)
            if problem is not None:
                raise invalid(hook, f"returned a bad name: {problem[0]}", provenance, fix=problem[1])
            key = (record.noun, record.key)
            if key in records:
                what = f"returned the {record.noun} {record.key!r} twice"
                raise invalid(hook, what, provenance, fix="Return each name once")
            records[key] = record
    return tuple(records.values())


def invalid(hook: str, what: str, provenance: Provenance, *, fix: str) -> ContributionInvalidError:
    """Return the error about what a hook of a plugin did."""
    return ContributionInvalidError(
        f"Hook {hook!r} {what}", plugin=provenance.plugin, distribution=provenance.release, fix=fix
    )


def _listed(answer: object, hook: str, provenance: Provenance) -> Iterable[object]:
    shown = _article(answer)
    # A lone record, a string and a mapping are what a forgotten pair of brackets leaves; two of them iterate.
    if isinstance(answer, Iterable) and not isinstance(answer, (str, bytes, Mapping)):
        return cast("Iterable[object]", answer)
    what = f"returned {shown}, where a list of {_expected(hook)} is expected"
    raise invalid(hook, what, provenance, fix=f"Return [{HOOKS[hook][0].__name__}(...)]")


def _expected(hook: str) -> str:
    return " or ".join(kind.__name__ for kind in HOOKS[hook])


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
