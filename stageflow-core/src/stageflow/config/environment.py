"""``STAGEFLOW_<SECTION>__<KEY>``: the configuration in the environment, whose texts a model gives a meaning."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.config.fields import Shape, child_key, shapes_at
from stageflow.config.layers import Layer
from stageflow.config.origin import Origin, OriginKind
from stageflow.config.problems import VALUE_CODE, SettingsProblem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from stageflow.config.layers import ValuePath

__all__ = ["PREFIX", "SEPARATOR", "Environment", "variable_of"]

PREFIX: Final = "STAGEFLOW_"
SEPARATOR: Final = "__"


def variable_of(path: ValuePath) -> str:
    """Return the variable that sets the key at *path*.

    ```python
    from stageflow.config.environment import variable_of

    print(variable_of(("acme", "cache", "size")))
    #> STAGEFLOW_ACME__CACHE__SIZE
    ```
    """
    return PREFIX + SEPARATOR.join(part.replace("-", "_").upper() for part in path)


@final
class Environment:
    """The variables that say something about sections.

    A name has two underscores between section and key, and between keys: ``STAGEFLOW_ACME__CACHE__SIZE`` is
    ``acme.cache.size``. Variables without them, as ``STAGEFLOW_PLUGINS``, are not meant.

    Args:
        environ: The environment.
    """

    __slots__ = ("_entries",)

    def __init__(self, environ: Mapping[str, str]) -> None:
        entries: list[tuple[ValuePath, str, str]] = []
        for name, text in environ.items():
            path = tuple(name.removeprefix(PREFIX).lower().split(SEPARATOR))
            if name.startswith(PREFIX) and len(path) > 1 and all(path):
                entries.append((path, name, text))
        # The most special last, so that it wins over an object that holds it too.
        self._entries = sorted(entries, key=lambda entry: (len(entry[0]), entry[1]))

    def sections(self) -> Mapping[str, Origin]:
        """Return the first part of each variable, in lower case, with the variable."""
        return {path[0]: _origin(name) for path, name, _ in reversed(self._entries)}

    def mentions(self, section: ValuePath) -> bool:
        """Say whether a variable is about a section, or about one within it."""
        return next(self._within(section), None) is not None

    def layer(self, section: ValuePath, model: type[BaseModel]) -> tuple[Layer, tuple[SettingsProblem, ...]]:
        """Return the values of a section, and what is wrong with their form.

        Args:
            section: The section.
            model: What says which texts are lists and tables.
        """
        tree: dict[str, Any] = {}
        origins: dict[ValuePath, Origin] = {}
        problems: list[SettingsProblem] = []
        for keys, name, text in self._within(section):
            path = (*section, *_spelled(keys, model))
            try:
                value = _meant(text, shapes_at(model, path[len(section) :]))
            except ValueError as exc:
                problems.append(_malformed(".".join(path), name, exc))
                continue
            _put(tree, path, value)
            origins[path] = _origin(name)
        return Layer(tree, Origin(kind=OriginKind.ENVIRONMENT), origins), tuple(problems)

    def _within(self, section: ValuePath) -> Iterator[tuple[ValuePath, str, str]]:
        wanted = tuple(part.replace("-", "_") for part in section)
        for path, name, text in self._entries:
            if path[: len(wanted)] == wanted and len(path) > len(wanted):
                yield path[len(wanted) :], name, text


def _origin(variable: str) -> Origin:
    return Origin(kind=OriginKind.ENVIRONMENT, variable=variable)


def _spelled(keys: ValuePath, model: type[BaseModel]) -> ValuePath:
    """Return keys as the model spells them; those that it does not know stay as they are."""
    path: ValuePath = ()
    for key in keys:
        path = (*path, child_key(shapes_at(model, path), key))
    return path


def _meant(text: str, shape: Shape) -> object:
    """Return the value that a text stands for where such a thing is wanted.

    Raises:
        ValueError: It should be JSON, and is none.
    """
    sign = text.strip()[:1]
    if (sign == "[" and shape.takes_list) or (sign == "{" and shape.takes_table):
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as exc:
            if shape.takes_text:
                return text
            reason = (
                f"{exc.msg.lower()}, column {exc.colno}"
                if isinstance(exc, json.JSONDecodeError)
                else "too deep"
            )
            raise ValueError(reason) from None
    if shape.takes_words and not shape.takes_text:
        return [word for part in text.split(",") if (word := part.strip())]
    return text


def _malformed(path: str, variable: str, error: ValueError) -> SettingsProblem:
    return SettingsProblem(
        code=VALUE_CODE,
        message=f"{path} is no JSON ({variable}): {error}",
        fix=f'Set {variable} to JSON, such as \'["a", "b"]\' for a list or \'{{"key": 1}}\' for a table',
        path=path,
        origin=_origin(variable),
    )


def _put(tree: dict[str, Any], path: ValuePath, value: object) -> None:
    for part in path[:-1]:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner  # pyright: ignore[reportUnknownVariableType] - it is one that this function has made, or JSON's
    tree[path[-1]] = value
