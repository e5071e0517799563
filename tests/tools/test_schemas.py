"""Tools are told to each provider in its form; what a model may answer to a strict schema, the tool's own allows."""

from __future__ import annotations

import copy
import json
import random
import re
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from stageflow import Effect
from stageflow.context.checks import ArgumentTypeError, ArgumentValueError
from stageflow_tools import ToolRegistry
from stageflow_tools.schema_refs import inline_refs
from stageflow_tools.schemas import (
    anthropic_tool,
    mcp_annotations,
    mcp_tool,
    openai_chat_tool,
    openai_responses_tool,
)
from stageflow_tools.strict_schemas import StrictSchema, make_strict
from stageflow_tools.wire_names import WireNames

DEEP = settings().max_examples > 100

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CLOSED = CITY | {"additionalProperties": False}


# --- the forms of the providers --------------------------------------------------------------------------------


def test_the_same_tool_in_every_form():
    told = ("weather", "Ask for the weather.", CITY)
    assert openai_chat_tool(*told) == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Ask for the weather.",
            "parameters": CLOSED,
            "strict": True,
        },
    }
    assert openai_responses_tool(*told) == {
        "type": "function",
        "name": "weather",
        "description": "Ask for the weather.",
        "parameters": CLOSED,
        "strict": True,
    }
    assert anthropic_tool(*told) == {
        "name": "weather",
        "description": "Ask for the weather.",
        "input_schema": CITY,
    }
    assert mcp_tool(*told, title="Weather", effect="none", output_schema=CITY) == {
        "name": "weather",
        "title": "Weather",
        "description": "Ask for the weather.",
        "inputSchema": CITY,
        "outputSchema": CITY,
        "annotations": {"readOnlyHint": True},
    }
    assert openai_chat_tool(*told, strict=False)["function"]["parameters"] == CITY
    assert openai_chat_tool(*told, strict=False)["function"]["strict"] is False
    for tool in (openai_chat_tool(*told), anthropic_tool(*told), mcp_tool(*told)):
        json.dumps(tool, allow_nan=False)


def test_a_tool_without_arguments():
    nothing = {"type": "object", "properties": {}}
    for schema in (None, {}, {"type": "object"}, nothing):
        assert anthropic_tool("now", schema=schema) == {"name": "now", "input_schema": nothing}
        strict = openai_chat_tool("now", schema=schema)["function"]
        assert strict["parameters"] == nothing | {"required": [], "additionalProperties": False}
        assert strict["strict"] is True


def test_the_schema_of_a_function_is_told():
    tools = ToolRegistry()

    @tools.register
    def search(query: str, limit: int = 10, within: list[str] | None = None) -> str:
        return f"{query} {limit} {within}"

    (told,) = tools.describe()
    made = openai_chat_tool(told["name"], told["description"], told["input_schema"])["function"]
    assert made["strict"] is True
    assert made["parameters"]["required"] == ["query", "limit", "within"]
    assert made["parameters"]["properties"]["limit"] == {"type": "integer", "description": "Default: 10."}


def test_the_given_schema_stays_as_it_is():
    schema = {
        "$defs": {"A": CITY},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/A", "default": {}}},
    }
    before = copy.deepcopy(schema)
    for make in (openai_chat_tool, openai_responses_tool, anthropic_tool, mcp_tool):
        made = make("a", schema=schema, inline=True)
        json.dumps(made)
    assert schema == before
    anthropic_tool("a", schema=schema)["input_schema"]["properties"]["a"]["default"]["x"] = 1
    assert schema == before


def test_a_reference_at_the_top_is_replaced():
    schema = {"$ref": "#/$defs/Node", "$defs": {"Node": CITY | {"description": "A place."}}}
    made = anthropic_tool("a", schema=schema)["input_schema"]
    assert (made["type"], made["description"], made["required"]) == ("object", "A place.", ["city"])


@pytest.mark.parametrize("make", [openai_chat_tool, openai_responses_tool, anthropic_tool, mcp_tool])
@pytest.mark.parametrize("name", ["", "a b", "é", "a/b", "a\n", "x" * 129, "a\x00"])
def test_names_that_no_provider_takes_are_refused(make: Any, name: str):
    with pytest.raises(ArgumentValueError) as caught:
        make(name)
    assert caught.value.argument == "name"


