"""``SettingsConformance``: what every section of the configuration promises, as tests."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, ClassVar, Final, get_args

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from stageflow.lazy import LazyRef
from stageflow.testing.conformance.suite import Suite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo

__all__ = ["SettingsConformance"]

_SECRET: Final = re.compile(
    r"(^|_)(api_?key|credentials?|password|passphrase|private_key|secret|token)($|_)", re.IGNORECASE
)
_SAMPLE: Final = "swordfish-7"


class SettingsConformance(Suite):
    """Derive from it in a module of tests, name the model, and inherit the tests.

    Attributes:
        model: The pydantic model, or where it is, as ``"stageflow_acme.settings:AcmeSettings"``.
        example: Values for the fields that are required.

    ```python
    from pydantic import BaseModel, ConfigDict, Field, SecretStr
    from stageflow.testing.conformance import SettingsConformance


    class AcmeSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

        greeting: str = Field("Hello", description="What a run begins with.")
        api_key: SecretStr = Field(description="The key of the account; required.")


    class TestSettings(SettingsConformance):
        model = AcmeSettings
        example = {"api_key": "k-1"}
    ```
    """

    contract: ClassVar[str] = "settings section"
    model: ClassVar[type[BaseModel] | str]
    example: ClassVar[Mapping[str, Any]] = {}

    # --- what it says -----------------------------------------------------------------------------------

    def test_it_is_a_model(self) -> None:
        """It is a class of pydantic models, and its JSON schema can be written."""
        model = self._model()
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        model.model_json_schema()

    def test_every_field_is_described(self) -> None:
        """Every field, also of the models inside, has a description, which ``config show`` prints."""
        silent = [path for path, field in self._fields() if not (field.description or "").strip()]
        assert not silent, f"these fields have no description: {', '.join(silent)}"

    def test_every_field_has_a_default_or_says_that_it_is_required(self) -> None:
        """A field without a default says in its description that it is required."""
        unsaid = [
            path
            for path, field in self._fields()
            if field.is_required() and "required" not in (field.description or "").lower()
        ]
        assert not unsaid, f"these fields have no default, and do not say 'required': {', '.join(unsaid)}"

    # --- what it takes ----------------------------------------------------------------------------------

    def test_the_defaults_are_valid(self) -> None:
        """An empty section, with what is required, is valid, and its defaults are what the fields themselves take."""
        made = self._made()
        self._model().model_validate({name: getattr(made, name) for name in self._model().model_fields})

    def test_an_unknown_key_is_refused(self) -> None:
        """A key that no field has is an error: else a misspelt setting would be none."""
        with pytest.raises(ValidationError):
            self._made(no_such_setting=1)

    def test_a_required_key_is_asked_for(self) -> None:
        """Without a required key there is an error that names it."""
        required = [name for name, field in self._model().model_fields.items() if field.is_required()]
        if not required:
            pytest.skip("no field is required")
        for name in required:
            given = {key: value for key, value in self.example.items() if key != name}
            with pytest.raises(ValidationError, match=re.escape(name)):
                self._model().model_validate(given)

    def test_values_from_the_environment_are_taken(self) -> None:
        """Texts are taken for numbers, booleans and texts, since environment variables are texts."""
        made = self._made()
        for name in self._model().model_fields:
            value: object = getattr(made, name)
            if isinstance(value, (bool, int, float, str)):
                text = str(value).lower() if isinstance(value, bool) else str(value)
                assert getattr(self._made(**{name: text}), name) == value, f"{name} does not take {text!r}"

    # --- what it keeps ----------------------------------------------------------------------------------

    def test_secrets_are_masked(self) -> None:
        """A field whose name says that it is a secret is a ``SecretStr`` or ``SecretBytes``, which prints as stars."""
        open_ = [
            path
            for path, field in self._fields()
            if _SECRET.search(path.rpartition(".")[2]) and _may_hold_text(field.annotation)
        ]
        assert not open_, f"these fields print what they hold: {', '.join(open_)}"

    def test_it_reads_nothing_by_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """It takes its values from what it is given: Stageflow reads files and environment, and says which won."""
        before = self._made()
        for path, _ in self._fields():
            monkeypatch.setenv(path.replace(".", "__").upper(), _SAMPLE)
        assert self._made() == before
        assert _SAMPLE in os.environ.values() or not self._model().model_fields

    def test_two_of_it_share_nothing(self) -> None:
        """A list or mapping that is changed in one is not changed in the next."""
        first, again = self._made(), self._made()
        for name in self._model().model_fields:
            value: object = getattr(first, name)
            if isinstance(value, (list, dict, set)):
                assert value is not getattr(again, name), f"{name} is one object for all"

    # --- how it is proved -------------------------------------------------------------------------------

    def _model(self) -> type[BaseModel]:
        if not isinstance(self.model, str):
            return self.model
        model: type[BaseModel] = LazyRef(self.model, asked_by=type(self).__name__).resolve()
        return model

    def _made(self, **values: Any) -> BaseModel:
        return self._model().model_validate({**self.example, **values})

    def _fields(self) -> Iterator[tuple[str, FieldInfo]]:
        return _walk(self._model(), "", ())


def _walk(
    model: type[BaseModel], prefix: str, around: tuple[type[BaseModel], ...]
) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the fields of a model, and of the models inside, each with its path."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        for inner in _models_in(field.annotation):
            if inner not in around:
                yield from _walk(inner, f"{prefix}{name}.", (*around, model))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _may_hold_text(annotation: Any) -> bool:
    """Say whether a field may hold a plain text; a number, as a limit of tokens, gives nothing away."""
    parts = get_args(annotation)
    if parts:
        return any(_may_hold_text(part) for part in parts)
    if annotation in (SecretStr, SecretBytes):
        return False
    return annotation in (str, bytes, Any, object)
