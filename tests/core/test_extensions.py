"""Extensions: types under keys, and values read out of plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from stageflow.errors import ConfigurationError
from stageflow.extensions import ExtensionHelper, ExtensionRegistry, TypedExtension

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Lesson:
    level: int
    key = "lesson"

    def to_dict(self) -> dict[str, Any]:
        return {"level": self.level}


class Score:
    def __init__(self, points: int) -> None:
        self.points = points

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Score:
        return cls(data["points"] * 2)


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    ExtensionRegistry.clear()  # it belongs to the process: other tests may have left something
    yield
    ExtensionRegistry.clear()


def test_types_are_found_under_their_keys():
    ExtensionRegistry.register("lesson", Lesson)
    ExtensionRegistry.register("lesson", Lesson)
    assert ExtensionRegistry.get("lesson") is Lesson
    assert ExtensionRegistry.get("other") is None
    assert ExtensionRegistry.keys() == ("lesson",)
    ExtensionRegistry.clear()
    assert ExtensionRegistry.get("lesson") is None


def test_a_type_of_a_reloaded_module_takes_the_old_ones_place():
    def module() -> type[Any]:
        class Own: ...

        return Own

    old, new = module(), module()
    ExtensionRegistry.register("own", old)
    ExtensionRegistry.register("own", new)
    assert ExtensionRegistry.get("own") is new


def test_a_key_belongs_to_one_type():
    ExtensionRegistry.register("lesson", Lesson)
    with pytest.raises(ConfigurationError, match="belongs to"):
        ExtensionRegistry.register("lesson", Score)
    assert ExtensionRegistry.get("lesson") is Lesson


@pytest.mark.parametrize(
    ("key", "kind"), [("", Lesson), (1, Lesson), ("lesson", Lesson(1)), ("lesson", None)]
)
def test_bad_registrations(key: Any, kind: Any):
    with pytest.raises(ConfigurationError):
        ExtensionRegistry.register(key, kind)


def test_a_subclass_is_a_table_apart():
    class Own(ExtensionRegistry): ...

    class Other(ExtensionRegistry): ...

    Own.register("lesson", Lesson)
    assert (Own.get("lesson"), Other.get("lesson"), ExtensionRegistry.get("lesson")) == (Lesson, None, None)


def test_values_are_read_as_their_type():
    lesson = Lesson(3)
    assert ExtensionHelper.get({"lesson": lesson}, "lesson", Lesson) is lesson
    assert ExtensionHelper.get({"lesson": {"level": 3}}, "lesson", Lesson) == lesson
    score = ExtensionHelper.get({"score": {"points": 2}}, "score", Score)
    assert score is not None
    assert score.points == 4
    assert ExtensionHelper.get({"plain": {"a": 1}}, "plain", dict) == {"a": 1}
    for data in ({}, None, {"lesson": None}):
        assert ExtensionHelper.get(data, "lesson", Lesson) is None
        assert not ExtensionHelper.has(data, "lesson")
    assert ExtensionHelper.has({"lesson": lesson}, "lesson")


@pytest.mark.parametrize("data", [{"points": None}, {}, {"x": 1}])
def test_data_that_does_not_fit_is_named(data: dict[str, Any]):
    with pytest.raises(ConfigurationError, match="'score'"):
        ExtensionHelper.get({"score": data}, "score", Score)


def test_a_typed_extension_is_known_by_its_shape():
    assert isinstance(Lesson(1), TypedExtension)
    assert not isinstance(Score(1), TypedExtension)
