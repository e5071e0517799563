"""References inside of a JSON schema (``$ref``), and how to do without them where a provider knows none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeGuard, cast, final
from urllib.parse import unquote

from stageflow.context.checks import wrong_type, wrong_value

from stageflow_tools.call_arguments import ArgumentLimits, plain_json
from stageflow_tools.call_problem import CallProblem

__all__ = [
    "inline_refs",
    "is_array",
    "is_schema",
    "map_subschemas",
    "plain_schema",
    "target_of",
    "without_top_ref",
]

_LIMITS: Final = ArgumentLimits()
_SCHEMAS: Final = frozenset(
    {
        *("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"),
        *("unevaluatedItems", "unevaluatedProperties", "additionalItems"),
    }
)
_LISTS: Final = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
_BY_NAME: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_NOTES: Final = frozenset(
    {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"}
)
_MOST_DIGITS: Final = 10  # of an index
_MOST_NODES: Final = 2_000  # of what stands for one reference

_Schema = dict[str, Any]


def inline_refs(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema with what its references refer to in their place.

    A reference that leads back to itself cannot be replaced: it stays, and so does what it refers to, in ``$defs``.
    So does one whose replacement would be larger than 2,000 schemas, and one that leads nowhere or to another
    document. Next to a reference, a title, a description or a default counts for that place; a constraint counts as
    well as what is referred to.

    Args:
        schema: The schema. It stays as it is.

    Raises:
        ArgumentTypeError: It is no mapping.
        ArgumentValueError: It is no JSON, or too large or nested too deep.

    Source: JSON Schema 2020-12, core, section 8.2; RFC 6901 for the pointers.

    ```python
    from stageflow_tools.schema_refs import inline_refs

    schema = {
        "type": "object",
        "properties": {"home": {"$ref": "#/$defs/Place", "description": "Where."}},
        "$defs": {"Place": {"type": "string"}},
    }
    print(inline_refs(schema))
    #> {'type': 'object', 'properties': {'home': {'type': 'string', 'description': 'Where.'}}}
    ```
    """
    return _Inliner(plain_schema("inline_refs", schema)).result()


def plain_schema(owner: str, schema: object) -> dict[str, Any]:
    """Return a copy of a schema, which *owner* was given, in plain dicts and lists.

    Raises:
        ArgumentTypeError: It is no mapping.
        ArgumentValueError: It is no JSON, or too large or nested too deep.
    """
    if not isinstance(schema, Mapping):
        raise wrong_type(owner, "schema", "a mapping", schema)
    given = cast("Mapping[str, Any]", schema)
    made = plain_json(given, _LIMITS)
    if isinstance(made, CallProblem):
        said = made.error.replace("The arguments", "it", 1)
        raise wrong_value(owner, "schema", f"is no JSON schema: {said[:1].lower()}{said[1:]}", dict(given))
    return cast("dict[str, Any]", made)


def without_top_ref(schema: _Schema) -> _Schema:
    """Return a schema that is no reference itself, if what it refers to is there: a model that contains itself is."""
    seen: set[str] = set()
    while isinstance(ref := schema.get("$ref"), str) and ref not in {"#", *seen}:
        target = target_of(schema, ref)
        if target is None:
            break
        seen.add(ref)
        schema = {**target, **{keyword: value for keyword, value in schema.items() if keyword != "$ref"}}
    return schema


def target_of(root: _Schema, ref: str) -> _Schema | None:
    """Return the schema that a reference within *root* refers to, or None if there is none."""
    if not ref.startswith("#"):
        return None
    here: Any = root
    for step in ref[1:].split("/")[1:] if ref != "#" else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if is_schema(here):
            here = here.get(name)
        elif is_array(here) and name.isdecimal() and len(name) < _MOST_DIGITS:
            here = dict(enumerate(here)).get(int(name))
        else:
            return None
    is_pointer = ref == "#" or ref.startswith("#/")
    return here if is_pointer and is_schema(here) else None


