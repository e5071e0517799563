"""``TARGET``: which pipeline a command line means."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from stageflow.cli.module import TARGET_CODE, is_path, load_file, load_module, user_code
from stageflow.errors import ConfigurationError, close_matches
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.graph import StageGraph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from stageflow.stages.spec import StageSpec

__all__ = ["Found", "Runnable", "all_pipelines", "one_pipeline"]

Runnable: TypeAlias = "Pipeline | StageGraph"

_FACTORIES: Final = ("create_pipeline", "build_pipeline")
_EXAMPLE: Final = "pipeline = Pipeline.from_stages(...)"


@final
@dataclass(frozen=True, slots=True)
class Found:
    """A pipeline, and what it is called where it was found."""

    name: str
    pipeline: Runnable

    @property
    def specs(self) -> Sequence[StageSpec]:
        """Its stages."""
        return self.pipeline.specs if isinstance(self.pipeline, Pipeline) else self.pipeline.stage_specs


def one_pipeline(target: str) -> Found:
    """Return the one pipeline that *target* means.

    Args:
        target: ``x.py``, ``x.py:name``, ``package.module`` or ``package.module:name``. The name is that of a
            pipeline, or of a function without arguments that returns one. Without a name the module holds
            exactly one pipeline, or else one ``create_pipeline()`` or ``build_pipeline()``.

    Raises:
        ConfigurationError: It means none, or more than one, or its module does not import.
    """
    place, name = _split(target)
    module = _load(place)
    if name:
        return Found(name, _named(module, place, name))
    found = _module_level(module)
    if not found:
        made = [_made(module, place, one) for one in _FACTORIES if callable(getattr(module, one, None))]
        found = [one for one in made if one is not None]
    if not found:
        raise _none_there(module, place)
    if len(found) > 1:
        names = [one.name for one in found]
        msg = f"{place!r} holds {len(found)} pipelines: {', '.join(map(repr, names))}"
        fix = f"Say which one: {' or '.join(f'{place}:{one}' for one in names)}"
        raise ConfigurationError(msg, fix=fix, code=TARGET_CODE)
    return found[0]


def all_pipelines(target: str) -> list[Found]:
    """Return every pipeline that *target* means, also those that its functions return.

    Functions without arguments are called if their name ends with ``_pipeline``, or if it begins with ``create_``
    or ``build_`` and they are annotated to return a pipeline.

    Raises:
        ConfigurationError: Its module does not import, or the name in *target* is no pipeline.
    """
    place, name = _split(target)
    module = _load(place)
    if name:
        return [Found(name, _named(module, place, name))]
    made = [
        _made(module, place, one) for one, value in vars(module).items() if _is_factory(module, one, value)
    ]
    return [*_module_level(module), *(one for one in made if one is not None)]


def _split(target: str) -> tuple[str, str]:
    """Take ``place:name`` apart; a drive letter or a colon in a file's name is no separator."""
    place, colon, name = target.rpartition(":")
    if (
        not colon
        or not place
        or Path(target).is_file()
        or not all(one.isidentifier() for one in name.split("."))
    ):
        return target, ""
    return place, name


def _load(place: str) -> ModuleType:
    return load_file(Path(place)) if is_path(place) else load_module(place)


def _module_level(module: ModuleType) -> list[Found]:
    """Return the pipelines that have a public name, each once, under its first name."""
    found: dict[int, Found] = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and isinstance(value, (Pipeline, StageGraph)):
            found.setdefault(id(value), Found(name, value))
    return list(found.values())


def _named(module: ModuleType, place: str, name: str) -> Runnable:
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            known = [one.name for one in _module_level(module)]
            known += [one for one, there in vars(module).items() if _is_factory(module, one, there)]
            msg = f"{place!r} has no {name!r}"
            fix = close_matches(name, known) or _offer(place, known)
            raise ConfigurationError(msg, fix=fix, code=TARGET_CODE) from None
    if isinstance(value, (Pipeline, StageGraph)):
        return value
    if callable(value) and _needs_nothing(value):
        value = _call(value, place, name)
        if isinstance(value, (Pipeline, StageGraph)):
            return value
        msg = f"{name}() in {place!r} returned {type(value).__name__}, not a pipeline"
    else:
        msg = f"{name!r} in {place!r} is a {type(value).__name__}, not a pipeline"
    fix = _offer(place, [one.name for one in _module_level(module)])
    raise ConfigurationError(msg, fix=fix, code=TARGET_CODE)


def _made(module: ModuleType, place: str, name: str) -> Found | None:
    """Call a function of the module, and return the pipeline if that is what it makes."""
    value = getattr(module, name)
    if not _needs_nothing(value):
        return None
    value = _call(value, place, name)
    return Found(name, value) if isinstance(value, (Pipeline, StageGraph)) else None


def _call(function: Callable[[], object], place: str, name: str) -> object:
    with user_code(f"{name}()", doing=f"In {place!r}, calling"):
        value = function()
    if inspect.iscoroutine(value):
        value.close()  # nobody will await it, and that is said below rather than in a warning
    return value


def _needs_nothing(value: Any) -> bool:
    if not callable(value):
        return False
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return False
    empty, open_ended = (
        inspect.Parameter.empty,
        (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD),
    )
    return all(one.default is not empty or one.kind in open_ended for one in parameters)


def _is_factory(module: ModuleType, name: str, value: object) -> bool:
    if not inspect.isfunction(value) or value.__module__ != module.__name__ or name.startswith("_"):
        return False
    promises = str(value.__annotations__.get("return", ""))
    says_so = "Pipeline" in promises or "StageGraph" in promises
    return name.endswith("_pipeline") or (name.startswith(("create_", "build_")) and says_so)


def _none_there(module: ModuleType, place: str) -> ConfigurationError:
    makers = [
        name
        for name, value in vars(module).items()
        if _is_factory(module, name, value) and _needs_nothing(value)
    ]
    msg = f"{place!r} holds no pipeline"
    fix = _offer(place, makers)
    return ConfigurationError(msg, fix=fix, code=TARGET_CODE)


def _offer(place: str, names: Sequence[str]) -> str:
    if names:
        return f"Name one: {' or '.join(f'{place}:{name}' for name in names)}"
    return f"Write '{_EXAMPLE}' in the module, or a function create_pipeline() that returns one"
