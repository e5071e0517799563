"""What a pydantic model says about the keys beneath it: which there are, and what values they take."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeGuard, Union, final, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from stageflow.config.layers import ValuePath

__all__ = ["Shape", "child_key", "is_model", "keys_of", "shapes_at"]

_UNKNOWN: Final = (Any, object)


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """The kinds of values that a place takes: the members of its annotation, unions taken apart."""

    members: tuple[Any, ...]

    @property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models among them."""
        return tuple(member for member in self.members if is_model(member))

    @property
    def is_secret(self) -> bool:
        """Whether one of them is pydantic's ``SecretStr`` or ``SecretBytes``, also as what a list or table holds."""
        return any(
            hasattr(member, "get_secret_value")
            or any(Shape(tuple(_flat(one))).is_secret for one in get_args(member))
            for member in self.members
        )

    @property
    def takes_table(self) -> bool:
        """Whether a table can stand here."""
        return self._unknown or any(
            is_model(member) or _is_a(member, Mapping) or _has_fields(member) for member in self.members
        )

    @property
    def takes_list(self) -> bool:
        """Whether a list can stand here."""
        return self._unknown or any(map(_is_list, self.members))

    @property
    def takes_words(self) -> bool:
        """Whether a list of texts, numbers and the like can stand here, that commas part."""
        return any(
            _is_list(member) and not any(_is_nested(one) for one in get_args(member) if one is not ...)
            for member in self.members
        )

    @property
    def takes_text(self) -> bool:
        """Whether a text can stand here."""
        return self._unknown or any(
            isinstance(member, type) and issubclass(member, str) for member in self.members
        )

    @property
    def _unknown(self) -> bool:
        return not self.members or any(member in _UNKNOWN for member in self.members)


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Say whether an annotation is a class of pydantic models; pydantic itself is not imported for it."""
    names = ("model_fields", "model_validate")
    return isinstance(annotation, type) and all(hasattr(annotation, name) for name in names)


def keys_of(model: type[BaseModel]) -> Mapping[str, tuple[str, FieldInfo]]:
    """Return each key that a model reads, with the field's name and the field."""
    by_name = bool(model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name"))
    keys: dict[str, tuple[str, FieldInfo]] = {}
    for name, field in model.model_fields.items():
        alias: Any = field.validation_alias
        choices: list[Any] = list(getattr(alias, "choices", (alias,)))
        names = [choice for choice in choices if isinstance(choice, str)]
        if by_name or alias is None:
            names.append(name)
        keys.update(dict.fromkeys(names, (name, field)))
    return keys


def shapes_at(model: type[BaseModel], path: ValuePath) -> Shape:
    """Return what can stand at a path beneath a model; a shape without members where nothing is known."""
    members: tuple[Any, ...] = (model,)
    for part in path:
        members = tuple(one for member in members for one in _children(member, part))
    return Shape(members)


def child_key(shape: Shape, key: str) -> str:
    """Return how the models of a shape spell *key*, which comes in lower case and with underscores."""
    for model in shape.models:
        for known in keys_of(model):
            if known.lower().replace("-", "_") == key:
                return known
    return key


def _children(annotation: Any, part: str) -> Iterator[Any]:
    if is_model(annotation):
        found = keys_of(annotation).get(part)
        if found is not None:
            yield from _flat(found[1].annotation)
        return
    arguments = get_args(annotation)
    if _is_a(annotation, Mapping) and len(arguments) == 2:  # noqa: PLR2004 - key and value
        yield from _flat(arguments[1])
    elif _is_list(annotation) and part.isdecimal():
        # A tuple has a type for each place; an ellipsis stands for any more of the first.
        fixed = [one for one in arguments if one is not ...]
        yield from _flat(fixed[min(int(part), len(fixed) - 1)]) if fixed else ()


def _flat(annotation: Any) -> Iterator[Any]:
    """Yield the members of a union, at any depth, without what is only noted beside them."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _flat(member)
    elif origin is Annotated:
        yield from _flat(get_args(annotation)[0])
    elif type(annotation).__name__ == "TypeAliasType":
        yield from _flat(annotation.__value__)
    else:
        yield annotation


def _is_a(annotation: Any, *kinds: type[Any]) -> bool:
    found = get_origin(annotation) or annotation
    return isinstance(found, type) and issubclass(found, kinds)


def _is_list(annotation: Any) -> bool:
    return (
        _is_a(annotation, Collection) and not _is_a(annotation, Mapping) and not _is_a(annotation, str, bytes)
    )


def _is_nested(annotation: Any) -> bool:
    shape = Shape(tuple(_flat(annotation)))
    return shape.takes_table or any(map(_is_list, shape.members))


def _has_fields(annotation: Any) -> bool:
    return hasattr(annotation, "__dataclass_fields__") or hasattr(annotation, "__required_keys__")