def test_dots_and_long_names_are_for_mcp():
    assert mcp_tool("a.b" + "c" * 125)["name"]
    for make in (openai_chat_tool, openai_responses_tool, anthropic_tool):
        for name in ("a.b", "x" * 65):
            with pytest.raises(ArgumentValueError, match="WireNames"):
                make(name)
        assert make("x" * 64)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["object", "null"]},
        {"anyOf": [CITY, CITY]},
        CITY | {"oneOf": [CITY]},
        CITY | {"not": {}},
        {"$ref": "#/$defs/Lost"},
        {"$ref": "https://example.com/schema"},
        {"type": "object", "default": float("nan")},
        {"type": "object", "x": len},
    ],
    ids=str,
)
def test_schemas_that_are_none_of_a_plain_object_are_refused(schema: dict[str, Any]):
    for make in (openai_chat_tool, openai_responses_tool, anthropic_tool):
        with pytest.raises(ArgumentValueError) as caught:
            make("a", schema=schema)
        assert caught.value.argument == "schema"


def test_a_schema_that_contains_itself_is_refused():
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    schema["properties"]["a"] = schema
    with pytest.raises(ArgumentValueError):
        anthropic_tool("a", schema=schema)


@pytest.mark.parametrize(
    ("make", "options", "argument"),
    [
        (openai_chat_tool, {"name": 1}, "name"),
        (openai_chat_tool, {"name": "a", "description": None}, "description"),
        (openai_chat_tool, {"name": "a", "strict": "yes"}, "strict"),
        (anthropic_tool, {"name": "a", "schema": []}, "schema"),
        (anthropic_tool, {"name": "a", "inline": 1}, "inline"),
        (mcp_tool, {"name": "a", "title": 1}, "title"),
        (mcp_tool, {"name": "a", "output_schema": "x"}, "schema"),
    ],
)
def test_arguments_of_another_type_are_refused(make: Any, options: dict[str, Any], argument: str):
    with pytest.raises(ArgumentTypeError) as caught:
        make(**options)
    assert caught.value.argument == argument


def test_hints_follow_from_the_effect():
    hints = {effect: mcp_annotations(effect) for effect in Effect}
    assert [effect for effect, hint in hints.items() if hint["readOnlyHint"]] == [Effect.NONE]
    assert [effect for effect, hint in hints.items() if hint.get("idempotentHint")] == [Effect.IDEMPOTENT]
    # unsaid is destructive, to a client
    writes = {effect: hint for effect, hint in hints.items() if not hint["readOnlyHint"]}
    assert [effect for effect, hint in writes.items() if not hint.get("destructiveHint", True)] == [
        Effect.REVERSIBLE
    ]
    assert "annotations" not in mcp_tool("a")
    with pytest.raises(ArgumentValueError):
        mcp_annotations("harmless")


# --- strict schemas --------------------------------------------------------------------------------------------


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=0, le=9, description="How many are left.")


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str = Field(min_length=1)
    price: Decimal  # its pattern looks ahead


class Zoo(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    favourite: Cat | None = None
    first: Cat = Field(default=Cat(kind="cat"), description="The first.")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


@pytest.mark.parametrize("model", [Cat, Dog, Zoo, Tree])
def test_schemas_of_models_become_strict(model: type[BaseModel]):
    strict = make_strict(model.model_json_schema())
    assert strict.problems == ()
    assert strict.schema is not None
    said = json.dumps(strict.schema)
    for keyword in ("oneOf", "discriminator", "allOf", '"default"', "minLength", '"title"', "(?!"):
        assert keyword not in said


def test_defaults_and_notes_stand_in_the_description():
    schema = make_strict(Zoo.model_json_schema()).schema
    assert schema is not None
    cat = schema["$defs"]["Cat"]["properties"]
    assert cat["lives"]["description"] == "How many are left. Default: 9."
    assert (cat["lives"]["minimum"], cat["lives"]["maximum"]) == (0, 9)
    first = schema["properties"]["first"]
    assert first["anyOf"] == [{"$ref": "#/$defs/Cat"}]
    assert first["description"] == 'The first. Default: {"kind": "cat", "lives": 9}.'


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        ({}, "a: takes anything"),
        (True, "a: takes anything"),
        (False, "a: takes nothing"),
        ({"type": "object"}, "a: takes any key"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "a: takes any key"),
        (CITY | {"additionalProperties": True}, "a: takes any key"),
        ({"type": "array"}, "a.[]: takes anything"),
        ({"type": "array", "prefixItems": [{"type": "string"}]}, "a: has prefixItems, which cannot be said"),
        ({"type": "object", "patternProperties": {}}, "a: has patternProperties, which cannot be said"),
        ({"allOf": [CITY, CITY]}, "a: has allOf, which cannot be said"),
        ({"not": {"type": "string"}}, "a: has not, which cannot be said"),
        ({"anyOf": [{"type": "string"}, {}]}, "a.anyOf/1: takes anything"),
        ({"$ref": "#/$defs/Lost"}, "a: refers to '#/$defs/Lost', which is not there"),
        ({"$ref": "https://example.com/x"}, "a: refers to 'https://example.com/x', which is not there"),
        ({"$ref": "#/$defs/C", "minItems": 1}, "a: has constraints beside a reference"),
    ],
    ids=str,
)
def test_what_cannot_be_said_strictly_is_told(inner: Any, problem: str):
    schema = {"type": "object", "properties": {"a": inner}, "required": ["a"], "$defs": {"C": CITY}}
    assert make_strict(schema) == StrictSchema(None, (problem,))
    tool = openai_chat_tool("a", schema=schema)["function"]
    assert (tool["strict"], tool["parameters"]) == (False, schema)


