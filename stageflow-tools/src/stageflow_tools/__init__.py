"""Tools for Stageflow: what a pipeline, or a model, can call, and one executor that calls it with care.

```python
import asyncio

from stageflow import Effect
from stageflow_tools import ToolCall, ToolExecutor

tools = ToolExecutor()


@tools.registry.register(effect=Effect.NONE)
def add(a: int, b: int = 1) -> int:
    return a + b


print(asyncio.run(tools.execute(ToolCall("add", {"a": 41}))).data)
#> {'result': 42}
```

Names are imported when they are first used: ``import stageflow_tools`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow_tools.approval import (
        ApprovalService,
        clear_approval_service,
        get_approval_service,
        set_approval_service,
    )
    from stageflow_tools.approval_request import (
        ApprovalDecision,
        ApprovalPending,
        ApprovalRequest,
        ApprovalStatus,
    )
    from stageflow_tools.approval_scope import ApprovalScope
    from stageflow_tools.approval_sqlite import SqliteApprovalStore
    from stageflow_tools.approval_store import ApprovalStore, InMemoryApprovalStore
    from stageflow_tools.base import BaseTool
    from stageflow_tools.call import ToolCallStage
    from stageflow_tools.call_problem import UnresolvedReason
    from stageflow_tools.call_stream import PartialToolCall, ToolCallAssembler
    from stageflow_tools.calls import ResolvedToolCall, UnresolvedToolCall, parse_and_resolve
    from stageflow_tools.context import DictContextAdapter, ToolContext, adapt_context
    from stageflow_tools.definition import ToolDefinition
    from stageflow_tools.diff import DiffResult, DiffType, diff_json, diff_structured, diff_text
    from stageflow_tools.errors import (
        ToolApprovalDeniedError,
        ToolApprovalPendingError,
        ToolApprovalTimeoutError,
        ToolArgumentsError,
        ToolCallConfigError,
        ToolConflictError,
        ToolDefinitionError,
        ToolDeniedError,
        ToolError,
        ToolExecutionError,
        ToolNotFoundError,
        ToolOutputError,
        ToolUndoError,
    )
    from stageflow_tools.executor import AdvancedToolExecutor, ToolExecutor, ToolExecutorConfig
    from stageflow_tools.function_tool import FunctionTool, tool
    from stageflow_tools.inputs import Action, ToolCall, ToolInput
    from stageflow_tools.output import ToolOutput
    from stageflow_tools.partial_json import parse_partial_json
    from stageflow_tools.registry import ToolRegistry, clear_tool_registry, get_tool_registry, register_tool
    from stageflow_tools.schemas import (
        anthropic_tool,
        mcp_annotations,
        mcp_tool,
        openai_chat_tool,
        openai_responses_tool,
    )
    from stageflow_tools.undo import InMemoryUndoStore, UndoRecord, UndoStore
    from stageflow_tools.undo_journal import UndoJournal, UndoReport
    from stageflow_tools.undo_sqlite import SqliteUndoStore
    from stageflow_tools.wire_names import WireNames

__all__ = [
    "Action",
    "AdvancedToolExecutor",
    "ApprovalDecision",
    "ApprovalPending",
    "ApprovalRequest",
    "ApprovalScope",
    "ApprovalService",
    "ApprovalStatus",
    "ApprovalStore",
    "BaseTool",
    "DictContextAdapter",
    "DiffResult",
    "DiffType",
    "FunctionTool",
    "InMemoryApprovalStore",
    "InMemoryUndoStore",
    "PartialToolCall",
    "ResolvedToolCall",
    "SqliteApprovalStore",
    "SqliteUndoStore",
    "ToolApprovalDeniedError",
    "ToolApprovalPendingError",
    "ToolApprovalTimeoutError",
    "ToolArgumentsError",
    "ToolCall",
    "ToolCallAssembler",
    "ToolCallConfigError",
    "ToolCallStage",
    "ToolConflictError",
    "ToolContext",
    "ToolDefinition",
    "ToolDefinitionError",
    "ToolDeniedError",
    "ToolError",
    "ToolExecutionError",
    "ToolExecutor",
    "ToolExecutorConfig",
    "ToolInput",
    "ToolNotFoundError",
    "ToolOutput",
    "ToolOutputError",
    "ToolRegistry",
    "ToolUndoError",
    "UndoJournal",
    "UndoRecord",
    "UndoReport",
    "UndoStore",
    "UnresolvedReason",
    "UnresolvedToolCall",
    "WireNames",
    "adapt_context",
    "anthropic_tool",
    "clear_approval_service",
    "clear_tool_registry",
    "diff_json",
    "diff_structured",
    "diff_text",
    "get_approval_service",
    "get_tool_registry",
    "mcp_annotations",
    "mcp_tool",
    "openai_chat_tool",
    "openai_responses_tool",
    "parse_and_resolve",
    "parse_partial_json",
    "register_tool",
    "set_approval_service",
    "tool",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "approval": (
                "ApprovalService",
                "clear_approval_service",
                "get_approval_service",
                "set_approval_service",
            ),
            "approval_request": (
                "ApprovalDecision",
                "ApprovalPending",
                "ApprovalRequest",
                "ApprovalStatus",
            ),
            "approval_scope": ("ApprovalScope",),
            "approval_sqlite": ("SqliteApprovalStore",),
            "approval_store": (
                "ApprovalStore",
                "InMemoryApprovalStore",
            ),
            "base": ("BaseTool",),
            "call": ("ToolCallStage",),
            "call_problem": ("UnresolvedReason",),
            "call_stream": (
                "PartialToolCall",
                "ToolCallAssembler",
            ),
            "calls": (
                "ResolvedToolCall",
                "UnresolvedToolCall",
                "parse_and_resolve",
            ),
            "context": (
                "DictContextAdapter",
                "ToolContext",
                "adapt_context",
            ),
            "definition": ("ToolDefinition",),
            "diff": (
                "DiffResult",
                "DiffType",
                "diff_json",
                "diff_structured",
                "diff_text",
            ),
            "errors": (
                "ToolApprovalDeniedError",
                "ToolApprovalPendingError",
                "ToolApprovalTimeoutError",
                "ToolArgumentsError",
                "ToolCallConfigError",
                "ToolConflictError",
                "ToolDefinitionError",
                "ToolDeniedError",
                "ToolError",
                "ToolExecutionError",
                "ToolNotFoundError",
                "ToolOutputError",
                "ToolUndoError",
            ),
            "executor": (
                "AdvancedToolExecutor",
                "ToolExecutor",
                "ToolExecutorConfig",
            ),
            "function_tool": (
                "FunctionTool",
                "tool",
            ),
            "inputs": (
                "Action",
                "ToolCall",
                "ToolInput",
            ),
            "output": ("ToolOutput",),
            "partial_json": ("parse_partial_json",),
            "registry": (
                "ToolRegistry",
                "clear_tool_registry",
                "get_tool_registry",
                "register_tool",
            ),
            "schemas": (
                "anthropic_tool",
                "mcp_annotations",
                "mcp_tool",
                "openai_chat_tool",
                "openai_responses_tool",
            ),
            "undo": (
                "InMemoryUndoStore",
                "UndoRecord",
                "UndoStore",
            ),
            "undo_journal": (
                "UndoJournal",
                "UndoReport",
            ),
            "undo_sqlite": ("SqliteUndoStore",),
            "wire_names": ("WireNames",),
        },
    )
