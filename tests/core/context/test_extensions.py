"""``ExtensionBundle``: an application's own data on a snapshot."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from stageflow.context import ArgumentTypeError, ExtensionBundle


@dataclass(frozen=True)
class Score:
    """A plain dataclass inside a bundle."""

    points: list[int]


@dataclass(frozen=True)
class Inner(ExtensionBundle):
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Lesson(ExtensionBundle):
    level: int
    inner: Inner = field(default_factory=Inner)
    score: Score | None = None
    data: dict[str, Any] = field(default_factory=dict)


def test_to_dict_is_plain_and_shares_nothing() -> None:
    lesson = Lesson(3, Inner(["a"]), Score([1]), {"k": [1]})
    data = lesson.to_dict()
    assert data == {"level": 3, "inner": {"tags": ["a"]}, "score": {"points": [1]}, "data": {"k": [1]}}
    data["data"]["k"].append(2)
    data["inner"]["tags"].append("b")
    data["score"]["points"].append(2)
    assert lesson == Lesson(3, Inner(["a"]), Score([1]), {"k": [1]})


def test_from_dict_takes_its_fields_and_ignores_other_keys() -> None:
    assert Lesson.from_dict({"level": 3, "color": "red"}) == Lesson(3)
    assert ExtensionBundle.from_dict({"a": 1}) == ExtensionBundle()
    assert ExtensionBundle().to_dict() == {}


@pytest.mark.parametrize("data", [None, [], "x", {}])
def test_from_dict_names_what_is_wrong(data: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"Lesson\.from_dict"):
        Lesson.from_dict(data)
