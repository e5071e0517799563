"""``Part``: what a stretch of a stage's time went to."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Part"]


class Part(StrEnum):
    """What a stretch of a stage's time went to. Every moment of a stage belongs to one part, so they add up.

    Attributes:
        DEPENDENCIES: It waited for the stages that it depends on.
        QUEUE: It was ready, and waited for its turn or for a place under a concurrency limit.
        GATE: Its effect waited for the gates.
        APPROVAL: It waited for somebody's approval.
        BACKOFF: It waited for another attempt.
        TRANSPORT: Its inputs or its output were on their way to or from where its body ran.
        STREAM: It waited for a chunk, or for room for one.
        RUN: It ran.

    ```python
    from stageflow.stages.part import Part

    print(Part("gate") is Part.GATE)
    #> True
    ```
    """

    DEPENDENCIES = "dependencies"
    QUEUE = "queue"
    GATE = "gate"
    APPROVAL = "approval"
    BACKOFF = "backoff"
    TRANSPORT = "transport"
    STREAM = "stream"
    RUN = "run"
