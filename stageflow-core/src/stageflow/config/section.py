"""``Section``: one table of the configuration, read through its model: its values, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, final

from stageflow.config.environment import variable_of
from stageflow.config.fields import is_model, keys_of, shapes_at
from stageflow.config.layers import table_of
from stageflow.config.origin import Origin, OriginKind
from stageflow.config.problems import KEY_CODE, VALUE_CODE, SettingsError, SettingsProblem
from stageflow.config.secrets import MASK, looks_secret, masked, scrubbed, texts_in
from stageflow.errors import close_matches, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

    from stageflow.config.layers import Merged, ValuePath

__all__ = ["Section", "Setting", "read_section"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One value, as it may be shown, and where it comes from."""

    path: str
    """The key, as ``acme.cache.size``."""

    value: object
    """The value, as the model has it; a secret is masked."""

    origin: Origin
    secret: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the setting as plain data, for JSON."""
        return {
            "key": self.path,
            "value": self.value,
            "secret": self.secret,
            "origin": {"text": str(self.origin), **self.origin.to_dict()},
        }


@final
class Section:
    """One section, read through its model.

    Attributes:
        name: The section, as ``acme`` or ``acme.cache``.
        problems: What is wrong with it.
        settings: Its values for people to read; none if something is wrong.
    """

    __slots__ = ("_values", "name", "problems", "settings")

    def __init__(
        self,
        name: str,
        values: BaseModel | None,
        settings: Iterable[Setting],
        problems: Iterable[SettingsProblem],
    ) -> None:
        self.name = name
        self._values = values
        self.settings = tuple(settings)
        self.problems = tuple(problems)

    @property
    def values(self) -> BaseModel:
        """The validated model.

        Raises:
            SettingsError: Something is wrong with the section.
        """
        if self._values is None or self.problems:
            raise SettingsError(self.problems)
        return self._values

    def __repr__(self) -> str:
        return f"<Section {self.name!r}, {len(self.problems)} problems>"


def read_section(
    name: str,
    model: type[BaseModel],
    merged: Merged,
    *,
    inner: Iterable[str] = (),
    problems: Iterable[SettingsProblem] = (),
) -> Section:
    """Check the values of a section, and make its model.

    Args:
        name: The section.
        model: Its model.
        merged: The values of all sections.
        inner: Sections within this one, as ``acme.cache`` is within ``acme``; their tables are not its keys.
        problems: What is already known to be wrong with it.
    """
    found = [*problems]
    path = tuple(name.split("."))
    tree = _table(path, merged, found)
    for other in inner:
        tree = _without(tree, tuple(other.split("."))[len(path) :])
    reader = _Reader(path, model, merged, tree)
    known = reader.known_part(found)
    values, refused = _validated(model, known)
    if isinstance(refused, str):
        message = scrubbed(f"Section {name!r} cannot be checked: its model raised {refused}", reader.secrets)
        found.append(
            SettingsProblem(
                code=VALUE_CODE, message=message, fix="Update the plugin, or tell its authors", path=name
            )
        )
    else:
        found += reader.problems_of(refused)
    settings = reader.settings_of(values) if values is not None and not found else ()
    return Section(name, values if not found else None, settings, found)


def _validated(
    model: type[BaseModel], tree: Mapping[str, Any]
) -> tuple[BaseModel | None, list[dict[str, Any]] | str]:
    """Return the model's instance, or what pydantic says, or what the model's own code raised.

    The exceptions end here: they hold the values, and a traceback would print them.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(tree), []
    except ValidationError as exc:
        return None, cast("list[dict[str, Any]]", exc.errors(include_url=False, include_context=False))
    except Exception as exc:  # noqa: BLE001 - a validator of somebody else's
        text = " ".join(str(exc).split())
        return None, f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def _table(path: ValuePath, merged: Merged, problems: list[SettingsProblem]) -> dict[str, Any]:
    tree = merged.tree
    for length, part in enumerate(path, 1):
        value: Any = tree.get(part, {})
        table = table_of(value)
        if table is None:
            at = path[:length]
            origin = merged.origin_of(at)
            shown_value = shown(masked(value, secret=any(map(looks_secret, at))))
            problems.append(
                SettingsProblem(
                    code=VALUE_CODE,
                    message=f"{'.'.join(at)} is {shown_value} ({origin}), and not a table",
                    fix=f"Write [{'.'.join(at)}], and its keys below it",
                    path=".".join(at),
                    origin=origin,
                )
            )
            return {}
        tree = table
    return tree


