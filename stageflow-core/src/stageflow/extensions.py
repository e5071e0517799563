"""An application's own data under names of its own: which type belongs to which key, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast, final, runtime_checkable

from stageflow.errors import ConfigurationError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ExtensionHelper", "ExtensionRegistry", "TypedExtension"]

_T = TypeVar("_T")


@runtime_checkable
class TypedExtension(Protocol):
    """A value that knows the key it is kept under.

    ```python
    from stageflow.extensions import TypedExtension


    class Lesson:
        key = "lesson"

        def to_dict(self):
            return {"level": 3}


    print(isinstance(Lesson(), TypedExtension))
    #> True
    ```
    """

    key: str

    def to_dict(self) -> dict[str, Any]:
        """Return the value as plain data."""
        ...


class ExtensionRegistry:
    """Which type belongs to which key: one table for the process, or one for each subclass.

    A library registers its types under keys with a prefix of its own. Whoever wants a table apart, as tests do, makes
    a subclass.

    ```python
    from stageflow.extensions import ExtensionRegistry


    class OwnExtensions(ExtensionRegistry):
        pass


    OwnExtensions.register("count", int)
    print(OwnExtensions.get("count"), ExtensionRegistry.get("count"))
    #> <class 'int'> None
    ```
    """

    _types: ClassVar[dict[str, type[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._types = {}

    @classmethod
    def register(cls, key: str, extension_type: type[Any]) -> None:
        """Say that values under *key* are of *extension_type*.

        The same type, also as a reloaded module defines it anew, may be registered again.

        Raises:
            ConfigurationError: The key is empty or no str, the type is no class, or the key belongs to another type.
        """
        if not isinstance(key, str) or not key:  # pyright: ignore[reportUnnecessaryIsInstance]
            what = f"An extension cannot be registered under {shown(key)}"
            raise ConfigurationError(what, fix="Register it under a name, as 'acme.lesson'")
        if not isinstance(extension_type, type):  # pyright: ignore[reportUnnecessaryIsInstance]
            what = f"The extension {key!r} is registered with {shown(extension_type)}, which is no class"
            raise ConfigurationError(what, fix="Register the class of its values")
        known = cls._types.get(key)
        if known is not None and _named(known) != _named(extension_type):
            what = f"The extension key {key!r} belongs to {_named(known)} and cannot be {_named(extension_type)} too"
            raise ConfigurationError(
                what, fix="Use a key with a prefix of your own, or clear() the table first"
            )
        cls._types[key] = extension_type

    @classmethod
    def get(cls, key: str) -> type[Any] | None:
        """Return the type that belongs to *key*, or None."""
        return cls._types.get(key)

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """Return every key, in the order of registration."""
        return tuple(cls._types)

    @classmethod
    def clear(cls) -> None:
        """Forget every type of this table."""
        cls._types.clear()


@final
class ExtensionHelper:
    """Reads typed values out of plain data.

    ```python
    from dataclasses import dataclass

    from stageflow.extensions import ExtensionHelper


    @dataclass
    class Lesson:
        level: int


    print(ExtensionHelper.get({"lesson": {"level": 3}}, "lesson", Lesson))
    #> Lesson(level=3)
    print(ExtensionHelper.get({}, "lesson", Lesson))
    #> None
    ```
    """

    @staticmethod
    def get(data: Mapping[str, Any] | None, key: str, extension_type: type[_T]) -> _T | None:
        """Return the value under *key*: None if there is none, and as it is unless it is a dict.

        A dict goes through the type's ``from_dict`` if it has one, and else into its constructor as keywords.

        Raises:
            ConfigurationError: A dict does not make such a value, *data* is no mapping, or the key no str.
        """
        _check_data(data, key)
        value = None if data is None else data.get(key)
        if value is None or not isinstance(value, dict) or extension_type is dict:
            return cast("_T | None", value)
        plain = cast("dict[str, Any]", value)
        make: Any = getattr(extension_type, "from_dict", None)
        try:
            made: Any = extension_type(**plain) if make is None else make(plain)
        except Exception as exc:
            what = f"The data under {key!r} makes no {_named(extension_type)}: {type(exc).__name__}: {exc}"
            raise ConfigurationError(
                what, fix="Correct the data, or give the type a from_dict that reads it"
            ) from exc
        return cast("_T", made)

    @staticmethod
    def has(data: Mapping[str, Any] | None, key: str) -> bool:
        """Return whether there is a value under *key*.

        Raises:
            ConfigurationError: *data* is no mapping, or the key no str.
        """
        _check_data(data, key)
        return data is not None and data.get(key) is not None


def _check_data(data: object, key: object) -> None:
    if data is not None and not hasattr(data, "get"):
        what = f"Extensions cannot be read from a {type(data).__name__}"
        raise ConfigurationError(what, fix="Pass a mapping, such as ctx.snapshot.extensions")
    if not isinstance(key, str):
        what = f"An extension has a name as its key, not a {type(key).__name__}"
        raise ConfigurationError(what, fix="Pass the key as a str")


def _named(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
