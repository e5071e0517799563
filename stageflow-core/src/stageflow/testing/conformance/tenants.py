"""``Tenant``: one of many callers whose runs are interleaved, and by what each would be recognised elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from uuid import UUID, uuid5

from stageflow.context.identity import RunIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stageflow.context.snapshot import ContextSnapshot

__all__ = ["CROWD", "Tenant", "foreign_marks", "mark_of", "tenant_snapshot", "tenants_of"]

CROWD: Final = 50
"""How many runs are under way at once."""

_SPACE: Final = UUID("5b1b6a0e-6f0c-4f5a-9c1e-2d2f7f6b8a11")
_IDS: Final = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id", "interaction_id")


@final
class Tenant(NamedTuple):
    """One caller.

    Attributes:
        number: Which one.
        snapshot: What its run is started with: ids of its own, and often a text of its own.
        marks: The texts that belong to no other tenant.
    """

    number: int
    snapshot: ContextSnapshot[Any]
    marks: frozenset[str]


def mark_of(number: int) -> str:
    """Return the word that is put into the texts of a tenant."""
    return f"tenant-{number:04}"


def tenant_snapshot(snapshot: ContextSnapshot[Any], number: int, *, text: bool) -> ContextSnapshot[Any]:
    """Return a copy with the ids of a tenant.

    Args:
        snapshot: What a run is started with.
        number: Which tenant.
        text: Whether the input, if there is one, gets the tenant's word.

    ```python
    from stageflow import ContextSnapshot
    from stageflow.testing.conformance.tenants import tenant_snapshot

    print(tenant_snapshot(ContextSnapshot(input_text="Ada"), 7, text=True).input_text)
    #> Ada tenant-0007
    ```
    """
    ids: dict[str, Any] = {name: uuid5(_SPACE, f"{name} {number}") for name in _IDS}
    changed = snapshot.with_run_id(RunIdentity(**ids))
    if text and snapshot.input_text is not None:
        changed = changed.with_input(f"{snapshot.input_text} {mark_of(number)}")
    return changed


def tenants_of(snapshots: Iterable[ContextSnapshot[Any]]) -> list[Tenant]:
    """Return a tenant for each snapshot; what two of them have in common marks neither."""
    found = [(snapshot, _marks(number, snapshot)) for number, snapshot in enumerate(snapshots)]
    counts: dict[str, int] = {}
    for _, marks in found:
        for mark in marks:
            counts[mark] = counts.get(mark, 0) + 1
    return [
        Tenant(number, snapshot, frozenset(mark for mark in marks if counts[mark] == 1))
        for number, (snapshot, marks) in enumerate(found)
    ]


def foreign_marks(value: object, own: Tenant, everybody: Sequence[Tenant]) -> list[str]:
    """Return what in *value* belongs to another tenant than *own*."""
    text = repr(value)
    return [
        f"{mark} of tenant {other.number}"
        for other in everybody
        if other.number != own.number
        for mark in sorted(other.marks)
        if mark in text
    ]


def _marks(number: int, snapshot: ContextSnapshot[Any]) -> set[str]:
    ids = [one for name in _IDS if (one := getattr(snapshot, name)) is not None]
    return {mark_of(number), *map(str, ids), *(one.hex for one in ids)}
