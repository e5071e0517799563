"""Interceptors that look for what should not happen: data that changes, and data that grows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from stageflow.context.checks import check_count
from stageflow.errors import ReadOnlyDataError
from stageflow.interceptors.base import BaseInterceptor
from stageflow.interceptors.fingerprint import fingerprint
from stageflow.interceptors.sizing import size_of
from stageflow.observability.structured import StructuredLog

if TYPE_CHECKING:
    from stageflow.interceptors.base import InterceptorContext, InterceptorResult
    from stageflow.stages.result import StageResult

__all__ = ["ContextSizeInterceptor", "DataChangedError", "ImmutabilityInterceptor"]

_log = StructuredLog("stageflow.hardening")
_KIB: Final = 1024


class DataChangedError(ReadOnlyDataError):
    """While a stage ran, data that others see as well was changed in place.

    Args:
        stage: The stage.
        changed: What was changed: the run's input, or the outputs of stages.
    """

    def __init__(self, stage: str, changed: tuple[str, ...]) -> None:
        self.stage = stage
        self.changed = changed
        super().__init__(f"what stage {stage!r} did")
        self.what = f"While stage {stage!r} ran, {' and '.join(changed)} was changed in place"
        self.where = f"stage {stage!r}"
        self.fix = "Change a copy: copy.deepcopy(value); or hand over values that cannot change"
        self.args = (self.what,)


@final
class ImmutabilityInterceptor(BaseInterceptor):
    """Fails a stage if something that it may read was changed while it ran.

    Dicts, lists and sets in outputs are read-only anyway. This finds the rest: objects with attributes, and arrays,
    which stages share. It looks at the run's input, at the outputs of the stage's dependencies and at what the caller
    handed to interceptors, before and after every attempt; that takes time, so it belongs into tests. If stages run
    side by side, the one that is named may not be the one that did it.

    Args:
        crash_on_violation: False logs a warning instead.

    ```python
    import asyncio

    from stageflow import Pipeline, StageExecutionError, stage, use
    from stageflow.interceptors.hardening import ImmutabilityInterceptor


    class Cart:
        def __init__(self):
            self.items = ["tea"]


    @stage
    async def load() -> Cart:
        return Cart()


    @stage
    async def price(cart: Cart = use(load)) -> int:
        cart.items.append("milk")
        return len(cart.items)


    try:
        asyncio.run(Pipeline.from_stages(load, price).build(interceptors=[ImmutabilityInterceptor()]).run())
    except StageExecutionError as error:
        print(error.original.what)
    #> While stage 'price' ran, the output of 'load' was changed in place
    ```
    """

    name = "immutability_check"
    priority = 10

    def __init__(self, crash_on_violation: bool = True) -> None:  # noqa: FBT001, FBT002 - the published signature
        self.crash_on_violation = crash_on_violation

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        """Remember what the data are like."""
        ctx.add_observation("before", _fingerprints(ctx))
        return None

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        """Compare.

        Raises:
            DataChangedError: Something has changed.
        """
        before: dict[str, int] = ctx.get_observation("before", {})
        after = _fingerprints(ctx)
        changed = tuple(name for name, known in before.items() if after[name] != known)
        if not changed:
            return
        error = DataChangedError(stage_name, changed)
        if self.crash_on_violation:
            raise error
        fields = {
            "stage": stage_name,
            "changed": list(changed),
            "pipeline_run_id": str(ctx.pipeline_run_id),
        }
        _log.write(logging.WARNING, error.what, fields)


@final
class ContextSizeInterceptor(BaseInterceptor):
    """Warns, in the logger ``stageflow.hardening``, of stages that are given much or hand over much.

    Args:
        max_size_bytes: How much a stage may be given: the run's input, its dependencies' outputs and what the caller
            handed to interceptors.
        warn_on_growth_bytes: How much a stage may hand over.

    Raises:
        ArgumentTypeError: A size is no whole number.
        ArgumentValueError: A size is negative.

    ```python
    from stageflow.interceptors.hardening import ContextSizeInterceptor

    print(ContextSizeInterceptor(warn_on_growth_bytes=1000).max_size_bytes)
    #> 1048576
    ```
    """

    name = "context_size"
    priority = 42
    fail_closed = False

    def __init__(self, max_size_bytes: int = 1024 * _KIB, warn_on_growth_bytes: int = 100 * _KIB) -> None:
        check_count("ContextSizeInterceptor", "max_size_bytes", max_size_bytes)
        check_count("ContextSizeInterceptor", "warn_on_growth_bytes", warn_on_growth_bytes)
        self.max_size_bytes = max_size_bytes
        self.warn_on_growth_bytes = warn_on_growth_bytes

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        """Measure what the stage is given."""
        size = size_of([*_readable(ctx).values()])
        ctx.add_observation("size_bytes", size)
        if size > self.max_size_bytes:
            message = f"Stage {stage_name!r} is given {size / _KIB:.1f} KiB, more than {self.max_size_bytes / _KIB:.1f}"
            _log.write(logging.WARNING, message, _size_fields(stage_name, ctx, size_bytes=size))
        return None

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        """Measure what the stage hands over."""
        growth = size_of(result.data)
        ctx.add_observation("growth_bytes", growth)
        if growth > self.warn_on_growth_bytes:
            size = ctx.get_observation("size_bytes", 0)
            message = f"Stage {stage_name!r} hands over {growth / _KIB:.1f} KiB"
            fields = _size_fields(stage_name, ctx, size_bytes=size, growth_bytes=growth)
            _log.write(logging.WARNING, message, fields)


def _readable(ctx: InterceptorContext) -> dict[str, object]:
    """Return what the stage and its interceptors can read, by what to call it in a message."""
    readable: dict[str, object] = {"the run's input": ctx.snapshot, "the run's data": ctx.stage.scope.data}
    for name, output in ctx.stage.inputs.prior_outputs.items():
        readable[f"the output of {name!r}"] = (output.data, output.value)
    return readable


def _fingerprints(ctx: InterceptorContext) -> dict[str, int]:
    return {name: fingerprint(value) for name, value in _readable(ctx).items()}


def _size_fields(stage: str, ctx: InterceptorContext, **sizes: int) -> dict[str, object]:
    return {"stage": stage, "pipeline_run_id": str(ctx.pipeline_run_id), **sizes}
