"""The attributes of a stage's span, each once.

Only ``error.type`` is OpenTelemetry's own; the others are Stageflow's and begin with ``stageflow.``.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ATTEMPT",
    "CANCEL_REASON",
    "ERROR_TYPE",
    "RUN_ID",
    "STAGE",
    "STAGE_KIND",
    "STAGE_STATUS",
    "TENANT_ID",
    "TOPOLOGY",
]

STAGE: Final = "stageflow.stage"
"""The stage's name."""

STAGE_KIND: Final = "stageflow.stage.kind"
"""What the stage is for, as ``"transform"``."""

STAGE_STATUS: Final = "stageflow.stage.status"
"""How the attempt ended: ``"ok"``, ``"skip"``, ``"fail"``, ``"retry"``, ``"cancel"``, or ``"interrupted"`` when it
was stopped from outside."""

ATTEMPT: Final = "stageflow.attempt"
"""Which attempt of the stage it was, from 1."""

RUN_ID: Final = "stageflow.run_id"
"""The run."""

TOPOLOGY: Final = "stageflow.topology"
"""The kind of pipeline, where the snapshot says it."""

TENANT_ID: Final = "stageflow.tenant_id"
"""The organisation that the run belongs to, if any."""

CANCEL_REASON: Final = "stageflow.cancel_reason"
"""Why the attempt was stopped, if that is known."""

ERROR_TYPE: Final = "error.type"
"""The class of the exception that ended the attempt."""
