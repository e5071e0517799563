"""The lines on which the keys of a TOML document stand, which ``tomllib`` does not tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["KeyPath", "key_lines"]

KeyPath: TypeAlias = "tuple[str, ...]"

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACES: Final = re.compile(r"[ \t]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
# The longer quotes first: "" would be taken for an empty string before \"\"\".
_STRING: Final = re.compile(
    r"""
    "{3} (?:[^\\]|\\.)*? "{3,5} (?!") | '{3} .*? '{3,5} (?!')
    | " (?:[^"\\\n]|\\.)* " | ' [^'\n]* '
    """,
    re.DOTALL | re.VERBOSE,
)


def key_lines(text: str) -> Mapping[KeyPath, int]:
    r"""Return the line of each table and key of a document, from 1.

    What an inline table or an array holds stands where the table or the array begins, and is not listed; nor is what is
    in an array of tables.

    Args:
        text: A document that ``tomllib`` has read without an error; of anything else, the result is of no use.

    ```python
    from stageflow.config.positions import key_lines

    print(key_lines(chr(10).join(["[acme]", "# a comment", "retries = 3"])))
    #> {('acme',): 1, ('acme', 'retries'): 3}
    ```
    """
    return _Scanner(text).scan()


@final
class _Scanner:
    """Steps from statement to statement; what stands in between is known to be sound."""

    __slots__ = ("_arrays", "_at", "_found", "_line", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._found: dict[KeyPath, int] = {}
        self._arrays: set[KeyPath] = set()

    def scan(self) -> Mapping[KeyPath, int]:
        prefix: KeyPath = ()
        while self._skip(_BLANK) or self._at < len(self._text):
            if self._at >= len(self._text):
                break
            line = self._line
            if self._text[self._at] == "[":
                prefix = self._header(line)
                continue
            key = (*prefix, *self._key())
            self._note(key, line)
            self._value()
        return self._found

    def _header(self, line: int) -> KeyPath:
        array = self._text.startswith("[[", self._at)
        self._move(2 if array else 1)
        path = self._key()
        self._move(2 if array else 1)
        if array and not self._in_array(path[:-1]):
            self._found.setdefault(path, line)
            self._arrays.add(path)
        else:
            self._note(path, line)
        return path

    def _note(self, path: KeyPath, line: int) -> None:
        """Note a key, and the tables that a dotted key makes, unless they are noted or within an array of tables."""
        if not self._in_array(path):
            for length in range(1, len(path) + 1):
                self._found.setdefault(path[:length], line)

    def _in_array(self, path: KeyPath) -> bool:
        return any(path[:length] in self._arrays for length in range(1, len(path) + 1))

    def _key(self) -> KeyPath:
        parts: list[str] = []
        while True:
            self._skip(_SPACES)
            match = _STRING.match(self._text, self._at) or _BARE.match(self._text, self._at)
            if match is None:
                return tuple(parts)
            parts.append(_unquoted(match[0]))
            self._move(len(match[0]))
            self._skip(_SPACES)
            if not self._text.startswith(".", self._at):
                return tuple(parts)
            self._move(1)

    def _value(self) -> None:
        """Step over the equals sign and the value, to the end of its last line."""
        depth = 0
        while self._at < len(self._text):
            sign = self._text[self._at]
            if sign == "\n" and not depth:
                return
            if sign == "#":
                self._skip(re.compile(r"[^\n]*"))
            elif sign in "\"'":
                self._skip(_STRING)
            else:
                depth += (sign in "[{") - (sign in "]}")
                self._move(1)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        length = 0 if match is None else len(match[0])
        self._move(length)
        return length > 0

    def _move(self, length: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + length)
        self._at += length


def _unquoted(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] != '"':
        return key
    import tomllib  # only for quoted keys: it knows every escape

    return next(iter(tomllib.loads(f"{key} = 0")))
