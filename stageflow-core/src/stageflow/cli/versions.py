"""Versions and ranges of them, as much of PEP 440 and PEP 508 as the metadata of our packages uses."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Requirement", "is_within", "parse_requirement"]

_VERSION: Final = re.compile(
    r"\s*v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)"
    r"(?:[-_.]?(?P<phase>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?P<phase_number>\d*))?"
    r"(?:(?:[-_.]?(?:post|rev|r)[-_.]?(?P<post>\d*))|-(?P<implicit_post>\d+))?"
    r"(?:[-_.]?(?P<dev>dev)[-_.]?(?P<dev_number>\d*))?"
    r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?\s*",
    re.IGNORECASE,
)
_CLAUSE: Final = re.compile(r"\s*(===|==|!=|~=|<=|>=|<|>)\s*([^\s,;]+?)(\.\*)?\s*")
_REQUIREMENT: Final = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][\w.-]*)\s*(?:\[(?P<extras>[^\]]*)\])?\s*\(?(?P<range>[^;)@]*)\)?[^;]*(?:;(?P<marker>.*))?"
)
_PHASES: Final = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}

_FINAL: Final = 3
_NO_DEVELOPMENT: Final = 1 << 62  # ordered behind every development release of the same version

_Key = tuple[int, tuple[int, ...], tuple[int, int], int, int]


class Requirement(NamedTuple):
    """What a distribution says it needs.

    Attributes:
        name: The distribution that is needed.
        range: The versions that will do, as they are written; empty for any.
        extra: The extra that needs it, or an empty string.
    """

    name: str
    range: str
    extra: str


def parse_requirement(text: str) -> Requirement | None:
    """Take a line of a distribution's metadata apart; None if it is of no form that is known here.

    ```python
    from stageflow.cli.versions import parse_requirement

    print(parse_requirement("click>=8.1; extra == 'cli'"))
    #> Requirement(name='click', range='>=8.1', extra='cli')
    ```
    """
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        return None
    extra = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", match["marker"] or "")
    return Requirement(match["name"], match["range"].strip(), extra[1] if extra else "")


def is_within(version: str, wanted: str) -> bool | None:
    """Say whether *version* is in the range *wanted*; None if one of them cannot be read.

    A pre-release counts as in the range if it is between its ends: what is installed was chosen.

    ```python
    from stageflow.cli.versions import is_within

    print(is_within("2.0.0a1", ">=2.0.0a1,<3"), is_within("3.0a1", ">=2,<3"))
    #> True False
    ```
    """
    answers = [_meets(version, clause) for clause in wanted.split(",") if clause.strip()]
    return None if None in answers else all(answers)


def _meets(version: str, clause: str) -> bool | None:
    match = _CLAUSE.fullmatch(clause)
    own, other = _key(version), _key(match[2]) if match else None
    if match is None or own is None or other is None:
        return None
    operator = match[1]
    if match[3]:  # a star at the end
        return _starts_with(own, other, _parts(match[2])) is (operator == "==")
    if operator == "~=":
        return own >= other and _starts_with(own, other, _parts(match[2])[:-1])
    equal, less = own == other, own < other
    same_release = own[:2] == other[:2]
    return {
        "==": equal,
        "===": equal,
        "!=": not equal,
        "<=": less or equal,
        ">=": not less,
        # "<3" also rules out the pre-releases of 3, unless it names one itself ...
        "<": less and not (_is_before(own) and not _is_before(other) and same_release),
        # ... and ">3" the post-releases of 3.
        ">": not less and not equal and not (other[3] < 0 <= own[3] and same_release),
    }[operator]


def _key(text: str) -> _Key | None:
    """Return what versions are ordered by; a local part (``+cu12``) does not count."""
    match = _VERSION.fullmatch(text)
    if match is None:
        return None
    release = tuple(int(part) for part in match["release"].split("."))
    while len(release) > 1 and not release[-1]:
        release = release[:-1]
    post = -1
    if match["implicit_post"] or match["post"] is not None:
        post = int(match["implicit_post"] or match["post"] or 0)
    development = int(match["dev_number"] or 0) if match["dev"] else -1
    if match["phase"]:
        phase = (_PHASES[match["phase"].lower()], int(match["phase_number"] or 0))
    elif development >= 0 and post < 0:
        phase = (-1, 0)  # 1.0.dev1 comes before 1.0a1
    else:
        phase = (_FINAL, 0)
    return (
        int(match["epoch"] or 0),
        release,
        phase,
        post,
        development if development >= 0 else _NO_DEVELOPMENT,
    )


def _is_before(key: _Key) -> bool:
    """Say whether a version comes before the one that it leads to."""
    return key[2][0] < _FINAL or key[4] != _NO_DEVELOPMENT


def _parts(text: str) -> tuple[int, ...]:
    """Return the parts of a release as they are written, with the zeros at its end."""
    match = _VERSION.fullmatch(text)
    return tuple(int(part) for part in match["release"].split(".")) if match else ()


def _starts_with(own: _Key, other: _Key, parts: tuple[int, ...]) -> bool:
    release = own[1] + (0,) * (len(parts) - len(own[1]))
    return own[0] == other[0] and release[: len(parts)] == parts
