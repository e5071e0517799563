"""Values as JSON: whatever a stage hands over can be printed, and the text is always valid JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, time
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from stageflow.cli.terminal import speaks_unicode

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["dump", "jsonable"]

_DEEPEST: Final = 100
_NOT_PLAIN: Final = object()


def dump(value: object) -> str:
    """Return *value* as JSON text that standard output can carry."""
    return json.dumps(jsonable(value), indent=2, ensure_ascii=not speaks_unicode(sys.stdout), allow_nan=False)


def jsonable(value: object) -> Any:
    """Return *value* as what JSON knows; what it does not know becomes its ``repr``.

    ```python
    from stageflow.cli.jsonable import jsonable

    print(jsonable({"ids": {7}, "ratio": float("nan"), "raw": b"hi"}))
    #> {'ids': [7], 'ratio': 'nan', 'raw': "b'hi'"}
    ```
    """
    return _convert(value, ())


def _convert(value: object, around: tuple[int, ...]) -> Any:
    plain = _plain(value)
    if plain is not _NOT_PLAIN:
        return plain
    if id(value) in around or len(around) >= _DEEPEST:
        return "..."
    around = (*around, id(value))
    kind = type(value).__name__
    try:
        fields_ = _fields(value)
        if fields_ is not None:
            return {_key(key): _convert(one, around) for key, one in fields_.items()}
        if isinstance(value, (Sequence, AbstractSet)) and not _is_binary(value):  # pyright: ignore[reportUnknownArgumentType] - as below
            return [_convert(one, around) for one in cast("Iterable[object]", value)]
        return repr(value)  # pyright: ignore[reportUnknownArgumentType] - narrowed to unknown parts
    except Exception as exc:  # noqa: BLE001 - a value may break in any of its methods; the rest is still worth showing
        return f"<{kind}, which cannot be shown: {type(exc).__name__}>"


def _is_binary(value: object) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview))


def _plain(value: object) -> Any:
    """Return a value without parts as JSON has it; subclasses become what they are made of."""
    plain: Any = _NOT_PLAIN
    match value:
        case None | bool():
            plain = value
        case Enum():
            plain = jsonable(value.value)
        case str() | UUID() | PurePath():
            plain = str(value)
        case int():
            plain = int(value)
        case float():
            plain = float(value) if math.isfinite(value) else repr(float(value))
        case date() | time():
            plain = value.isoformat()
        case _:
            pass
    return plain


def _fields(value: object) -> Mapping[object, object] | None:
    """Return a value's parts by name, if it has names for them."""
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value)
    if isinstance(value, type):
        return None
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    dump_model: object = getattr(value, "model_dump", None)
    return cast("Mapping[object, object]", dump_model()) if callable(dump_model) else None


def _key(key: object) -> str:
    return str(key.value) if isinstance(key, Enum) else str(key)
