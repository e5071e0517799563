"""Checks of snapshots: whether one has the ids that a stage or a service relies on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stageflow.context import ArgumentValueError, ContextSnapshot
from stageflow.context.checks import require_mapping

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["snapshot_from_dict_strict", "validate_snapshot", "validate_snapshot_strict"]


def validate_snapshot(
    snapshot: ContextSnapshot[Any],
    *,
    require_user_id: bool = False,
    require_org_id: bool = False,
    require_pipeline_run_id: bool = True,
    require_request_id: bool = False,
    strict: bool = False,
) -> list[str]:
    """Return what is wrong with a snapshot; an empty list if nothing is.

    Its types were checked when it was made. What is left to check: that the ids are there that somebody relies on,
    and that it survives being stored: ``ContextSnapshot.from_dict(snapshot.to_dict())``.

    Args:
        snapshot: The snapshot.
        require_user_id: Whether it must have a user.
        require_org_id: Whether it must have a tenant.
        require_pipeline_run_id: Whether it must have the id of a run.
        require_request_id: Whether it must have the id of a request.
        strict: Raise instead of returning problems.

    Raises:
        ArgumentValueError: Something is wrong, and *strict* is set; also a ``ValueError``.

    ```python
    from stageflow.testing import create_test_snapshot, validate_snapshot

    print(validate_snapshot(create_test_snapshot(extensions={"plan": "pro"}), require_org_id=True))
    #> ['org_id is missing']
    ```
    """
    if not isinstance(snapshot, ContextSnapshot):  # pyright: ignore[reportUnnecessaryIsInstance]
        problems = [f"it is a {type(snapshot).__name__}, not a ContextSnapshot"]
    else:
        required = {
            "pipeline_run_id": require_pipeline_run_id,
            "request_id": require_request_id,
            "user_id": require_user_id,
            "org_id": require_org_id,
        }
        problems = [
            f"{name} is missing"
            for name, wanted in required.items()
            if wanted and getattr(snapshot, name) is None
        ]
        problems += _lost_when_stored(snapshot)
    if problems and strict:
        owner = "validate_snapshot"
        raise ArgumentValueError(owner, "snapshot", f"is not usable: {'; '.join(problems)}")
    return problems


def validate_snapshot_strict(snapshot: ContextSnapshot[Any], **require: bool) -> ContextSnapshot[Any]:
    """Return the snapshot, or raise if something is wrong with it; see ``validate_snapshot``.

    Args:
        snapshot: The snapshot.
        **require: What ``validate_snapshot`` takes.

    Raises:
        ArgumentValueError: Something is wrong; also a ``ValueError``.

    ```python
    from stageflow.testing import create_test_snapshot, validate_snapshot_strict

    print(validate_snapshot_strict(create_test_snapshot(input_text="hi"), require_user_id=True).input_text)
    #> hi
    ```
    """
    validate_snapshot(snapshot, **{**require, "strict": True})
    return snapshot


def snapshot_from_dict_strict(
    data: Mapping[str, Any], extension_types: Mapping[str, type[Any]] | None = None, **require: bool
) -> ContextSnapshot[Any]:
    """Make a snapshot of plain data, and raise if something is wrong with it, or unknown.

    Args:
        data: What ``ContextSnapshot.to_dict`` gives.
        extension_types: See ``ContextSnapshot.from_dict``.
        **require: What ``validate_snapshot`` takes.

    Raises:
        ArgumentTypeError: *data* is no mapping.
        ArgumentValueError: Something is wrong, or the data has keys that no snapshot has; also a ``ValueError``.

    ```python
    from stageflow.testing import create_test_snapshot, snapshot_from_dict_strict

    data = create_test_snapshot(input_text="hi").to_dict()
    print(snapshot_from_dict_strict(data).input_text)
    #> hi
    try:
        snapshot_from_dict_strict({**data, "imput_text": "hi"})
    except ValueError as error:
        print(error.what)
        #> snapshot_from_dict_strict(data=...) has keys that no snapshot has: imput_text
    ```
    """
    known = {*ContextSnapshot().to_dict(), "created_at"}
    owner = "snapshot_from_dict_strict"
    unknown = sorted(str(key) for key in require_mapping(owner, "data", data) if key not in known)
    if unknown:
        raise ArgumentValueError(owner, "data", f"has keys that no snapshot has: {', '.join(unknown)}")
    return validate_snapshot_strict(ContextSnapshot.from_dict(data, extension_types), **require)


def _lost_when_stored(snapshot: ContextSnapshot[Any]) -> list[str]:
    try:
        stored = snapshot.to_dict()
        again = ContextSnapshot.from_dict(stored).to_dict()
    except Exception as exc:  # noqa: BLE001 - whatever an extension's to_dict() raises
        return [f"it cannot be stored: {type(exc).__name__}: {exc}"]
    lost = sorted(key for key in stored if stored[key] != again.get(key))
    return [f"storing it changes {', '.join(lost)}"] if lost else []
