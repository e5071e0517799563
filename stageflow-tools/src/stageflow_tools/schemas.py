"""What models are told of a tool: its name, description and JSON schema in the form that each provider wants.

| function | form | name | schema |
|---|---|---|---|
| ``openai_chat_tool`` | ``{"type": "function", "function": {}}`` | letters, digits, ``_-`` | strict if it can be |
| ``openai_responses_tool`` | ``{"type": "function", "name": ...}`` | the same | strict if it can be |
| ``anthropic_tool`` | ``{"name": ..., "input_schema": ...}`` | the same | as it is |
| ``mcp_tool`` | ``{"name": ..., "inputSchema": ...}`` | dots as well | as it is |

``WireNames`` makes names that providers take; ``inline_refs`` makes schemas for those that know no references.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

from stageflow import Effect
from stageflow.context.checks import ArgumentValueError, check_name, check_type

from stageflow_tools.schema_refs import inline_refs, plain_schema, without_top_ref
from stageflow_tools.strict_schemas import make_strict

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["anthropic_tool", "mcp_annotations", "mcp_tool", "openai_chat_tool", "openai_responses_tool"]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MCP_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_COMBINED: Final = ("anyOf", "oneOf", "allOf", "not", "enum")


def openai_chat_tool(
    name: str,
    description: str = "",
    schema: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
    inline: bool = False,
) -> dict[str, Any]:
    """Return a tool as OpenAI chat completions take it, and whatever speaks the same protocol.

    Args:
        name: What the model calls it.
        description: What it is for.
        schema: The JSON schema of its arguments, an object; None is no arguments.
        strict: Whether the model is held to the schema where it can be; see ``make_strict``. The result's ``strict``
            says whether it is.
        inline: Whether references in the schema are replaced; some servers know none.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: The name is none that OpenAI takes, or the schema is none of an object.

    ```python
    from stageflow_tools.schemas import openai_chat_tool

    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tool = openai_chat_tool("weather", "Ask for the weather.", schema)
    print(tool["type"], tool["function"]["strict"], tool["function"]["parameters"]["additionalProperties"])
    #> function True False
    ```
    """
    return {
        "type": "function",
        "function": _openai("openai_chat_tool", name, description, schema, strict=strict, inline=inline),
    }


def openai_responses_tool(
    name: str,
    description: str = "",
    schema: Mapping[str, Any] | None = None,
    *,
    strict: bool = True,
    inline: bool = False,
) -> dict[str, Any]:
    """Return a tool as OpenAI responses take it.

    Args:
        name: What the model calls it.
        description: What it is for.
        schema: The JSON schema of its arguments, an object; None is no arguments.
        strict: Whether the model is held to the schema where it can be; see ``make_strict``.
        inline: Whether references in the schema are replaced.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: The name is none that OpenAI takes, or the schema is none of an object.

    ```python
    from stageflow_tools.schemas import openai_responses_tool

    print(openai_responses_tool("now", "Tell the time.")["parameters"])
    #> {'type': 'object', 'properties': {}, 'required': [], 'additionalProperties': False}
    ```
    """
    tool = _openai("openai_responses_tool", name, description, schema, strict=strict, inline=inline)
    return {"type": "function", **tool}


def anthropic_tool(
    name: str,
    description: str = "",
    schema: Mapping[str, Any] | None = None,
    *,
    inline: bool = False,
) -> dict[str, Any]:
    """Return a tool as Anthropic messages take it.

    Args:
        name: What the model calls it.
        description: What it is for.
        schema: The JSON schema of its arguments, an object; None is no arguments.
        inline: Whether references in the schema are replaced.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: The name is none that Anthropic takes, or the schema is none of an object.

    ```python
    from stageflow_tools.schemas import anthropic_tool

    print(anthropic_tool("now", "Tell the time."))
    #> {'name': 'now', 'description': 'Tell the time.', 'input_schema': {'type': 'object', 'properties': {}}}
    ```
    """
    owner = "anthropic_tool"
    made = _named(owner, name, description, _NAME)
    made["input_schema"] = _parameters(owner, schema, inline=inline)
    return made


def mcp_tool(
    name: str,
    description: str = "",
    schema: Mapping[str, Any] | None = None,
    *,
    effect: Effect | str | None = None,
    title: str = "",
    output_schema: Mapping[str, Any] | None = None,
    inline: bool = False,
) -> dict[str, Any]:
    """Return a tool as MCP lists it.

    Args:
        name: What the model calls it; dots are allowed.
        description: What it is for.
        schema: The JSON schema of its arguments, an object; None is no arguments.
        effect: What it does to the world, from which the hints follow; see ``mcp_annotations``. None says nothing, and
            clients take it for destructive.
        title: What people call it.
        output_schema: The JSON schema of its structured result, an object; None if it has none.
        inline: Whether references in the schemas are replaced.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: The name is none that MCP takes, a schema is none of an object, or there is no such effect.

    ```python
    from stageflow import Effect
    from stageflow_tools.schemas import mcp_tool

    print(mcp_tool("mail.send", effect=Effect.IRREVERSIBLE)["annotations"])
    #> {'readOnlyHint': False, 'destructiveHint': True, 'idempotentHint': False}
    ```
    """
    owner = "mcp_tool"
    check_type(owner, "title", title, str, "a str")
    made = _named(owner, name, description, _MCP_NAME)
    if title:
        made["title"] = title
    made["inputSchema"] = _parameters(owner, schema, inline=inline, combined=True)
    if output_schema is not None:
        made["outputSchema"] = _parameters(owner, output_schema, inline=inline, combined=True)
    if effect is not None:
        made["annotations"] = mcp_annotations(effect)
    return made


def mcp_annotations(effect: Effect | str) -> dict[str, bool]:
    """Return the hints that MCP has for an effect.

    Args:
        effect: What the tool does to the world.

    Raises:
        ArgumentValueError: There is no such effect.

    Source: Model Context Protocol, ``ToolAnnotations``. An idempotent effect may destroy or not, so nothing is said
    of that, and clients take it for destructive, which is the protocol's default.

    ```python
    from stageflow_tools.schemas import mcp_annotations

    for effect in ("none", "idempotent", "reversible"):
        print(mcp_annotations(effect))
    #> {'readOnlyHint': True}
    #> {'readOnlyHint': False, 'idempotentHint': True}
    #> {'readOnlyHint': False, 'destructiveHint': False, 'idempotentHint': False}
    ```
    """
    try:
        effect = Effect(effect)
    except ValueError:
        names = ", ".join(Effect)
        raise ArgumentValueError("mcp_annotations", "effect", f"is {effect!r}, not one of {names}") from None
    match effect:
        case Effect.NONE:
            return {"readOnlyHint": True}
        case Effect.IDEMPOTENT:
            return {"readOnlyHint": False, "idempotentHint": True}
        case Effect.REVERSIBLE:
            return {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False}
        case Effect.IRREVERSIBLE:
            return {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False}


def _openai(
    owner: str,
    name: str,
    description: str,
    schema: Mapping[str, Any] | None,
    *,
    strict: bool,
    inline: bool,
) -> dict[str, Any]:
    check_type(owner, "strict", strict, bool, "a bool")
    made = _named(owner, name, description, _NAME)
    parameters = _parameters(owner, schema, inline=inline)
    narrowed = make_strict(parameters).schema if strict else None
    made["parameters"] = parameters if narrowed is None else narrowed
    made["strict"] = narrowed is not None
    return made


def _named(owner: str, name: str, description: str, allowed: re.Pattern[str]) -> dict[str, Any]:
    check_name(owner, "name", name)
    check_type(owner, "description", description, str, "a str")
    if not allowed.fullmatch(name):
        fix = "Use a name of WireNames, which can be turned back"
        raise ArgumentValueError(
            owner, "name", f"is {name[:200]!r}, which does not match ^{allowed.pattern}$", fix=fix
        )
    return {"name": name, "description": description} if description else {"name": name}


def _parameters(
    owner: str, schema: Mapping[str, Any] | None, *, inline: bool, combined: bool = False
) -> dict[str, Any]:
    """Return the schema of an object that says at its top that it is one."""
    check_type(owner, "inline", inline, bool, "a bool")
    made = plain_schema(owner, {} if schema is None else schema)
    made = without_top_ref(made)
    made = inline_refs(made) if inline else made
    if made.keys() <= {"$schema", "title", "description", "$defs"} or (
        "type" not in made and "properties" in made
    ):
        made = {"type": "object", **made}
    found = [] if combined else [keyword for keyword in _COMBINED if keyword in made]
    if made.get("type") != "object" or found:
        problem = f"has {found[0]} at its top" if found else f"has the type {made.get('type')!r}"
        fix = "Wrap it: an object with one property"
        raise ArgumentValueError(owner, "schema", f"{problem}, and must be of an object", fix=fix)
    made.setdefault("properties", cast("dict[str, Any]", {}))
    return made
