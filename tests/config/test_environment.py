"""Variables: how a name becomes a key, and a text what the model wants there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import AliasChoices, BaseModel, Field, SecretStr
from stageflow.config import SettingsError


class Cache(BaseModel):
    size: int = 1
    hosts: list[str] = []


class Everything(BaseModel):
    number: int = 0
    ratio: float | None = None
    flag: bool = False
    text: str = ""
    words: list[str] = []
    places: tuple[int, ...] = ()
    kinds: set[Literal["a", "b"]] | None = None
    either: str | list[str] = ""
    limits: dict[str, int] = {}
    cache: Cache = Cache()
    caches: list[Cache] = []
    anything: Any = None
    noted: Annotated[list[int], Field(max_length=3)] = []
    secret: SecretStr = SecretStr("")
    other_name: int = Field(0, validation_alias=AliasChoices("max-size", "maxSize"))


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("NUMBER", "5", "number", 5),
        ("RATIO", "1e3", "ratio", 1000.0),
        ("FLAG", "off", "flag", False),
        ("TEXT", '{"plain": [text', "text", '{"plain": [text'),
        ("TEXT", "[1, 2]", "text", "[1, 2]"),
        ("TEXT", "", "text", ""),
        ("WORDS", "a, b,,", "words", ["a", "b"]),
        ("WORDS", ' ["a, b", "c"] ', "words", ["a, b", "c"]),
        ("WORDS", "", "words", []),
        ("PLACES", "1,2", "places", (1, 2)),
        ("KINDS", "b", "kinds", {"b"}),
        ("EITHER", "a, b", "either", "a, b"),
        ("EITHER", '["a", "b"]', "either", ["a", "b"]),
        ("EITHER", "[a", "either", "[a"),
        ("LIMITS", '{"a": 1, "B": 2}', "limits", {"a": 1, "B": 2}),
        ("LIMITS__A", "1", "limits", {"a": 1}),
        ("CACHE__SIZE", "7", "cache", Cache(size=7)),
        ("CACHE__HOSTS", "x,y", "cache", Cache(hosts=["x", "y"])),
        ("CACHE", '{"size": 3}', "cache", Cache(size=3)),
        ("CACHES", '[{"size": 3}]', "caches", [Cache(size=3)]),
        ("ANYTHING", "a, b", "anything", "a, b"),
        ("ANYTHING", "[1]", "anything", [1]),
        ("NOTED", "1, 2", "noted", [1, 2]),
        ("SECRET", "{a", "secret", SecretStr("{a")),
        ("MAX_SIZE", "4", "other_name", 4),
    ],
)
def test_a_text_is_what_the_model_wants(find, variable: str, text: str, name: str, value: object) -> None:
    read = find(**{f"STAGEFLOW_ACME__{variable}": text}).read("acme", Everything)
    assert read.model_dump(exclude_unset=True).keys() == {name}
    assert getattr(read, name) == value


def test_a_table_and_its_keys_are_merged_the_more_special_last(find) -> None:
    config = find(
        STAGEFLOW_ACME__LIMITS__A="9",
        STAGEFLOW_ACME__LIMITS='{"a": 1, "b": 2}',
        STAGEFLOW_ACME__CACHE__SIZE="2",
    )
    read = config.read("acme", Everything)
    assert (read.limits, read.cache.size) == ({"a": 9, "b": 2}, 2)
    origins = {one.path: str(one.origin) for one in config.section("acme", Everything).settings}
    assert origins["acme.limits.a"] == "STAGEFLOW_ACME__LIMITS__A"
    assert origins["acme.limits.b"] == "STAGEFLOW_ACME__LIMITS"
    assert origins["acme.cache.hosts"] == "default"


def test_a_section_with_a_dash_and_one_within_another(find) -> None:
    config = find(STAGEFLOW_MY_ACME__NUMBER="1", STAGEFLOW_MY_ACME__CACHE__SIZE="5")
    assert config.read("my-acme", Everything, inner=["my-acme.cache"]).number == 1
    assert config.read("my-acme.cache", Cache).size == 5
    assert config.mentions("my-acme.cache")
    assert not config.mentions("my-acme.cache.size")


def test_other_variables_are_not_meant(find) -> None:
    config = find(
        STAGEFLOW_PLUGINS="a", STAGEFLOW_ACME="1", ACME__NUMBER="1", STAGEFLOW___X="1", STAGEFLOW_ACME__="1"
    )
    assert dict(config.sections) == {}


def test_the_process_s_environment_is_read_by_default(monkeypatch) -> None:
    from stageflow.config import Configuration

    monkeypatch.setenv("STAGEFLOW_ACME__NUMBER", "6")
    assert Configuration.find().read("acme", Everything).number == 6
    assert Configuration().read("acme", Everything).number == 0


def test_what_is_no_json(find) -> None:
    with pytest.raises(SettingsError) as caught:
        find(STAGEFLOW_ACME__CACHE="{size: 3}").read("acme", Everything)
    assert str(caught.value) == (
        "[SF-CONFIG-VALUE] acme.cache is no JSON (STAGEFLOW_ACME__CACHE): expecting property name enclosed in double "
        'quotes, column 2. What to do: Set STAGEFLOW_ACME__CACHE to JSON, such as \'["a", "b"]\' for a list or '
        "'{\"key\": 1}' for a table. Docs: docs/reference/errors/SF-CONFIG-VALUE.md"
    )
    with pytest.raises(SettingsError, match="too deep"):
        find(STAGEFLOW_ACME__WORDS="[" * 100_000).read("acme", Everything)


def test_an_unknown_key_is_told_with_its_variable(find) -> None:
    with pytest.raises(SettingsError) as caught:
        find(STAGEFLOW_ACME__NUMBR="1").read("acme", Everything)
    assert str(caught.value) == (
        "[SF-CONFIG-KEY] Section 'acme' has no key 'numbr' (STAGEFLOW_ACME__NUMBR). What to do: Did "
        "you mean 'number'? "
        "Docs: docs/reference/errors/SF-CONFIG-KEY.md"
    )
