"""``RunId``: the id of a run, which is made when somebody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["RunId"]


@final
class RunId:
    """Makes the id of a run at the first question, and gives the same to all. Many runs nobody asks.

    ```python
    from stageflow.runtime.run_id import RunId

    run_id = RunId()
    print(run_id.made().version, run_id.made() is run_id.made())
    #> 4 True
    ```
    """

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[
            str, UUID
        ] = {}  # whose setdefault() is one step, for threads and signal handlers alike

    def made(self) -> UUID:
        """Return the id."""
        made = self._made.get("id")
        if made is None:
            from uuid import (
                uuid4,  # importing uuid asks what platform this is; that can wait until something runs
            )

            made = self._made.setdefault("id", uuid4())
        return made
