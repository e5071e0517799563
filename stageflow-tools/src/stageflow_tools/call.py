"""The stage ``tools.call``: calls one tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final

from stageflow import StageKind, StageOutput
from stageflow.context import thaw
from stageflow.lazy import LazyRef

from stageflow_tools.errors import ToolArgumentsError, ToolCallConfigError
from stageflow_tools.executor import ToolExecutor
from stageflow_tools.inputs import ToolCall
from stageflow_tools.registry import ToolRegistry

if TYPE_CHECKING:
    from stageflow import StageContext

__all__ = ["ToolCallStage"]


@final
class ToolCallStage:
    """Calls one tool, and hands over what it returned, beside its name: ``{"tool": name, **data}``.

    A value that is no mapping is handed over as ``result``. The stage fails if the tool says that it failed.

    Args:
        tools: A ``ToolExecutor``, or a ``ToolRegistry`` for one with the defaults; or where it is:
            ``"package.module:attribute"``.
        tool: The name of the tool in it.
        arguments: Arguments that are always the same.
        arguments_from: Arguments that come from stages that this one depends on. Either one place for all of
            them, ``"stage:key"`` or, for the whole output, ``"stage"``; or a place for each, as
            ``{"b": "stage:key"}``. What ``arguments`` fixes cannot come from a stage as well.

    Raises:
        ToolCallConfigError: An option has another form than that.
        ToolNotFoundError: There is no such tool.
        LazyImportError: ``tools`` is text that does not resolve.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind, StageOutput
    from stageflow_tools import ToolCallStage, ToolRegistry

    tools = ToolRegistry()


    @tools.register
    def add(a: int, b: int) -> int:
        return a + b


    async def count(ctx):
        return StageOutput.ok(words=len(ctx.input_text.split()))


    add_one = ToolCallStage(tools, "add", {"a": 1}, {"b": "count:words"})
    pipeline = (
        Pipeline()
        .with_stage("count", count, StageKind.TRANSFORM)
        .with_stage("add", add_one, StageKind.WORK, ["count"])
    )
    print(asyncio.run(pipeline.run(input_text="to be or not"))["add"].data)
    #> {'tool': 'add', 'result': 5}
    ```
    """

    name = "tools.call"
    kind = StageKind.WORK

    __slots__ = ("_executor", "_fixed", "_tool", "_whole", "_wired")

    def __init__(
        self,
        tools: ToolExecutor | ToolRegistry | str,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        arguments_from: str | Mapping[str, str] | None = None,
    ) -> None:
        self._executor = _executor(tools)
        self._tool = self._executor.registry[_text("tool", tool)].name
        self._fixed: dict[str, Any] = {} if arguments is None else _mapping("arguments", arguments)
        self._whole: tuple[str, str | None] | None = None
        self._wired: dict[str, tuple[str, str | None]] = {}
        if isinstance(arguments_from, str):
            self._whole = _place(arguments_from)
        elif arguments_from is not None:
            wired = _mapping("arguments_from", arguments_from)
            self._wired = {argument: _place(place) for argument, place in wired.items()}
            twice = sorted(self._fixed.keys() & self._wired)
            if twice:
                problem = f"names {', '.join(map(repr, twice))}, which 'arguments' fixes already"
                raise ToolCallConfigError("arguments_from", problem, fix="Say each argument once")

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Call the tool.

        Args:
            ctx: The context of the stage's attempt.

        Raises:
            ToolArgumentsError: The arguments do not fit; the tool is not called.
            MissingInputError: A stage has not left what is to be an argument.
            UndeclaredDependencyError: The stage does not depend on the one that an argument comes from.
            ToolError: The call has not come to its end; see ``ToolExecutor.execute``.
        """
        arguments = self._from_stages(ctx)
        twice = sorted(self._fixed.keys() & arguments)
        if twice:
            problem = "the pipeline fixes it, so it cannot come from a stage"
            raise ToolArgumentsError(self._tool, dict.fromkeys(twice, problem))
        # The same in every attempt of the stage, so that an idempotent executor calls the tool once.
        call_id = f"{ctx.pipeline_run_id}:{ctx.stage_name}"
        output = await self._executor.execute(
            ToolCall(self._tool, {**arguments, **self._fixed}, call_id), ctx
        )
        if not output.success:
            return StageOutput.fail(output.error or f"Tool {self._tool!r} has failed")
        return StageOutput.ok({"tool": self._tool, **(output.data or {})})

    def _from_stages(self, ctx: StageContext) -> dict[str, Any]:
        if self._whole is None:
            return {argument: _read(ctx, place) for argument, place in self._wired.items()}
        value = _read(ctx, self._whole)
        if not isinstance(value, Mapping):
            stage, key = self._whole
            problem = (
                f"{key!r} of stage {stage!r} is {type(value).__name__}, not a mapping of names to values"
            )
            raise ToolArgumentsError(self._tool, {"arguments": problem})
        return {str(name): one for name, one in cast("Mapping[object, Any]", value).items()}


def _read(ctx: StageContext, place: tuple[str, str | None]) -> Any:
    """Return what is at a place, as plain data: tools are not written for read-only values."""
    stage, key = place
    if key is not None:
        return thaw(ctx.inputs.require_from(stage, key))
    output = ctx.inputs.get_output(stage)
    return {} if output is None else thaw(output.data)


def _executor(tools: object) -> ToolExecutor:
    if isinstance(tools, str):
        tools = LazyRef(tools, asked_by="tools= of a tools.call stage").resolve()
    if isinstance(tools, ToolExecutor):
        return tools
    if isinstance(tools, ToolRegistry):
        return ToolExecutor(registry=tools)
    problem = f"is {type(tools).__name__}, neither a ToolExecutor nor a ToolRegistry"
    fix = "Pass one of them, or where one is: 'package.module:attribute'"
    raise ToolCallConfigError("tools", problem, fix=fix)


def _text(option: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ToolCallConfigError(option, f"is {value!r}, not a name", fix=f"Pass a str as {option!r}")
    return value


def _mapping(option: str, value: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):  # pyright: ignore[reportUnnecessaryIsInstance] - a config comes from anywhere
        problem = f"is {value!r}, not a mapping of argument names"
        raise ToolCallConfigError(option, problem, fix="Pass a dict whose keys are the names of arguments")
    return dict(value)


def _place(place: object) -> tuple[str, str | None]:
    stage, colon, key = place.partition(":") if isinstance(place, str) else ("", "", "")
    if not stage or (colon and not key):
        problem = f"has {place!r}, which names no place in the output of a stage"
        raise ToolCallConfigError(
            "arguments_from", problem, fix="Write 'stage:key', or 'stage' for all of it"
        )
    return stage, key or None
