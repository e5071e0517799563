"""``ToolContext``: the way back from a running tool to the run, and ``adapt_context``, for whoever brings a dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final
from uuid import UUID

from stageflow import StageContext
from stageflow.protocols import ExecutionContext

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DictContextAdapter", "ToolContext", "adapt_context", "tenant_of"]


@final
class ToolContext:
    """What a running tool knows of its call, and what it can tell of it.

    A function gets one in a parameter with this type, which is no argument of the tool.

    Args:
        call_id: The call.
        tool: The tool.
        execution: Who runs it.
        emit: Takes the events of the call.

    Attributes:
        attempt: Which attempt this is, from 1.
        artifacts: What the tool has made so far beside its data.
        undo_metadata: What undoing it will take.

    ```python
    import asyncio

    from stageflow_tools import ToolContext, ToolExecutor, ToolRegistry

    tools = ToolRegistry()


    @tools.register
    async def count(words: list[str], ctx: ToolContext) -> int:
        ctx.progress("half way", fraction=0.5)
        return len(words)


    print(list(tools["count"].input_schema["properties"]))
    #> ['words']
    ```
    """

    __slots__ = ("_emit", "artifacts", "attempt", "call_id", "execution", "tool", "undo_metadata")

    def __init__(
        self,
        call_id: str,
        tool: str,
        execution: ExecutionContext,
        emit: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        self.call_id = call_id
        self.tool = tool
        self.execution = execution
        self._emit = emit
        self.attempt = 1
        self.artifacts: list[dict[str, Any]] = []
        self.undo_metadata: dict[str, Any] | None = None

    def progress(self, message: str = "", *, fraction: float | None = None, **data: Any) -> None:
        """Tell how far the tool is: a ``tool.progress`` event of the run.

        Args:
            message: Where it is, for people.
            fraction: How much of it is done, from 0 to 1.
            **data: Further facts.
        """
        if self._emit is not None:
            self._emit("tool.progress", {"message": message, "fraction": fraction, **data})

    def keep_for_undo(self, **metadata: Any) -> None:
        """Keep what undoing takes, so that it is on record before the call counts as done."""
        self.undo_metadata = {**(self.undo_metadata or {}), **metadata}

    def add_artifact(self, **artifact: Any) -> None:
        """Hand on something that the tool has made beside its data."""
        self.artifacts.append(artifact)


@final
class DictContextAdapter:
    """A dict as an ``ExecutionContext``: its ids may be text, and its events go nowhere.

    ```python
    from stageflow_tools import DictContextAdapter

    ctx = DictContextAdapter({"pipeline_run_id": "not an id", "execution_mode": "practice"})
    print(ctx.pipeline_run_id, ctx.execution_mode)
    #> None practice
    ```
    """

    __slots__ = ("_data",)

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._data = dict(data)

    @property
    def pipeline_run_id(self) -> UUID | None:
        """The run, if the dict holds an id of one."""
        return _uuid(self._data.get("pipeline_run_id"))

    @property
    def request_id(self) -> UUID | None:
        """The request, if the dict holds an id of one."""
        return _uuid(self._data.get("request_id"))

    @property
    def execution_mode(self) -> str | None:
        """The execution mode."""
        mode = self._data.get("execution_mode")
        return None if mode is None else str(mode)

    def to_dict(self) -> dict[str, Any]:
        """Return the dict."""
        return dict(self._data)

    def try_emit_event(self, type: str, data: dict[str, Any]) -> None:  # noqa: A002 - published name
        """Nobody listens."""


def adapt_context(ctx: object) -> ExecutionContext:
    """Return *ctx* as an ``ExecutionContext``: one is left as it is, a dict is wrapped, None is an empty one.

    Raises:
        TypeError: It is something else.

    ```python
    from stageflow_tools import adapt_context

    print(adapt_context({"execution_mode": "practice"}).execution_mode)
    #> practice
    ```
    """
    if isinstance(ctx, StageContext):  # first: to ask for a protocol takes as long as a call
        return ctx
    if isinstance(ctx, Mapping):
        return DictContextAdapter(cast("Mapping[str, Any]", ctx))
    if ctx is None:
        return DictContextAdapter({})
    if isinstance(ctx, ExecutionContext):
        return ctx
    msg = f"A context is an ExecutionContext, such as a StageContext, or a dict; not {type(ctx).__name__}"
    raise TypeError(msg)


def tenant_of(ctx: ExecutionContext) -> str | None:
    """Return whose run it is."""
    org_id = ctx.to_dict().get("org_id")
    return None if org_id is None else str(org_id)


def _uuid(value: object) -> UUID | None:
    if isinstance(value, UUID):
        return value
    try:
        return UUID(str(value)) if value else None
    except ValueError:
        return None