@pytest.mark.parametrize(
    ("inner", "is_strict"),
    [
        ({"type": "string"}, False),
        ({"$ref": "#/$defs/Text"}, False),
        ({"type": "string", "default": "x"}, True),
        ({"$ref": "#/$defs/Text", "default": "x"}, True),
        ({"type": ["string", "null"]}, True),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, True),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Maybe"}]}, True),
    ],
    ids=str,
)
def test_what_may_be_left_out_has_to_have_another_way_to_say_so(inner: Any, *, is_strict: bool):
    definitions = {"Text": {"type": "string"}, "Maybe": {"type": ["null", "integer"]}}
    strict = make_strict({"type": "object", "properties": {"a": inner}, "$defs": definitions})
    assert strict.problems == (
        () if is_strict else ("a: may be left out, but has no default and takes no null",)
    )
    assert strict.schema is None or strict.schema["required"] == ["a"]


def test_limits_of_strict_schemas():
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(11):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    assert "nested deeper than 10 levels" in make_strict(deep).problems[0]
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5_001)}}
    wide["required"] = list(wide["properties"])
    assert "more than 5000 properties" in make_strict(wide).problems[0]
    many = {"type": "object", "properties": {"a": {"enum": list(range(1_001))}}, "required": ["a"]}
    assert "more than 1000 values" in make_strict(many).problems[0]