def _without(tree: dict[str, Any], path: ValuePath) -> dict[str, Any]:
    """Return a table without what is at *path*; tables on the way that are empty then go too."""
    first, *more = path
    if first not in tree:
        return tree
    rest = {key: value for key, value in tree.items() if key != first}
    table = table_of(tree[first])
    left = _without(table, tuple(more)) if more and table is not None else None
    return {**rest, first: left} if left else rest


class _Reader:
    """Knows, for one section, which keys there are, what is a secret, and where everything was written."""

    def __init__(self, path: ValuePath, model: type[BaseModel], merged: Merged, tree: dict[str, Any]) -> None:
        self._path = path
        self._model = model
        self._merged = merged
        self._tree = tree
        self.secrets = [
            text for at, value in self._leaves(tree, ()) if self._is_secret(at) for text in texts_in(value)
        ]

    # --- keys -------------------------------------------------------------------------------------

    def known_part(self, problems: list[SettingsProblem]) -> dict[str, Any]:
        """Return the values without the keys that the model does not have, each of which is a problem."""
        return self._known_keys(self._tree, (), problems)

    def _known(self, value: Any, at: ValuePath, problems: list[SettingsProblem]) -> Any:
        table = table_of(value)
        if table is not None:
            return self._known_keys(table, at, problems)
        parts = _parts_of(value)
        if parts is None:
            return value
        return [self._known(one, (*at, str(index)), problems) for index, one in enumerate(parts)]

    def _known_keys(
        self, table: dict[str, Any], at: ValuePath, problems: list[SettingsProblem]
    ) -> dict[str, Any]:
        models = shapes_at(self._model, at).models
        keys: Mapping[str, object] | None = None
        # Of several models pydantic finds out which is meant, and says so.
        if len(models) == 1 and models[0].model_config.get("extra") != "allow":
            keys = keys_of(models[0])
        kept: dict[str, Any] = {}
        for key, one in table.items():
            if keys is not None and key not in keys:
                problems.append(self._unknown(key, at, keys))
            else:
                kept[key] = self._known(one, (*at, str(key)), problems)
        return kept

    def _unknown(self, key: object, at: ValuePath, keys: Iterable[str]) -> SettingsProblem:
        path = (*self._path, *at, str(key))
        origin = self._merged.origin_of(path)
        where = ".".join((*self._path, *at))
        label = "Section" if not at else "Table"
        names = list(keys)
        fix = close_matches(str(key), names) or (
            f"It has {', '.join(map(repr, names))}" if names else "It has no keys"
        )
        return SettingsProblem(
            code=KEY_CODE,
            message=f"{label} {where!r} has no key {shown(key)} ({origin})",
            fix=fix,
            path=".".join(path),
            origin=origin,
        )

    # --- values -----------------------------------------------------------------------------------

    def problems_of(self, refused: Iterable[dict[str, Any]]) -> list[SettingsProblem]:
        """Return what pydantic says of each value, in our words, without a secret.

        Of a union it says something for each member; that is one problem.
        """
        found: dict[str, SettingsProblem] = {}
        for details in refused:
            problem = self._problem_of(details)
            first = found.setdefault(problem.path, problem)
            if first is not problem and first.message != problem.message:
                message = f"{first.message}; or {_said(details, self.secrets)}"
                found[problem.path] = replace(first, message=message)
        return list(found.values())

    def _problem_of(self, details: dict[str, Any]) -> SettingsProblem:
        at = self._written_path(details)
        path = (*self._path, *at)
        name = ".".join(path)
        if details["type"] == "missing":
            message = f"{name} is required, and nothing sets it"
            # What is in a list has no variable of its own, and stands where the list does.
            within = self._merged.written(path[:-1])
            fix = f"Set {path[-1]!r} in [{'.'.join(path[:-1])}] of stageflow.toml, or {variable_of(path)}"
            if any(map(str.isdecimal, at)) and within is not None:
                fix = f"Set {path[-1]!r} in {within}"
            return SettingsProblem(code=VALUE_CODE, message=message, fix=fix, path=name)
        origin = self._merged.origin_of(path)
        said = _said(details, self.secrets)
        if at:
            message = f"{name} is {self._shown_input(details, at)} ({origin}): {said}"
        else:
            message = f"Section {name!r} is not valid{'' if origin is None else f' ({origin})'}: {said}"
        return SettingsProblem(
            code=VALUE_CODE,
            message=message,
            fix=self._how_to_set(at, origin),
            path=name,
            origin=origin,
        )

    def _how_to_set(self, at: ValuePath, origin: Origin | None) -> str:
        """Say where to correct a value, and what the field is for."""
        place = (
            "Correct it" if origin is None or origin.kind is OriginKind.DEFAULT else f"Correct it in {origin}"
        )
        if origin is not None and origin.kind is OriginKind.CODE:
            place = "Correct it where the program sets it"
        owner = shapes_at(self._model, at[:-1]).models if at else ()
        field = keys_of(owner[0]).get(at[-1]) if owner else None
        purpose = " ".join((field[1].description or "").split()) if field is not None else ""
        return f"{place}. {at[-1]}: {purpose}" if purpose else place

    def _shown_input(self, details: dict[str, Any], at: ValuePath) -> str:
        """Return a wrong value for people to read; of tables and lists, which may hold anything, only what they are."""
        value: Any = details.get("input")
        if self._is_secret(at):
            return MASK
        if isinstance(value, Mapping):
            return "a table"
        return shown(masked(value, secret=False)) if _parts_of(value) is None else "a list"

    def _written_path(self, details: dict[str, Any]) -> ValuePath:
        """Return where the value stands; pydantic's own path also names the members of unions on the way."""
        at: ValuePath = ()
        value: Any = self._tree
        for index, part in enumerate(details["loc"], 1):
            table, parts = table_of(value), _parts_of(value)
            if table is not None and part in table:
                value = table[part]
            elif parts is not None and isinstance(part, int) and part < len(parts):
                value = parts[part]
            elif details["type"] != "missing" or index < len(details["loc"]):
                continue
            at = (*at, str(part))
        return at

    def _is_secret(self, at: ValuePath) -> bool:
        return any(
            looks_secret(at[length - 1]) or shapes_at(self._model, at[:length]).is_secret
            for length in range(1, len(at) + 1)
        )

    def _leaves(self, value: Any, at: ValuePath) -> Iterator[tuple[ValuePath, Any]]:
        table, parts = table_of(value), _parts_of(value)
        if table is None and parts is None:
            yield at, value
        for key, one in enumerate(parts or ()) if table is None else table.items():
            yield from self._leaves(one, (*at, str(key)))

    # --- what there is to show --------------------------------------------------------------------

    def settings_of(self, values: BaseModel) -> Iterator[Setting]:
        """Yield every value of the model, defaults too, in the order of its fields."""
        yield from self._shown_of(values, ())

    def _shown_of(self, value: Any, at: ValuePath) -> Iterator[Setting]:
        model = cast("Any", type(value))
        if is_model(model):
            keys: dict[str, str] = {}
            for key, (name, _) in keys_of(model).items():
                # A field with several aliases is shown under the one that was written.
                if name not in keys or self._merged.written((*self._path, *at, key)) is not None:
                    keys[name] = key
            for name, key in keys.items():
                yield from self._shown_of(getattr(value, name), (*at, key))
            extra: Mapping[str, Any] = getattr(value, "model_extra", None) or {}
            for key, one in extra.items():
                yield from self._shown_of(one, (*at, key))
        elif table := table_of(value):
            for key, one in table.items():
                yield from self._shown_of(one, (*at, str(key)))
        else:
            path = (*self._path, *at)
            secret = self._is_secret(at)
            yield Setting(
                path=".".join(path),
                value=masked(value, secret=secret),
                origin=self._merged.written(path) or Origin(kind=OriginKind.DEFAULT),
                secret=secret,
            )


def _said(details: Mapping[str, Any], secrets: Iterable[str]) -> str:
    """Return what pydantic says is wrong, as the end of a sentence, without a secret."""
    text = scrubbed(" ".join(str(details["msg"]).split()), secrets).rstrip(".")
    for start in ("Input ", "Value error, ", "Assertion failed, "):
        if text.startswith(start):
            rest = text.removeprefix(start)
            return f"it {rest}" if start == "Input " else rest
    return text[:1].lower() + text[1:]


def _parts_of(value: object) -> list[Any] | None:
    """Return what a list or tuple holds; None for anything else."""
    return list(cast("Iterable[Any]", value)) if isinstance(value, (list, tuple)) else None
