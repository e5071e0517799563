"""``Record``: what the small immutable values of this room have in common."""

from __future__ import annotations

from typing import Any

__all__ = ["Record"]


class Record:
    """A small immutable value: slots that are set once, compared and pickled field by field."""

    __slots__ = ()

    def __setattr__(self, name: str, _: object) -> None:
        msg = f"{type(self).__name__} is immutable; cannot set {name!r}"
        raise AttributeError(msg)

    def __delattr__(self, name: str) -> None:
        msg = f"{type(self).__name__} is immutable; cannot delete {name!r}"
        raise AttributeError(msg)

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self._fields())

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({shown})"


def _restore(cls: type[Record], fields: tuple[Any, ...]) -> Record:
    record = cls.__new__(cls)
    for name, value in zip(cls.__slots__, fields, strict=True):
        object.__setattr__(record, name, value)
    return record
