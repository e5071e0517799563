"""The data that a run carries: identity, input, conversation, enrichments, extensions.

Names are imported when they are first used, so that ``from stageflow.context import ContextSnapshot``
loads the snapshot's module and nothing else.

```python
from stageflow.context import ContextSnapshot, Conversation, Message

snapshot = ContextSnapshot(input_text="hi", conversation=Conversation([Message("user", "hi")]))
print(snapshot.messages[0].role)
#> user
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.context.bags import (
        ContextBag,
        DataConflictError,
        OutputBag,
        OutputConflictError,
        OutputEntry,
    )
    from stageflow.context.checks import ArgumentTypeError, ArgumentValueError
    from stageflow.context.conversation import Conversation, Message, RoutingDecision
    from stageflow.context.enrich import (
        ConflictDetector,
        ConflictResolution,
        ContextUtilization,
        TruncationEvent,
        TruncationTracker,
        VersionMetadata,
    )
    from stageflow.context.enrichments import (
        DocumentEnrichment,
        Enrichments,
        MemoryEnrichment,
        ProfileEnrichment,
    )
    from stageflow.context.extensions import ExtensionBundle
    from stageflow.context.frozen import (
        CyclicDataError,
        FrozenDict,
        FrozenList,
        ReadOnlySet,
        freeze,
        freeze_in_slices,
        thaw,
    )
    from stageflow.context.identity import RunIdentity
    from stageflow.context.record import ReadOnlyFieldError
    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.context.timestamps import detect_unix_precision, normalize_to_utc, parse_timestamp

__all__ = [
    "ArgumentTypeError",
    "ArgumentValueError",
    "ConflictDetector",
    "ConflictResolution",
    "ContextBag",
    "ContextSnapshot",
    "ContextUtilization",
    "Conversation",
    "CyclicDataError",
    "DataConflictError",
    "DocumentEnrichment",
    "Enrichments",
    "ExtensionBundle",
    "FrozenDict",
    "FrozenList",
    "MemoryEnrichment",
    "Message",
    "OutputBag",
    "OutputConflictError",
    "OutputEntry",
    "ProfileEnrichment",
    "ReadOnlyFieldError",
    "ReadOnlySet",
    "RoutingDecision",
    "RunIdentity",
    "TruncationEvent",
    "TruncationTracker",
    "VersionMetadata",
    "detect_unix_precision",
    "freeze",
    "freeze_in_slices",
    "normalize_to_utc",
    "parse_timestamp",
    "thaw",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "bags": ("ContextBag", "DataConflictError", "OutputBag", "OutputConflictError", "OutputEntry"),
            "checks": ("ArgumentTypeError", "ArgumentValueError"),
            "conversation": ("Conversation", "Message", "RoutingDecision"),
            "enrich": (
                "ConflictDetector",
                "ConflictResolution",
                "ContextUtilization",
                "TruncationEvent",
                "TruncationTracker",
                "VersionMetadata",
            ),
            "enrichments": ("DocumentEnrichment", "Enrichments", "MemoryEnrichment", "ProfileEnrichment"),
            "extensions": ("ExtensionBundle",),
            "frozen": (
                "CyclicDataError",
                "FrozenDict",
                "FrozenList",
                "ReadOnlySet",
                "freeze",
                "freeze_in_slices",
                "thaw",
            ),
            "identity": ("RunIdentity",),
            "record": ("ReadOnlyFieldError",),
            "snapshot": ("ContextSnapshot",),
            "timestamps": ("detect_unix_precision", "normalize_to_utc", "parse_timestamp"),
        },
    )
