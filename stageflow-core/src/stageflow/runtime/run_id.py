"""``RunId``: the id of a run, which is made when somebody asks for it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["RunId"]

_making = Lock()


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

    _made: UUID

    def made(self) -> UUID:
        """Return the id."""
        try:
            return self._made
        except AttributeError:
            pass
        from uuid import (
            uuid4,  # importing uuid asks what platform this is; that can wait until something runs
        )

        made = uuid4()
        with _making:  # the stages of a run may ask on several threads
            if not hasattr(self, "_made"):
                self._made = made
        return self._made
