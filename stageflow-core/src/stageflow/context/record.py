"""``Record``: what the values on the kernel's import path share instead of ``@dataclass``.

Importing ``dataclasses`` costs more than all of this room. A record is for its users what a frozen,
slotted dataclass is: ``==``, ``repr``, pickle, ``copy``, ``match`` and ``dataclasses.replace`` work, and
the functions of ``dataclasses`` find its fields, which are made when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from stageflow.errors import ReadOnlyDataError

if TYPE_CHECKING:
    from dataclasses import Field
    from typing import Self

__all__ = ["ReadOnlyFieldError", "Record"]


class ReadOnlyFieldError(ReadOnlyDataError, AttributeError):
    """Somebody tried to set a field of a record that does not change.

    Args:
        owner: The record's class.
        field: The field.

    ```python
    from stageflow.context import ReadOnlyFieldError, RunIdentity

    try:
        RunIdentity().user_id = None
    except ReadOnlyFieldError as error:
        print(error.what)
        #> RunIdentity is read-only; its user_id cannot be changed
    ```
    """

    def __init__(self, owner: str, field: str) -> None:
        super().__init__(f"setting {owner}.{field}")
        self.owner = owner
        self.field = field
        self.what = f"{owner} is read-only; its {field} cannot be changed"
        self.fix = f"Make a changed copy with one of the with_...() methods, or a new {owner}"
        self.args = (self.what,)


class _DataclassFields:
    """Gives a class its ``__dataclass_fields__`` when ``dataclasses`` asks."""

    def __get__(self, instance: object, owner: type[Record]) -> dict[str, Field[Any]]:
        from dataclasses import field, make_dataclass

        made: Any = make_dataclass(
            owner.__name__, [(name, Any, field(default=None)) for name in owner.__match_args__]
        )
        owner.__dataclass_fields__ = made.__dataclass_fields__
        return owner.__dataclass_fields__


class Record:
    """A value whose fields are set once, by its constructor, and compared one by one.

    A subclass names its fields in the order of its constructor in ``__match_args__``, and its
    ``__init__`` sets them through the slots' own ``__set__``.
    """

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    else:
        __dataclass_fields__ = _DataclassFields()

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__match_args__])

    def __replace__(self, **changes: Any) -> Self:
        return type(self)(**{**dict(zip(self.__match_args__, self._values(), strict=True)), **changes})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(other) is not type(self):
            return NotImplemented
        return self is other or self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        shown = zip(self.__match_args__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join([f'{name}={value!r}' for name, value in shown])})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()

    def __setattr__(self, name: str, value: object) -> None:
        raise ReadOnlyFieldError(type(self).__name__, name)

    def __delattr__(self, name: str) -> None:
        raise ReadOnlyFieldError(type(self).__name__, name)
