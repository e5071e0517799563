"""Reading a section: what is wrong with a value, every message whole, and that no secret is in any of them."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretBytes, SecretStr, field_validator, model_validator
from stageflow.config import MASK, Configuration, SettingsError
from stageflow.config.secrets import looks_secret

SECRET = "swordfish-7"  # noqa: S105 - it opens nothing


class Cache(BaseModel):
    size: int = Field(1, description="How many entries are kept.")
    login: str = ""


class Acme(BaseModel):
    model_config = ConfigDict(extra="forbid")

    retries: int = Field(3, ge=0, description="How often to try again.")
    mode: Literal["fast", "safe"] = "safe"
    either: int | list[int] = 0
    cache: Cache = Cache()
    caches: list[Cache] = []
    named: dict[str, Cache] = {}
    api_key: str = ""
    pin: SecretStr = SecretStr("")
    raw: SecretBytes = SecretBytes(b"")
    keys: list[SecretStr] = []
    url: str = ""
    token_limit: int = 9

    @field_validator("api_key", "mode", mode="before")
    @classmethod
    def _sound(cls, value: str) -> str:
        if value.startswith("sword"):
            msg = f"{value} is not a key"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _together(self) -> Acme:
        if self.url == "bad":
            msg = f"the key {self.api_key} and the pin {self.pin.get_secret_value()} do not go with bad."
            raise ValueError(msg)
        if self.url == "worse":
            msg = f"with {self.api_key}"
            raise KeyError(msg)
        return self


class Needy(BaseModel):
    host: str
    cache: Cache
    caches: list[dict[str, Cache]] = []


def refused(values: Any, model: type[BaseModel] = Acme) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        Configuration({"acme": values}).read("acme", model)
    return caught.value


@pytest.mark.parametrize(
    ("values", "message", "fix"),
    [
        (
            {"retries": "many"},
            "acme.retries is 'many' (code): it should be a valid integer, unable to parse string as an integer",
            "Correct it where the program sets it. retries: How often to try again.",
        ),
        (
            {"retries": -1},
            "acme.retries is -1 (code): it should be greater than or equal to 0",
            "Correct it where the program sets it. retries: How often to try again.",
        ),
        (
            {"mode": "quick"},
            "acme.mode is 'quick' (code): it should be 'fast' or 'safe'",
            "Correct it where the program sets it",
        ),
        (
            {"either": "x"},
            (
                "acme.either is 'x' (code): it should be a valid integer, unable to parse string as "
                "an integer; or it should "
                "be a valid list"
            ),
            "Correct it where the program sets it",
        ),
        (
            {"cache": {"size": [1]}},
            "acme.cache.size is a list (code): it should be a valid integer",
            "Correct it where the program sets it. size: How many entries are kept.",
        ),
        (
            {"caches": [{}, {"size": {"a": 1}}]},
            "acme.caches.1.size is a table (code): it should be a valid integer",
            "Correct it where the program sets it. size: How many entries are kept.",
        ),
        (
            {"cache": 5},
            "acme.cache is 5 (code): it should be a valid dictionary or instance of Cache",
            "Correct it where the program sets it",
        ),
        ({"retires": 1}, "Section 'acme' has no key 'retires' (code)", "Did you mean 'retries'?"),
        ({"cache": {"zzz": 1}}, "Table 'acme.cache' has no key 'zzz' (code)", "It has 'size', 'login'"),
        ({"caches": [{"siz": 1}]}, "Table 'acme.caches.0' has no key 'siz' (code)", "Did you mean 'size'?"),
        (
            {"named": {"x": {"siz": 1}}},
            "Table 'acme.named.x' has no key 'siz' (code)",
            "Did you mean 'size'?",
        ),
        (7, "acme is 7 (code), and not a table", "Write [acme], and its keys below it"),
        (
            {"url": "x" * 200, "retries": "y" * 200},
            (
                f"acme.retries is '{'y' * 76}... (code): it should be a valid integer, unable to parse "
                "string as an integer"
            ),
            "Correct it where the program sets it. retries: How often to try again.",
        ),
        # --- secrets
        (
            {"pin": 5},
            f"acme.pin is {MASK} (code): it should be a valid string",
            "Correct it where the program sets it",
        ),
        (
            {"api_key": 5},
            (
                "Section 'acme' cannot be checked: its model raised AttributeError: 'int' object has no "
                "attribute 'startswith'"
            ),
            "Update the plugin, or tell its authors",
        ),
        (
            {"api_key": SECRET},
            f"acme.api_key is {MASK} (code): {MASK} is not a key",
            "Correct it where the program sets it",
        ),
        (
            {"url": "bad", "api_key": "opens-it", "pin": SECRET},
            f"Section 'acme' is not valid (code): the key {MASK} and the pin {MASK} do not go with bad",
            "Correct it where the program sets it",
        ),
        (
            {"url": "worse", "api_key": "opens-it"},
            f"Section 'acme' cannot be checked: its model raised KeyError: 'with {MASK}'",
            "Update the plugin, or tell its authors",
        ),
        (
            {"keys": [SECRET, 5]},
            f"acme.keys.1 is {MASK} (code): it should be a valid string",
            "Correct it where the program sets it",
        ),
        (
            {"retries": "db://ada:lovelace@host"},
            (
                f"acme.retries is 'db://ada:{MASK}@host' (code): it should be a valid integer, unable "
                "to parse string as an "
                "integer"
            ),
            "Correct it where the program sets it. retries: How often to try again.",
        ),
    ],
)
def test_what_is_wrong_with_a_value(values: Any, message: str, fix: str) -> None:
    error = refused(values)
    assert (error.what, error.fix) == (message, fix)
    whole = repr(error) + str(error) + "".join(traceback.format_exception(error))
    for secret in (SECRET, "opens-it", "lovelace"):
        assert secret not in whole


def test_what_is_required(write, find) -> None:
    error = refused({"caches": [{"a": {"size": 1}}]}, Needy)
    assert [(one.message, one.fix) for one in error.problems] == [
        (
            "acme.host is required, and nothing sets it",
            "Set 'host' in [acme] of stageflow.toml, or STAGEFLOW_ACME__HOST",
        ),
        (
            "acme.cache is required, and nothing sets it",
            "Set 'cache' in [acme] of stageflow.toml, or STAGEFLOW_ACME__CACHE",
        ),
    ]


def test_an_error_says_the_same_after_copying_and_pickling() -> None:
    error = refused({"retries": "many", "zzz": 1})
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(again) == str(error)
        assert again.problems == error.problems
        assert again.code == "SF-CONFIG-INVALID"


def test_what_is_shown_holds_no_secret_either(write, find) -> None:
    write(
        "stageflow.toml",
        f"""
        [acme]
        api_key = "my-{SECRET}"
        pin = "{SECRET}"
        raw = "{SECRET}"
        keys = ["{SECRET}"]
        url = "postgresql://ada:{SECRET}@host/db"
        caches = [{{ login = "x://a:{SECRET}@b" }}]
        [acme.named.password]
        login = "{SECRET}"
        """,
    )
    config = find()
    section = config.section("acme", Acme)
    shown = {one.path: (one.value, str(one.origin)) for one in section.settings}
    assert shown == {
        "acme.retries": (3, "default"),
        "acme.mode": ("safe", "default"),
        "acme.either": (0, "default"),
        "acme.cache.size": (1, "default"),
        "acme.cache.login": ("", "default"),
        "acme.caches": ([{"size": 1, "login": f"x://a:{MASK}@b"}], "stageflow.toml:8"),
        "acme.named.password.size": (MASK, "default"),
        "acme.named.password.login": (MASK, "stageflow.toml:10"),
        "acme.api_key": (MASK, "stageflow.toml:3"),
        "acme.pin": (MASK, "stageflow.toml:4"),
        "acme.raw": (MASK, "stageflow.toml:5"),
        "acme.keys": (MASK, "stageflow.toml:6"),
        "acme.url": (f"postgresql://ada:{MASK}@host/db", "stageflow.toml:7"),
        "acme.token_limit": (9, "default"),
    }
    assert SECRET not in f"{config!r} {section!r} {section.settings!r}"


@pytest.mark.parametrize(
    "key", ["token", "apiKey", "API_KEY", "db-password", "client_secret", "private_key", "Authorization"]
)
def test_names_of_secrets(key: str) -> None:
    assert looks_secret(key)


@pytest.mark.parametrize(
    "key", ["max_tokens", "token_limit", "sort_key", "key", "tokenizer", "secretary", "passing"]
)
def test_names_of_none(key: str) -> None:
    assert not looks_secret(key)


def test_a_model_that_takes_more_keys_gets_them() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")

    config = Configuration({"acme": {"any": {"thing": 1}, "password": SECRET}})
    assert config.read("acme", Open).model_extra == {"any": {"thing": 1}, "password": SECRET}
    shown = {one.path: one.value for one in config.section("acme", Open).settings}
    assert shown == {"acme.any.thing": 1, "acme.password": MASK}


def test_a_section_within_a_section_is_not_a_key_of_it() -> None:
    config = Configuration({"acme": {"retries": 1, "deep": {"x": 1, "cache": {"size": 4}}}})
    assert config.section("acme", Acme, inner=["acme.deep.cache"]).problems[0].path == "acme.deep"
    config = Configuration({"acme": {"retries": 1, "deep": {"cache": {"size": 4}}}})
    assert config.read("acme", Acme, inner=["acme.deep.cache"]).retries == 1
    assert config.read("acme.deep.cache", Cache).size == 4


def test_values_that_code_gives_are_kept_as_they_are() -> None:
    key = SecretStr(SECRET)
    assert Configuration({"acme": {"pin": key}}).read("acme", Acme).pin is key
    with pytest.raises(Exception, match="A configuration cannot be made of a list") as caught:
        Configuration([])  # type: ignore[arg-type]
    assert caught.value.fix == 'Pass a mapping of sections, as {"acme": {"retries": 3}}'
    with pytest.raises(Exception, match="sections 'a', 5, whose names are not all texts"):
        Configuration({"a": {}, 5: {}})  # type: ignore[dict-item]


def test_what_is_nested_without_an_end_is_an_error_and_no_crash(find) -> None:
    round_: dict[str, Any] = {}
    round_["round"] = round_
    assert refused(round_).what == "Section 'acme' cannot be read: something in it is nested too deeply"

    class Loose(BaseModel):
        any: Any = None

    deep = find(STAGEFLOW_ACME__ANY="[" * 700 + "]" * 700)
    section = deep.section("acme", Loose)
    assert section.problems or section.settings


def test_thousands_of_keys_are_merged_in_a_moment() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")

    many = {"acme": {f"key{number}": number for number in range(20_000)}}
    values = Configuration(many).read("acme", Loose).model_extra
    assert values is not None
    assert len(values) == 20_000
