"""``FailureMode``: what a run does when a stage has failed."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["FailureMode"]


class FailureMode(StrEnum):
    """What a run does when a stage has failed.

    Attributes:
        FAIL_FAST: Cancel what is running, await it, and raise.
        CONTINUE_ON_FAILURE: Run everything that is not downstream of the failure, then raise.
        BEST_EFFORT: The same, but return the results; ``results.error`` holds the first failure.

    ```python
    import asyncio

    from stageflow import FailureMode, Pipeline, StageKind, StageOutput


    async def bad(ctx):
        return StageOutput.fail("no")


    async def good(ctx):
        return {"done": True}


    pipeline = Pipeline().with_stage("bad", bad, StageKind.WORK).with_stage("good", good, StageKind.WORK)
    results = asyncio.run(pipeline.build(failure_mode=FailureMode.BEST_EFFORT).run())
    print(results["good"].data, results.error.stage)
    #> {'done': True} bad
    ```
    """

    FAIL_FAST = "fail_fast"
    CONTINUE_ON_FAILURE = "continue_on_failure"
    BEST_EFFORT = "best_effort"
