"""``ExtensionBundle``: a base for an application's own typed extensions."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from stageflow.context.checks import ArgumentTypeError, require_mapping
from stageflow.context.frozen import thaw

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["ExtensionBundle"]


@dataclass(frozen=True)
class ExtensionBundle:
    """The base of an application's own data on a snapshot: subclass it as a frozen dataclass.

    ```python
    from dataclasses import dataclass
    from stageflow.context import ContextSnapshot, ExtensionBundle

    @dataclass(frozen=True)
    class Lesson(ExtensionBundle):
        level: int = 1

    data = ContextSnapshot(extensions=Lesson(3)).to_dict()
    print(data["extensions"], data["extensions_type"])
    #> {'level': 3} Lesson
    print(ContextSnapshot.from_dict(data, {"Lesson": Lesson}).extensions)
    #> Lesson(level=3)
    ```
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data; values that are bundles or dataclasses themselves become dicts."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a bundle of the keys that are its fields; other keys are ignored.

        Override it where fields need more than their plain value.

        Raises:
            ArgumentTypeError: *data* is no mapping, or a field without a default is missing.
        """
        owner = f"{cls.__name__}.from_dict"
        data = require_mapping(owner, "data", data)
        known = {field.name: data[field.name] for field in fields(cls) if field.init and field.name in data}
        try:
            return cls(**known)
        except TypeError as exc:
            raise ArgumentTypeError(owner, "data", f"does not make a {cls.__name__}: {exc}") from exc


def _plain(value: Any) -> Any:
    if isinstance(value, ExtensionBundle):
        return value.to_dict()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return thaw(value)
