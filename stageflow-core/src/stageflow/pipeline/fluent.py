"""``FluentPipelineBuilder``: says a pipeline from left to right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.pipeline.builders import PipelineBuilder
from stageflow.pipeline.patterns import with_fan_out_fan_in, with_linear_chain, with_parallel_stages

if TYPE_CHECKING:
    from typing import Self

    from stageflow.pipeline.patterns import Factory, Named, Names
    from stageflow.runtime.graph import StageGraph

__all__ = ["FluentPipelineBuilder"]


@final
class FluentPipelineBuilder:
    """Adds stages one after another; what comes next depends on what came last, unless it says otherwise.

    Unlike the other builders this one changes: every method returns the builder itself.

    Args:
        name: What the pipeline is called in events and errors.

    ```python
    from stageflow.pipeline.fluent import FluentPipelineBuilder


    async def work(ctx): ...


    fluent = (
        FluentPipelineBuilder("report")
        .stage("fetch", work)
        .parallel(2, lambda number: (f"part_{number}", work))
        .stage("join", work)
    )
    print(fluent.builder.get_stage("join").dependencies)
    #> ('part_0', 'part_1')
    ```
    """

    __slots__ = ("_builder", "_last")

    def __init__(self, name: str = "pipeline") -> None:
        self._builder = PipelineBuilder(name)
        self._last: tuple[str, ...] = ()

    @property
    def builder(self) -> PipelineBuilder:
        """What has been built so far."""
        return self._builder

    def stage(
        self, name: str, runner: Any, *, depends_on: Names = None, conditional: bool = False, **options: Any
    ) -> Self:
        """Add a stage.

        Args:
            name: The stage's name.
            runner: See ``PipelineSpec``.
            depends_on: The stages it waits for; None means what was added last, ``()`` means none.
            conditional: Skip the stage when one of its dependencies was skipped.
            **options: What ``PipelineBuilder.with_stage`` takes.

        Raises:
            PipelineValidationError: Something is wrong with the stage.
        """
        self._builder = self._builder.with_stage(
            name, runner, self._wanted(depends_on), conditional=conditional, **options
        )
        self._last = (name,)
        return self

    def linear_chain(self, count: int, factory: Factory, *, depends_on: Names = None) -> Self:
        """Add stages that follow each other; see ``with_linear_chain``."""
        grown = with_linear_chain(self._builder, count, factory, first_depends_on=self._wanted(depends_on))
        return self._went_on(grown, last=1)

    def parallel(self, count: int, factory: Factory, *, depends_on: Names = None) -> Self:
        """Add stages that run at the same time; the next one waits for all. See ``with_parallel_stages``."""
        grown = with_parallel_stages(self._builder, count, factory, depends_on=self._wanted(depends_on))
        return self._went_on(grown, last=count)

    def fan_out_fan_in(
        self, fan_out: Named, count: int, factory: Factory, fan_in: Named, *, depends_on: Names = None
    ) -> Self:
        """Add a fan; see ``with_fan_out_fan_in``."""
        wanted = self._wanted(depends_on)
        grown = with_fan_out_fan_in(self._builder, fan_out, count, factory, fan_in, fan_out_depends_on=wanted)
        return self._went_on(grown, last=1)

    def build(self, **options: Any) -> StageGraph:
        """Compile; see ``PipelineBuilder.build``."""
        return self._builder.build(**options)

    def _wanted(self, depends_on: Names) -> Names:
        return self._last if depends_on is None else depends_on

    def _went_on(self, grown: PipelineBuilder, *, last: int) -> Self:
        self._builder = grown
        self._last = tuple(grown.stages)[-last:]
        return self

    def __repr__(self) -> str:
        return f"<FluentPipelineBuilder {self._builder.name!r}: {len(self._builder)} stages>"
