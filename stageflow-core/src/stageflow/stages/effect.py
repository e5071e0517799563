"""``Effect``: what a stage, or a tool, does to the world."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from stageflow.stages.stage import StageKind

__all__ = ["Effect", "effect_of_kind"]


class Effect(StrEnum):
    """What a stage does to the world, if it is not only to compute.

    One word decides how it is retried, whether it waits for the gates of its pipeline, and what undoing it takes.

    Attributes:
        NONE: It leaves nothing behind but its output. So it never waits for a gate.
        IDEMPOTENT: To do it twice is to do it once, as with a ``PUT``.
        REVERSIBLE: It can be undone; it leaves an undo receipt (``ctx.leave_receipt``) before it counts as done.
        IRREVERSIBLE: It cannot be taken back: a mail, a payment. It is not repeated after an exception, unless the
            run has an idempotency key.

    ```python
    from stageflow import Effect, StageKind, StageSpec


    async def charge(ctx): ...


    print(StageSpec("charge", charge, StageKind.WORK).effect, StageSpec("price", charge).effect)
    #> irreversible none
    ```
    """

    NONE = "none"
    IDEMPOTENT = "idempotent"
    REVERSIBLE = "reversible"
    IRREVERSIBLE = "irreversible"


_OF_WORK: Final = Effect.IRREVERSIBLE
_OF_OTHERS: Final = Effect.NONE


def effect_of_kind(kind: StageKind) -> Effect:
    """Return the effect of a stage that does not say: the worst for WORK, none for all others."""
    return _OF_WORK if kind is StageKind.WORK else _OF_OTHERS