def is_schema(value: object) -> TypeGuard[dict[str, Any]]:
    """Say whether it is a schema that says something: ``true`` and ``false`` are schemas, too."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[Any]]:
    """Say whether it is a list."""
    return isinstance(value, list)


def map_subschemas(schema: _Schema, change: Callable[[_Schema], Any]) -> _Schema:
    """Return a copy of a schema in which each schema directly inside is what *change* makes of it."""

    def changed(value: Any) -> Any:
        return change(value) if is_schema(value) else value

    made: _Schema = {}
    for keyword, value in schema.items():
        if keyword in _LISTS and is_array(value):
            made[keyword] = [changed(one) for one in value]
        elif keyword in _BY_NAME and is_schema(value):
            made[keyword] = {name: changed(one) for name, one in value.items()}
        elif keyword in _SCHEMAS:
            made[keyword] = changed(value)
        else:
            made[keyword] = value
    return made


def _refs(schema: _Schema, *, counted: list[int] | None = None) -> Iterator[str]:
    """Yield every reference in a schema that does not stand in its definitions, and count its schemas."""
    found: list[str] = []

    def look(one: _Schema) -> _Schema:
        if counted is not None:
            counted[0] += 1
        if isinstance(one.get("$ref"), str):
            found.append(one["$ref"])
        map_subschemas(_body(one), look)
        return one

    look(schema)
    yield from found


@final
class _Inliner:
    """Replaces the references of one schema."""

    __slots__ = ("_kept", "_names", "_root")

    def __init__(self, root: _Schema) -> None:
        self._root = root
        self._kept: set[str] = set()
        self._names: dict[str, str] = {}  # in $defs, by reference
        self._decide()

    def result(self) -> _Schema:
        made = self._inlined(_body(self._root))
        definitions: _Schema = {}
        waiting = dict(self._names)
        while waiting:
            for ref, name in waiting.items():
                definitions[name] = self._inlined(target_of(self._root, ref) or {})
            waiting = {ref: name for ref, name in self._names.items() if name not in definitions}
        return {**made, "$defs": definitions} if definitions else made

    def _decide(self) -> None:
        """Find the references that stay: those that lead back to themselves, or would grow too large."""
        sizes: dict[str, int] = {}
        for ref in self._post_order():
            target = target_of(self._root, ref)
            if target is None:
                continue
            counted = [0]
            inner = list(_refs(target, counted=counted))
            sizes[ref] = counted[0] + sum(sizes.get(one, 1) for one in inner if one not in self._kept)
            if sizes[ref] > _MOST_NODES:
                self._kept.add(ref)

    def _post_order(self) -> Iterator[str]:
        """Yield every reference after those within what it refers to; those on a circle are kept."""
        done: set[str] = set()
        path: list[str] = []
        stack: list[tuple[str, Iterator[str]]] = [("", _refs(self._root))]
        while stack:
            ref, inner = stack[-1]
            step = next(inner, None)
            if step is None:
                stack.pop()
                if ref:
                    path.pop()
                    done.add(ref)
                    yield ref
            elif step in path:
                self._kept.add(step)
            elif step not in done:
                target = target_of(self._root, step)
                path.append(step)
                stack.append((step, _refs(target) if target is not None else iter(())))

    def _inlined(self, schema: _Schema) -> _Schema:
        ref = schema.get("$ref")
        if not isinstance(ref, str):
            made = map_subschemas(schema, self._inlined)
            made.pop("discriminator", None)  # its mapping names references that are no longer there
            return made
        target = target_of(self._root, ref)
        beside = {
            name: value for name, value in schema.items() if name not in {"$ref", "$defs", "definitions"}
        }
        if target is None or ref == "#":
            return schema
        if ref in self._kept:
            return {"$ref": f"#/$defs/{_escaped(self._name(ref))}", **map_subschemas(beside, self._inlined)}
        made = self._inlined(_body(target))
        notes = {name: value for name, value in beside.items() if name in _NOTES}
        constraints = map_subschemas(
            {name: value for name, value in beside.items() if name not in _NOTES}, self._inlined
        )
        if constraints.keys() & made.keys() or (constraints and "$ref" in made):
            return {"allOf": [made, constraints], **notes}
        return {**made, **constraints, **notes}

    def _name(self, ref: str) -> str:
        if ref not in self._names:
            plain = unquote(ref).rpartition("/")[2] or "root"
            name, number = plain, 1
            while name in self._names.values():
                number += 1
                name = f"{plain}_{number}"
            self._names[ref] = name
        return self._names[ref]


def _body(schema: _Schema) -> _Schema:
    """Return a schema without its definitions."""
    return {name: value for name, value in schema.items() if name not in {"$defs", "definitions"}}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
