"""``ToolConformance``: what every tool promises, as tests."""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import pytest

from stageflow.protocols import Tool
from stageflow.stages.effect import Effect
from stageflow.testing.conformance.body import BodySuite
from stageflow.testing.factories import create_test_stage_context

if TYPE_CHECKING:
    from stageflow.testing.conformance.body import Rewrite

__all__ = ["ToolConformance"]

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_TYPES: Final = {"array", "boolean", "integer", "null", "number", "object", "string"}
_FIXED: Final = {"const", "enum", "format", "maxLength", "pattern"}
"""What in a schema keeps a text from being any text."""


class ToolConformance(BodySuite):
    """Derive from it in a module of tests, say how the tool is made and called, and inherit the tests.

    Attributes:
        arguments: Arguments with which a call goes well.
        takes_any_text: Whether it works with any text in those of the arguments that the schema leaves open.
        repeatable: Whether equal arguments give equal results.
        plain_output: Whether JSON can say the result; an agent needs that.

    ```python
    from stageflow import Effect
    from stageflow.testing.conformance import ToolConformance


    class Length:
        name = "acme.length"
        description = "Count the characters of a text."
        input_schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        effect = Effect.NONE

        async def call(self, arguments, ctx):
            return {"length": len(arguments["text"])}


    class TestLength(ToolConformance):
        arguments = {"text": "Ada"}

        def make_tool(self):
            return Length()
    ```
    """

    contract: ClassVar[str] = "tool"
    arguments: ClassVar[Mapping[str, Any]] = {}

    def make_tool(self) -> Tool:
        """Return a new tool."""
        raise NotImplementedError

    # --- what a model is told ---------------------------------------------------------------------------

    def test_it_is_a_tool(self) -> None:
        """It has ``name``, ``description``, ``input_schema``, ``effect`` and an async ``call(arguments, ctx)``."""
        tool: Any = self.make_tool()
        assert isinstance(tool, Tool)
        assert inspect.iscoroutinefunction(tool.call), "call is not async"
        inspect.signature(tool.call).bind({}, None)
        assert isinstance(tool.effect, Effect), f"its effect is {tool.effect!r}, where an Effect is expected"

    def test_its_name_can_be_called(self) -> None:
        """The name is of letters, digits, ``_``, ``-`` and ``.``, as providers of models take it."""
        name: object = self.make_tool().name
        assert isinstance(name, str)
        assert _NAME.fullmatch(name), f"{name!r} is not a name for a tool"

    def test_its_description_says_something(self) -> None:
        """There is a description: without one a model calls it at the wrong time, or never."""
        description: object = self.make_tool().description
        assert isinstance(description, str)
        assert description.strip()

    def test_its_schema_is_a_schema(self) -> None:
        """``input_schema`` is JSON, describes an object, and requires only what it describes."""
        schema = self._schema()
        json.dumps(schema, allow_nan=False)
        assert schema.get("type") == "object", "the schema does not describe an object"
        properties = schema.get("properties", {})
        assert isinstance(properties, Mapping), "'properties' is no mapping"
        for name, about in cast("Mapping[str, Any]", properties).items():
            assert isinstance(about, Mapping), f"the schema of {name!r} is no mapping"
            kinds: Any = cast("Mapping[str, Any]", about).get("type", "object")
            assert set([kinds] if isinstance(kinds, str) else kinds) <= _TYPES, (
                f"{name!r} has the type {kinds!r}"
            )
        unknown = set(schema.get("required", ())) - set(cast("Mapping[str, Any]", properties))
        assert not unknown, f"the schema requires {sorted(unknown)}, which it does not describe"

    def test_the_schema_takes_the_arguments(self) -> None:
        """The ``arguments`` of the suite are those that the schema describes."""
        schema = self._schema()
        missing = [name for name in schema.get("required", ()) if name not in self.arguments]
        assert not missing, f"arguments of the suite lacks {missing}"
        unknown = set(self.arguments) - set(schema.get("properties", {}))
        assert not unknown, f"the schema does not describe {sorted(unknown)}"

    # --- wrong calls ------------------------------------------------------------------------------------

    def test_a_missing_argument_is_refused(self) -> None:
        """A call without a required argument raises an error that names it, and does nothing."""
        required: Sequence[str] = self._schema().get("required", ())
        if not required:
            pytest.skip("it requires none")
        for name in required:
            rest = {key: value for key, value in self.arguments.items() if key != name}
            said = self._refusal(rest)
            assert said is not None, f"without {name!r}, it answered all the same"
            assert name in said, f"without {name!r}, it said {said!r}, which does not name it"

    def test_an_unknown_argument_is_refused(self) -> None:
        """If the schema allows no other arguments, neither does the tool."""
        if self._schema().get("additionalProperties") is not False:
            pytest.skip("its schema allows others")
        said = self._refusal({**self.arguments, "no_such_argument": 1})
        assert said is not None, "it took 'no_such_argument', which its schema forbids"

    def test_it_leaves_the_arguments_alone(self) -> None:
        """After a call, the arguments are what they were: the caller keeps them as what was done."""
        given = self._arguments()
        self._drive(
            lambda: self.make_tool().call(given, create_test_stage_context(snapshot=self.make_context()))
        )
        assert given == self._arguments()

    # --- how it is proved -------------------------------------------------------------------------------

    def _schema(self) -> Mapping[str, Any]:
        schema: Any = self.make_tool().input_schema
        assert isinstance(schema, Mapping), f"its input_schema is {type(schema).__name__}, not a mapping"
        return cast("Mapping[str, Any]", schema)

    def _refusal(self, arguments: dict[str, Any]) -> str | None:
        """Return what a call raises, in words, or None if it does not."""

        async def call() -> str | None:
            try:
                await self.make_tool().call(
                    arguments, create_test_stage_context(snapshot=self.make_context())
                )
            except Exception as exc:  # noqa: BLE001 - which error it is, is the tool's choice
                return f"{type(exc).__name__}: {exc}"
            return None

        return self._drive(call)

    def _arguments(self, rewrite: Rewrite | None = None) -> dict[str, Any]:
        arguments: dict[str, Any] = copy.deepcopy(dict(self.arguments))
        if rewrite is None or not self.takes_any_text:
            return arguments
        properties: Mapping[str, Any] = self._schema().get("properties", {})
        for name, value in arguments.items():
            if isinstance(value, str) and not _FIXED & set(properties.get(name, ())):
                arguments[name] = rewrite(value)
        return arguments

    def _made(self) -> Tool:
        return self.make_tool()

    def _stage_of(self, part: Any, rewrite: Rewrite | None = None) -> Any:
        async def tool(ctx: Any) -> dict[str, Any]:
            return {"result": await part.call(self._arguments(rewrite), ctx)}

        return tool
