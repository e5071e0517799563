"""``SubpipelineResult``: what a parent gets of a child run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import check_type, text_of
from stageflow.context.record import Record
from stageflow.errors import StageError, StageflowError
from stageflow.runtime.outcomes import said
from stageflow.runtime.results import PipelineResults

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["SubpipelineResult", "code_of", "data_of"]

_put = object.__setattr__


@final
class SubpipelineResult(Record):
    """What has become of a child run. Read-only.

    Args:
        success: Whether the child ended well.
        child_run_id: The child.
        data: What it left: of a pipeline, each stage's data by the stage's name.
        error: What went wrong.
        duration_ms: How long it took, in milliseconds.
        error_code: The code of the error, if it has one; of a failed stage, that of what was raised in it.
        exception: The error itself. If it is of a run, its ``results`` are what the child's stages had left. It is
            neither compared nor pickled.

    ```python
    from uuid import UUID

    from stageflow.pipeline.subpipeline import SubpipelineResult

    print(SubpipelineResult(True, UUID(int=2), {"greet": {"text": "hi"}}).data["greet"]["text"])
    #> hi
    ```
    """

    __match_args__ = ("success", "child_run_id", "data", "error", "duration_ms", "error_code")
    __slots__ = (*__match_args__, "exception")
    success: bool
    child_run_id: UUID
    data: dict[str, Any] | None
    error: str | None
    duration_ms: float
    error_code: str | None
    exception: BaseException | None

    def __init__(
        self,
        success: bool,  # noqa: FBT001 - the published signature is positional
        child_run_id: UUID,
        data: dict[str, Any] | None = None,
        error: str | None = None,
        duration_ms: float = 0.0,
        error_code: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        _put(self, "success", success)
        _put(self, "child_run_id", child_run_id)
        _put(self, "data", data)
        _put(self, "error", error)
        _put(self, "duration_ms", duration_ms)
        _put(self, "error_code", error_code)
        _put(self, "exception", exception)

    @classmethod
    def failed(cls, child_run_id: UUID, error: BaseException, duration_ms: float) -> SubpipelineResult:
        """Return the result of a child that ended with *error*."""
        check_type("SubpipelineResult.failed", "error", error, BaseException, "an exception")
        return cls(False, child_run_id, None, said(error), duration_ms, code_of(error), error)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data; data, error and its code only if there are any."""
        plain: dict[str, Any] = {
            "success": self.success,
            "child_run_id": text_of(self.child_run_id),
            "duration_ms": self.duration_ms,
        }
        if self.data:
            plain["data"] = self.data
        if self.error:
            plain["error"] = self.error
        if self.error_code:
            plain["error_code"] = self.error_code
        return plain


def code_of(error: BaseException) -> str | None:
    """Return the code of an error; of a failed stage, that of what was raised in it, if it has one."""
    code: str | None = None
    while isinstance(error, StageflowError):
        code = error.code
        if not isinstance(error, StageError):
            break
        error = error.original
    return code


def data_of(value: object) -> dict[str, Any]:
    """Return what a runner gave as the data of a result."""
    if isinstance(value, PipelineResults):
        return {stage: output.data for stage, output in value.items()}
    if isinstance(value, dict):
        return value  # pyright: ignore[reportUnknownVariableType] - its keys are the runner's affair
    return {"result": value}
