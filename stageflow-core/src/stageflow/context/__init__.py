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

from typing import TYPE_CHECKING, Any

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
    "freeze",
    "freeze_in_slices",
    "thaw",
]

_WHERE = {
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
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