# A small reading of JSON Schema, for what the generated schemas use.
KINDS: dict[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def allows(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].split("/")[1:]:
            target = target[step]
        if not allows(target, value, root):
            return False
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(KINDS[kind](value) for kind in kinds):
            return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if not all(allows(one, value, root) for one in schema.get("allOf", [])):
        return False
    if "anyOf" in schema and not any(allows(one, value, root) for one in schema["anyOf"]):
        return False
    if isinstance(value, list) and not all(allows(schema.get("items", True), one, root) for one in value):
        return False
    if not isinstance(value, dict):
        return True
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    return set(schema.get("required", ())) <= set(value) and all(
        allows(properties.get(name, others), one, root) for name, one in value.items()
    )


def answer(schema: Any, root: dict[str, Any], rng: random.Random, level: int = 0) -> Any:
    """Return a value that a model held to a strict schema could give."""
    if "$ref" in schema:
        return answer(root["$defs"][schema["$ref"].rpartition("/")[2]], root, rng, level + 1)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if "anyOf" in schema:
        return answer(rng.choice(schema["anyOf"]), root, rng, level)
    kind = rng.choice(schema["type"]) if isinstance(schema["type"], list) else schema["type"]
    match kind:
        case "object":
            return {name: answer(one, root, rng, level) for name, one in schema["properties"].items()}
        case "array":
            return [
                answer(schema["items"], root, rng, level + 1)
                for _ in range(rng.randrange(3) if level < 6 else 0)
            ]
        case "string":
            return rng.choice(["", "a"])
        case "integer":
            return rng.randrange(9)
        case "boolean":
            return rng.random() < 0.5
        case _:
            return None


NAMES = ("A", "B", "C")


def generated(rng: random.Random) -> dict[str, Any]:
    """Return a schema of an object with definitions that may refer to each other, and to themselves in lists."""

    def some(level: int, *, in_list: bool = False, defined: int = -1) -> Any:
        pick = rng.randrange(10 if level < 3 else 4)
        match pick:
            case 0 | 1 | 2 | 3:
                return rng.choice(
                    [{"type": "string"}, {"type": "integer"}, {"enum": ["x", 1, None]}, {"type": "null"}]
                )
            case 4:
                return {"type": "array", "items": some(level + 1, in_list=True, defined=defined)}
            case 5:
                return {"anyOf": [some(level + 1, in_list=in_list, defined=defined) for _ in range(2)]}
            case 6:
                return rng.choice([{}, {"type": ["string", "null"]}, {"type": "object"}, True])
            case 7 | 8:
                allowed = NAMES if in_list else NAMES[defined + 1 :]
                if not allowed:
                    return {"type": "boolean"}
                note = rng.choice([{}, {"description": "d"}, {"type": "object"}])
                return {"$ref": f"#/$defs/{rng.choice(allowed)}", **note}
            case _:
                return an_object(level + 1, in_list=in_list, defined=defined)

    def an_object(level: int, *, in_list: bool = False, defined: int = -1) -> dict[str, Any]:
        properties = {
            name: some(level, in_list=in_list, defined=defined) for name in "pqr"[: rng.randrange(4)]
        }
        made = {"type": "object", "properties": properties}
        required = [name for name in properties if rng.random() < 0.6]
        for name, one in properties.items():
            if name not in required and isinstance(one, dict) and rng.random() < 0.7:
                one["default"] = None
        return made | ({"required": required} if required else {})

    definitions = {name: an_object(1, defined=number) for number, name in enumerate(NAMES)}
    return an_object(0) | {"$defs": definitions}


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_a_strict_schema_allows_the_schema_allows(rng: random.Random):
    schema = generated(rng)
    strict = make_strict(schema)
    assert (strict.schema is None) == bool(strict.problems)
    if strict.schema is None:
        return
    check_strict(strict.schema)
    for _ in range(5):
        value = answer(strict.schema, strict.schema, rng)
        assert allows(strict.schema, value, strict.schema)
        assert allows(schema, value, schema)


def test_generated_schemas_are_often_strict():
    made = [make_strict(generated(random.Random(number))) for number in range(500)]
    assert 50 < sum(one.schema is not None for one in made) < 450


def check_strict(schema: Any) -> None:
    """Check the rules of the subset, everywhere."""
    assert isinstance(schema, dict)
    assert schema
    if "$ref" in schema:
        assert schema.keys() == {"$ref"}
        return
    if schema.get("type") == "object":
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
    for keyword in ("properties", "$defs"):
        for one in schema.get(keyword, {}).values():
            check_strict(one)
    for one in schema.get("anyOf", []):
        check_strict(one)
    if schema.get("type") == "array":
        check_strict(schema["items"])


# --- references ------------------------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_schema_without_references_allows_the_same(rng: random.Random):
    schema = generated(rng)
    inlined = inline_refs(schema)
    for _ in range(10):
        value = rng.choice([answer_any(rng), {name: answer_any(rng) for name in "pqr"[: rng.randrange(4)]}])
        assert allows(inlined, value, inlined) == allows(schema, value, schema)
    left = set(re.findall(r'"#/\$defs/(\w+)"', json.dumps(inlined)))
    assert left == inlined.get("$defs", {}).keys()
    for name in left:  # only what leads back to itself is left
        assert leads_to(inlined["$defs"][name], name, inlined)


def answer_any(rng: random.Random, level: int = 0) -> Any:
    match rng.randrange(8 if level < 4 else 5):
        case 0:
            return None
        case 1:
            return "x"
        case 2:
            return 1
        case 3:
            return True
        case 4:
            return {}
        case 5:
            return [answer_any(rng, level + 1) for _ in range(rng.randrange(3))]
        case _:
            return {name: answer_any(rng, level + 1) for name in "pqr"[: rng.randrange(4)]}


def leads_to(schema: Any, name: str, root: dict[str, Any], seen: frozenset[str] = frozenset()) -> bool:
    for found in re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema)):
        if found == name or (
            found not in seen and leads_to(root["$defs"][found], name, root, seen | {found})
        ):
            return True
    return False


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}, {"type": "string"}),
        ({"$ref": "#/definitions/A", "definitions": {"A": {"type": "string"}}}, {"type": "string"}),
        ({"$ref": "#/$defs/a~1b~0c%20d", "$defs": {"a/b~c d": {"const": 1}}}, {"const": 1}),
        (
            {"anyOf": [{"type": "null"}, {"$ref": "#/anyOf/0"}]},
            {"anyOf": [{"type": "null"}, {"type": "null"}]},
        ),
        ({"$ref": "#/$defs/Lost"}, {"$ref": "#/$defs/Lost"}),
        ({"$ref": "https://example.com/x"}, {"$ref": "https://example.com/x"}),
        ({"$ref": "#name"}, {"$ref": "#name"}),
        ({"$ref": "#/anyOf/99999999999999999999"}, {"$ref": "#/anyOf/99999999999999999999"}),
        ({"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}),
        ({"enum": [{"$ref": "#/$defs/A"}], "$defs": {"A": {}}}, {"enum": [{"$ref": "#/$defs/A"}]}),
        (
            {"properties": {"$ref": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"const": 1}}},
            {"properties": {"$ref": {"const": 1}}},
        ),
        (
            {
                "$ref": "#/$defs/A",
                "minLength": 2,
                "title": "t",
                "$defs": {"A": {"type": "string", "title": "s"}},
            },
            {"type": "string", "title": "t", "minLength": 2},
        ),
        (
            {"$ref": "#/$defs/A", "minLength": 2, "title": "t", "$defs": {"A": {"minLength": 3}}},
            {"allOf": [{"minLength": 3}, {"minLength": 2}], "title": "t"},
        ),
        (
            {
                "oneOf": [{"$ref": "#/$defs/A"}],
                "discriminator": {"mapping": {"a": "#/$defs/A"}},
                "$defs": {"A": {}},
            },
            {"oneOf": [{}]},
        ),
    ],
    ids=str,
)
def test_references(schema: dict[str, Any], expected: dict[str, Any]):
    assert inline_refs(schema) == expected


