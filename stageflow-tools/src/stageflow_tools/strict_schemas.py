"""The subset of JSON Schema to which a model's output can be held (OpenAI's strict mode)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.record import Record
from stageflow.errors import shown

from stageflow_tools.schema_refs import is_array, is_schema, plain_schema, target_of, without_top_ref

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StrictSchema", "make_strict"]

_KEPT: Final = frozenset(
    {
        *("type", "description", "enum", "const", "properties", "required", "additionalProperties", "items"),
        *("anyOf", "$ref", "$defs", "pattern", "format", "multipleOf", "maximum", "exclusiveMaximum"),
        *("minimum", "exclusiveMinimum", "minItems", "maxItems"),
    }
)
_FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
_SHAPING: Final = (
    "allOf",
    "prefixItems",
    "patternProperties",
    "not",
    "if",
    "dependentSchemas",
    "dependentRequired",
)
_MOST_LEVELS: Final = 10
_MOST_PROPERTIES: Final = 5_000
_MOST_VALUES: Final = 1_000

_Schema = dict[str, Any]


@final
class StrictSchema(Record):
    """What became of a schema.

    Args:
        schema: The strict schema, or None if there is none that asks for the same.
        problems: Why there is none.

    ```python
    from stageflow_tools.strict_schemas import StrictSchema

    print(StrictSchema(None, ("limit: is open",)).schema)
    #> None
    ```
    """

    __match_args__ = ("schema", "problems")
    __slots__ = __match_args__
    schema: dict[str, Any] | None
    problems: tuple[str, ...]

    def __init__(self, schema: dict[str, Any] | None, problems: tuple[str, ...] = ()) -> None:
        put = object.__setattr__
        put(self, "schema", schema)
        put(self, "problems", problems)


def make_strict(schema: Mapping[str, Any]) -> StrictSchema:
    """Return a strict schema that asks for the same, if there is one.

    Every object in it is closed and requires all its properties, so the model has to give what it could have left
    out. That is no other question where the schema says the default, which then stands in the description, or allows
    null. Where it does neither, or where an object takes any key, the schema cannot be strict. What the subset does
    not have and what only narrows a value (a length, say) is left out: the tool checks it all the same.

    Args:
        schema: The schema of an object.

    Raises:
        ArgumentTypeError: It is no mapping.
        ArgumentValueError: It is no JSON, or too large or nested too deep.

    Source: OpenAI, structured outputs, supported schemas.

    ```python
    from stageflow_tools.strict_schemas import make_strict

    open_ended = {"type": "object", "properties": {"since": {"type": "string"}}}
    print(*make_strict(open_ended).problems)
    #> since: may be left out, but has no default and takes no null
    ```
    """
    return _Narrowing(without_top_ref(plain_schema("make_strict", schema))).result()


@final
class _Narrowing:
    """Makes one schema strict."""

    __slots__ = ("_problems", "_properties", "_root", "_values")

    def __init__(self, root: _Schema) -> None:
        self._root = root
        self._problems: list[str] = []
        self._properties = 0
        self._values = 0

    def result(self) -> StrictSchema:
        made = self._strict(self._root, (), level=0)
        definitions: _Schema = {}
        for keyword in ("$defs", "definitions"):
            for name, one in _by_name(self._root.get(keyword)).items():
                definitions[name] = self._strict(one, (f"{keyword}/{name}",), level=0)
        if definitions:
            made["$defs"] = definitions
        if self._properties > _MOST_PROPERTIES:
            self._problems.append(f"has more than {_MOST_PROPERTIES} properties")
        if self._values > _MOST_VALUES:
            self._problems.append(f"has more than {_MOST_VALUES} values in enums")
        if made.get("type") != "object":
            self._problems.append("is no object at the top")
        return StrictSchema(None, tuple(self._problems)) if self._problems else StrictSchema(made)

    def _strict(self, schema: Any, path: tuple[str, ...], *, level: int) -> _Schema:
        if not is_schema(schema):
            return self._refused(path, "takes anything" if schema is True else "takes nothing")
        if level > _MOST_LEVELS:
            return self._refused(path, f"is nested deeper than {_MOST_LEVELS} levels")
        node = self._unwrapped(schema)
        if "$ref" in node:
            return self._reference(node, path)
        shaping = next((keyword for keyword in _SHAPING if keyword in node), None)
        if shaping is not None:
            return self._refused(path, f"has {shaping}, which cannot be said")
        made = _kept(node)
        values = made.get("enum")
        self._values += len(values) if is_array(values) else 0
        self._inside(made, node, path, level)
        return made

    def _inside(self, made: _Schema, node: _Schema, path: tuple[str, ...], level: int) -> None:
        """Make what is inside of a schema strict."""
        kind = node.get("type")
        kinds = kind if is_array(kind) else [kind]
        either = node.get("anyOf")
        if is_array(either):
            made["anyOf"] = [
                self._strict(one, (*path, f"anyOf/{number}"), level=level)
                for number, one in enumerate(either)
            ]
        elif "object" in kinds or "properties" in node:
            self._object(made, node, path, level)
        elif "array" in kinds:
            made["items"] = self._strict(node.get("items", True), (*path, "[]"), level=level + 1)
        elif not made.keys() & {"type", "enum", "const"}:
            self._refused(path, "takes anything")

    def _object(self, made: _Schema, node: _Schema, path: tuple[str, ...], level: int) -> None:
        others = node.get("additionalProperties")
        properties = _by_name(node.get("properties"))
        if others not in (None, False) or ("properties" not in node and others is None and path):
            self._refused(path, "takes any key")
        said = node.get("required")
        required = said if is_array(said) else []
        self._properties += len(properties)
        made.setdefault("type", "object")
        made["properties"] = {
            name: self._property(one, (*path, name), is_required=name in required, level=level)
            for name, one in properties.items()
        }
        made["required"] = list(properties)
        made["additionalProperties"] = False

    def _property(self, schema: Any, path: tuple[str, ...], *, is_required: bool, level: int) -> _Schema:
        made = self._strict(schema, path, level=level + 1)
        if is_required or not is_schema(schema):
            return made
        if "default" in schema:
            stated = f"Default: {json.dumps(schema['default'], ensure_ascii=False)}."
            if "$ref" in made:
                made = dict[str, Any](anyOf=[made])
            said = made.get("description")
            made["description"] = f"{said} {stated}" if said else stated
        elif not self._takes_null(schema, ()):
            self._refused(path, "may be left out, but has no default and takes no null")
        return made

    def _takes_null(self, schema: _Schema, seen: tuple[str, ...]) -> bool:
        kind = schema.get("type")
        if kind == "null" or (is_array(kind) and "null" in kind):
            return True
        ref = schema.get("$ref")
        target = target_of(self._root, ref) if isinstance(ref, str) and ref not in seen else None
        if target is not None:
            return self._takes_null(target, (*seen, str(ref)))
        either = schema.get("anyOf") or schema.get("oneOf")
        return is_array(either) and any(is_schema(one) and self._takes_null(one, seen) for one in either)

    def _unwrapped(self, node: _Schema) -> _Schema:
        """Return a schema without the keywords that have another word in the subset."""
        every = node.get("allOf")
        if is_array(every) and len(every) == 1 and is_schema(every[0]):
            rest = {keyword: value for keyword, value in node.items() if keyword != "allOf"}
            inner = every[0]
            if not (rest.keys() & inner.keys()) - {"title", "description", "default"}:
                node = {**inner, **rest}
        if is_array(node.get("oneOf")) and "anyOf" not in node:
            node = {"anyOf" if keyword == "oneOf" else keyword: value for keyword, value in node.items()}
        return node

    def _reference(self, node: _Schema, path: tuple[str, ...]) -> _Schema:
        """Return a reference with nothing beside it, as the subset wants it; what is beside becomes a choice of one."""
        ref = node["$ref"]
        target = target_of(self._root, ref) if isinstance(ref, str) else None
        if target is None:
            return self._refused(path, f"refers to {shown(ref)}, which is not there")
        beside = {keyword: value for keyword, value in node.items() if keyword in _KEPT - {"$ref", "$defs"}}
        note = beside.pop("description", None)
        if beside:
            return self._refused(path, "has constraints beside a reference")
        made: _Schema = {"$ref": str(ref).replace("#/definitions/", "#/$defs/", 1)}
        if not note:
            return made
        choice: _Schema = {"anyOf": [made], "description": note}
        return choice

    def _refused(self, path: tuple[str, ...], problem: str) -> _Schema:
        where = ".".join(path)
        self._problems.append(f"{where}: {problem}" if where else problem)
        return {}


def _by_name(value: object) -> _Schema:
    return value if is_schema(value) else {}


def _kept(node: _Schema) -> _Schema:
    """Return the keywords that the subset has."""
    made = {keyword: value for keyword, value in node.items() if keyword in _KEPT and keyword != "$defs"}
    form = made.get("format")
    if not (isinstance(form, str) and form in _FORMATS):
        made.pop("format", None)
    if "(?" in str(made.get("pattern", "")):
        made.pop("pattern")  # it looks around, which expressions of the subset cannot
    return made
