"""Tools' names as providers take them: letters, digits, ``_`` and ``-``, at most 64 of them."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, final

from stageflow.context.checks import items_of, wrong_value

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WireNames"]

_TAKEN_AS_IT_IS: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NO_SIGNS: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST: Final = 64
_DIGITS: Final = 8


@final
class WireNames:
    """The names of some tools, each with the name by which providers know it, and back.

    A name that providers take stays as it is. In any other, a dot becomes ``__`` and whatever else is not allowed
    ``_``; if that is too long, or another tool's, it ends in digits that depend on the name. So no two tools have the
    same, and which one a tool has does not depend on the order of the names.

    Args:
        names: The names of the tools.

    Raises:
        ArgumentTypeError: They are not texts.
        ArgumentValueError: One is empty.

    ```python
    from stageflow_tools.wire_names import WireNames

    names = WireNames(["add", "text.length", "mail.send"])
    print([names.wire(name) for name in ("add", "text.length")])
    #> ['add', 'text__length']
    print(names.original("mail__send"), names.original("mail.send"))
    #> mail.send None
    ```
    """

    __slots__ = ("_originals", "_wires")

    def __init__(self, names: Iterable[str]) -> None:
        every: list[str] = sorted(set(items_of(type(self).__name__, "names", names, str)))
        if "" in every:
            raise wrong_value(type(self).__name__, "names", "must not have an empty one", "")
        self._wires = {name: name for name in every if _TAKEN_AS_IT_IS.fullmatch(name)}
        others = [name for name in every if name not in self._wires]
        plain = {name: _NO_SIGNS.sub("_", name.replace(".", "__")) for name in others}
        wanted = list(plain.values())
        for name, wire in plain.items():
            is_free = len(wire) <= _LONGEST and wire not in self._wires and wanted.count(wire) == 1
            plain[name] = wire if is_free else ""
        taken = {*self._wires, *plain.values()}
        for name in others:
            self._wires[name] = plain[name] or _with_digits(name, taken)
        self._originals = {wire: name for name, wire in self._wires.items()}

    def wire(self, name: str) -> str:
        """Return the name by which providers know a tool.

        Args:
            name: The tool's own.

        Raises:
            ArgumentValueError: It is none of the names.
        """
        try:
            return self._wires[name]
        except KeyError:
            raise wrong_value("WireNames.wire", "name", "is not among the names", name) from None

    def original(self, wire: str) -> str | None:
        """Return the tool's own name, or None if providers know no tool by that one.

        Args:
            wire: What a provider has sent.
        """
        return self._originals.get(wire)

    def __len__(self) -> int:
        return len(self._wires)

    def __repr__(self) -> str:
        return f"<WireNames of {len(self._wires)} tools>"


def _with_digits(name: str, taken: set[str]) -> str:
    """Return a name that is nobody's, and is the same whenever the others are."""
    digest = sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    plain = _NO_SIGNS.sub("_", name.replace(".", "__"))
    count = _DIGITS
    while True:
        wire = f"{plain[: _LONGEST - count - 1]}_{digest[:count]}"
        if wire not in taken:
            taken.add(wire)
            return wire
        count += 1
