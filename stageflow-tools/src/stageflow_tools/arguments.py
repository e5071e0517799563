"""Checks the arguments of a call: by the tool's own check, or against its JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from stageflow.context import CyclicDataError, thaw
from stageflow.errors import shown

from stageflow_tools.errors import ToolArgumentsError, ToolDefinitionError

if TYPE_CHECKING:
    from stageflow_tools.definition import ToolDefinition

__all__ = ["checked"]

_MOST_PROBLEMS = 20
_validators: WeakKeyDictionary[ToolDefinition, Any] = WeakKeyDictionary()


def checked(tool: ToolDefinition, arguments: object) -> Mapping[str, Any]:
    """Return *arguments* as the handler of *tool* takes them: a copy, which it may change.

    Args:
        tool: The tool.
        arguments: The arguments by name, from anywhere.

    Raises:
        ToolArgumentsError: They do not fit; everything that is wrong is in one error.
        ToolDefinitionError: The tool's schema is none.
    """
    if arguments.__class__ is not dict and not isinstance(arguments, Mapping):
        problem = f"they must be a mapping of names to values, not {type(arguments).__name__}"
        raise ToolArgumentsError(tool.name, {"arguments": problem})
    given = cast("Mapping[str, Any]", arguments)
    if tool.check is not None:
        return tool.check(given)
    if not all(isinstance(name, str) for name in given):  # pyright: ignore[reportUnnecessaryIsInstance] - as above
        raise ToolArgumentsError(tool.name, {"arguments": "their names must be text"})
    try:
        copy: dict[str, Any] = thaw(dict(given))
        if tool.input_schema:
            _check(tool, copy)
    except (CyclicDataError, RecursionError) as exc:
        problem = "they are inside themselves, or nested too deeply"
        raise ToolArgumentsError(tool.name, {"arguments": problem}) from exc
    return copy


def _check(tool: ToolDefinition, arguments: dict[str, Any]) -> None:
    problems: dict[str, str] = {}
    for error in _validator(tool).iter_errors(arguments):
        where = ".".join(str(part) for part in error.absolute_path) or "arguments"
        problems.setdefault(where, shown(error.message))
        if len(problems) == _MOST_PROBLEMS:
            break
    if problems:
        raise ToolArgumentsError(tool.name, problems)


def _validator(tool: ToolDefinition) -> Any:
    validator = _validators.get(tool)
    if validator is None:
        # Imported when the first schema is checked: it takes longer than all of this package.
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import validator_for

        schema = thaw(dict(tool.input_schema))
        kind: Any = validator_for(schema, default=Draft202012Validator)
        try:
            kind.check_schema(schema)
        except SchemaError as exc:
            what = f"Its input_schema is no JSON schema: {exc.message}"
            fix = "See json-schema.org for what one may say"
            raise ToolDefinitionError(tool.name, what, fix=fix) from exc
        validator = _validators[tool] = kind(schema)
    return validator
