"""``LoopClock``: the wall clock, as the running event loop counts time."""

from __future__ import annotations

import asyncio
from time import time
from typing import final
from weakref import WeakKeyDictionary

__all__ = ["LoopClock"]


@final
class LoopClock:
    """Seconds since the epoch, which pass as the running event loop's time does.

    What is kept in memory expires by it: it never jumps when somebody sets the machine's clock, and under the virtual
    clock of ``stageflow.testing`` an hour takes no time. Outside of an event loop it is ``time.time``.

    ```python
    import asyncio

    from stageflow.testing import run_virtual
    from stageflow_tools.loop_clock import LoopClock


    async def main():
        clock = LoopClock()
        before = clock()
        await asyncio.sleep(3600)
        print(round(clock() - before))


    run_virtual(main())
    #> 3600
    ```
    """

    __slots__ = ("_offsets",)

    def __init__(self) -> None:
        self._offsets: WeakKeyDictionary[asyncio.AbstractEventLoop, float] = WeakKeyDictionary()

    def __call__(self) -> float:
        """Return the time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return time()
        offset = self._offsets.get(loop)
        if offset is None:
            offset = self._offsets[loop] = time() - loop.time()
        return offset + loop.time()