def test_recursion_stays_in_definitions():
    schema = Tree.model_json_schema()
    inlined = inline_refs(
        {"type": "object", "properties": {"tree": schema["$defs"]["Tree"]}, "$defs": schema["$defs"]}
    )
    assert list(inlined["$defs"]) == ["Tree"]
    circle = {
        "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}},
        "properties": {"a": {"$ref": "#/$defs/A"}},
    }
    assert json.dumps(inline_refs(circle))
    assert json.dumps(make_strict(circle | {"type": "object", "required": ["a"]}).schema)


def test_definitions_that_double_stay_small():
    definitions: dict[str, Any] = {"A0": {"type": "string"}}
    for number in range(1, 60):
        before = {"$ref": f"#/$defs/A{number - 1}"}
        definitions[f"A{number}"] = {
            "type": "object",
            "properties": {"l": before, "r": before},
            "required": ["l", "r"],
        }
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A59"}}, "$defs": definitions}
    assert len(json.dumps(inline_refs(schema))) < 2_000_000


# --- names -----------------------------------------------------------------------------------------------------

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@pytest.mark.timeout(300)
@settings(max_examples=2_000 if DEEP else 300, deadline=None)
@given(
    st.lists(
        st.text(min_size=1)
        | st.text("ab._-", min_size=1, max_size=4)
        | st.text("a.", min_size=60, max_size=130),
        max_size=30,
        unique=True,
    ),
    st.randoms(use_true_random=False),
)
def test_names_go_to_the_wire_and_back(names: list[str], rng: random.Random):
    table = WireNames(names)
    wires = [table.wire(name) for name in names]
    assert all(NAME.fullmatch(wire) for wire in wires)
    assert len(set(wires)) == len(names) == len(table)
    assert [table.original(wire) for wire in wires] == names
    assert all(wire == name for name, wire in zip(names, wires, strict=True) if NAME.fullmatch(name))
    shuffled = rng.sample(names, len(names))
    assert [WireNames(shuffled).wire(name) for name in names] == wires


def test_what_names_look_like():
    names = WireNames(["a.b", "a b", "a__b_", "x" * 70, "text.length", "ünïcode", "a/b"])
    assert names.wire("a.b") == "a__b"
    assert names.wire("text.length") == "text__length"
    assert names.wire("ünïcode") == "_n_code"
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", names.wire("a b"))
    assert re.fullmatch(r"a_b_[0-9a-f]{8}", names.wire("a/b"))
    assert re.fullmatch(r"x{55}_[0-9a-f]{8}", names.wire("x" * 70))
    assert re.fullmatch(r"a__b_[0-9a-f]{8}", WireNames(["a.b", "a__b"]).wire("a.b"))
    digits = WireNames(["a.b", "a__b"]).wire("a.b")
    assert WireNames(["a.b", "a__b", digits]).wire("a.b") not in {digits, "a__b"}
    assert repr(names) == "<WireNames of 7 tools>"


def test_names_that_are_none():
    names = WireNames(["a.b"])
    assert [names.original(wire) for wire in ("a.b", "a_b", "", "zzz")] == [None] * 4
    with pytest.raises(ArgumentValueError):
        names.wire("a")
    with pytest.raises(ArgumentValueError):
        WireNames([""])
    for wrong in ("ab", [1], 1, None):
        if wrong is None:
            assert len(WireNames(wrong)) == 0  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            continue
        with pytest.raises(ArgumentTypeError):
            WireNames(wrong)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
