"""Shapes that pipelines often have: a chain, a fan, branches. They work on ``Pipeline`` and on ``PipelineBuilder``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from stageflow.context.checks import check_count, items_of, wrong_type, wrong_value
from stageflow.pipeline.builder import Pipeline
from stageflow.pipeline.builders import PipelineBuilder, kind_of
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Named: TypeAlias = tuple[str, Any]
    Factory: TypeAlias = Callable[[int], Named]
    Names: TypeAlias = str | Iterable[str] | None

__all__ = ["with_conditional_branch", "with_fan_out_fan_in", "with_linear_chain", "with_parallel_stages"]

B = TypeVar("B", Pipeline, PipelineBuilder)
_PAIRS: Any = (tuple, list)


def with_linear_chain(builder: B, count: int, factory: Factory, *, first_depends_on: Names = None) -> B:
    """Return *builder* with *count* stages that follow each other.

    Args:
        builder: A pipeline or a builder.
        count: How many stages.
        factory: Gives for 0, 1, ... a name and a runner. What the stage is for is read off the runner's ``kind``.
        first_depends_on: The stages that the first one waits for.

    Raises:
        ArgumentTypeError: *factory* gives something else, or *count* is no int.
        ArgumentValueError: *count* is less than 1.

    ```python
    import asyncio

    from stageflow import Pipeline
    from stageflow.pipeline.patterns import with_linear_chain


    def step(number):
        async def run(ctx):
            return {"step": number}

        return f"step_{number}", run


    pipeline = with_linear_chain(Pipeline("chain"), 3, step)
    print([(spec.name, spec.dependencies) for spec in pipeline.specs])
    #> [('step_0', ()), ('step_1', ('step_0',)), ('step_2', ('step_1',))]
    ```
    """
    owner = "with_linear_chain"
    wanted = _names(owner, "first_depends_on", first_depends_on)
    for name, runner in _made(owner, count, factory):
        builder = _added(builder, name, runner, wanted)
        wanted = (name,)
    return builder


def with_parallel_stages(builder: B, count: int, factory: Factory, *, depends_on: Names = None) -> B:
    """Return *builder* with *count* stages that run at the same time.

    Args:
        builder: A pipeline or a builder.
        count: How many stages.
        factory: Gives for 0, 1, ... a name and a runner.
        depends_on: The stages that each of them waits for.

    Raises:
        ArgumentTypeError: *factory* gives something else, or *count* is no int.
        ArgumentValueError: *count* is less than 1.

    ```python
    from stageflow import Pipeline
    from stageflow.pipeline.patterns import with_parallel_stages


    async def work(ctx): ...


    pipeline = with_parallel_stages(Pipeline(), 2, lambda number: (f"worker_{number}", work))
    print(pipeline.build().stage("worker_1").waits_for)
    #> 0
    ```
    """
    owner = "with_parallel_stages"
    wanted = _names(owner, "depends_on", depends_on)
    for name, runner in _made(owner, count, factory):
        builder = _added(builder, name, runner, wanted)
    return builder


def with_fan_out_fan_in(
    builder: B,
    fan_out: Named,
    count: int,
    factory: Factory,
    fan_in: Named,
    *,
    fan_out_depends_on: Names = None,
) -> B:
    """Return *builder* with a stage, *count* stages that wait for it, and a stage that waits for all of these.

    Args:
        builder: A pipeline or a builder.
        fan_out: The name and the runner of the first stage.
        count: How many stages are in between.
        factory: Gives for 0, 1, ... a name and a runner.
        fan_in: The name and the runner of the last stage.
        fan_out_depends_on: The stages that the first one waits for.

    Raises:
        ArgumentTypeError: Something is no name with a runner, or *count* is no int.
        ArgumentValueError: *count* is less than 1.

    ```python
    import asyncio

    from stageflow import Pipeline
    from stageflow.pipeline.patterns import with_fan_out_fan_in


    async def split(ctx):
        return {"words": ctx.input_text.split()}


    def count_letters(number):
        async def run(ctx):
            return {"letters": len(ctx.inputs.require_from("split", "words")[number])}

        return f"count_{number}", run


    async def add(ctx):
        return {"letters": sum(ctx.inputs.require_from(f"count_{number}", "letters") for number in range(2))}


    pipeline = with_fan_out_fan_in(Pipeline(), ("split", split), 2, count_letters, ("add", add))
    print(asyncio.run(pipeline.run(input_text="hello Ada"))["add"].data)
    #> {'letters': 8}
    ```
    """
    owner = "with_fan_out_fan_in"
    first, first_runner = _pair(owner, "fan_out", fan_out)
    last, last_runner = _pair(owner, "fan_in", fan_in)
    made = _made(owner, count, factory)
    wanted = _names(owner, "fan_out_depends_on", fan_out_depends_on)
    builder = _added(builder, first, first_runner, wanted)
    for name, runner in made:
        builder = _added(builder, name, runner, (first,))
    return _added(builder, last, last_runner, [name for name, _ in made])


def with_conditional_branch(
    builder: B,
    router: Named,
    branches: Mapping[str, Named] | Iterable[Named],
    merge: Named | None = None,
    *,
    router_depends_on: Names = None,
) -> B:
    """Return *builder* with a router, the branches between which it chooses, and a stage where they meet.

    The router returns what it chose under ``"route"``: a label, or a list of labels. Branches that it did not choose
    are skipped; the stage where they meet runs if one of them ran.

    Args:
        builder: A pipeline or a builder.
        router: The name and the runner of the router.
        branches: Name and runner of each branch by its label; without labels, the names are the labels.
        merge: The name and the runner of the stage where they meet.
        router_depends_on: The stages that the router waits for.

    Raises:
        ArgumentTypeError: Something is no name with a runner.
        ArgumentValueError: There are no branches.

    ```python
    import asyncio

    from stageflow import Pipeline, StageOutput
    from stageflow.pipeline.patterns import with_conditional_branch


    async def route(ctx):
        return StageOutput.ok(route="short" if len(ctx.input_text) < 10 else "long")


    async def answer(ctx):
        return {"text": ctx.stage_name}


    pipeline = with_conditional_branch(
        Pipeline(), ("route", route), {"short": ("quick", answer), "long": ("thorough", answer)}, ("reply", answer)
    )
    results = asyncio.run(pipeline.run(input_text="hi"))
    print({name: output.status.value for name, output in results.items()})
    #> {'route': 'ok', 'quick': 'ok', 'thorough': 'skip', 'reply': 'ok'}
    ```
    """
    owner = "with_conditional_branch"
    name, runner = _pair(owner, "router", router)
    end = None if merge is None else _pair(owner, "merge", merge)
    labelled = _labelled(owner, branches)
    wanted = _names(owner, "router_depends_on", router_depends_on)
    builder = _added(builder, name, runner, wanted, kind=StageKind.ROUTE)
    for label, branch, branch_runner in labelled:
        # "router:label" is how a route names its router, so a label that looks like that is written out.
        route = f"{name}:{label}" if label.startswith(f"{name}:") else label
        builder = _added(builder, branch, branch_runner, (name,), route=route)
    return builder if end is None else _added(builder, *end, [branch for _, branch, _ in labelled])


def _added(
    builder: B,
    name: str,
    runner: Any,
    dependencies: Iterable[str],
    *,
    kind: StageKind | None = None,
    route: str = "",
) -> B:
    if not isinstance(builder, (Pipeline, PipelineBuilder)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise wrong_type("with_...", "builder", "a Pipeline or a PipelineBuilder", builder)
    more: dict[str, Any] = {"route": route} if route else {}
    return builder.with_stage(
        name, runner, dependencies=dependencies, kind=kind_of(runner) if kind is None else kind, **more
    )


def _made(owner: str, count: int, factory: Factory) -> list[Named]:
    check_count(owner, "count", count, least=1)
    if not callable(factory):
        raise wrong_type(owner, "factory", "a function of the stage's number", factory)
    return [_pair(owner, "factory", factory(number)) for number in range(count)]


def _labelled(owner: str, branches: Mapping[str, Named] | Iterable[Named]) -> list[tuple[str, str, Any]]:
    """Return the label, the name and the runner of every branch."""
    labels: list[str] | None = None
    if isinstance(branches, Mapping):
        by_label = cast("Mapping[str, Named]", branches)
        labels, branches = [*by_label], [*by_label.values()]
    pairs = [_pair(owner, "branches", branch) for branch in items_of(owner, "branches", branches)]
    if not pairs:
        raise wrong_value(owner, "branches", "must not be empty", branches)
    return [(label, *pair) for label, pair in zip(labels or [name for name, _ in pairs], pairs, strict=True)]


def _pair(owner: str, argument: str, value: Any) -> Named:
    if not isinstance(value, _PAIRS) or len(value) != 2 or not isinstance(value[0], str):  # noqa: PLR2004 - a pair
        raise wrong_type(owner, argument, "(name, runner)", value)
    return value[0], value[1]


def _names(owner: str, argument: str, value: Names) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(items_of(owner, argument, value, str))
