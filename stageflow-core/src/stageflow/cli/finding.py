"""``Finding``: one thing that ``stageflow doctor`` has to say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from stageflow.plugins.report import sentence

__all__ = ["Finding"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is wrong, or could become so, and what to do about it."""

    message: str
    """What it is, in a sentence without the final full stop."""

    fix: str
    """What to do, in such a sentence too, or nothing."""

    def __str__(self) -> str:
        text = sentence(self.message)
        return f"{text} What to do: {sentence(self.fix)}" if self.fix else text
