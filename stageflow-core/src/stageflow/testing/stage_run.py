"""``run_stage``: one stage through a real graph, with stand-ins for what it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stageflow.context import ArgumentValueError
from stageflow.errors import StageExecutionError, close_matches
from stageflow.runtime.graph import StageGraph
from stageflow.stages.output import StageOutput
from stageflow.stages.retry import RetryPolicy
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind, StageStatus
from stageflow.stages.typed import StageDef, stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stageflow.context import ContextSnapshot
    from stageflow.interceptors.base import BaseInterceptor
    from stageflow.protocols import EventSink
    from stageflow.stages.pipeline_context import PipelineContext

__all__ = ["run_stage"]

_OWNER = "run_stage"


async def run_stage(
    stage: Any,
    input_text: str | None = None,
    *,
    prior_outputs: Mapping[str, StageOutput | Mapping[str, Any]] | None = None,
    values: Mapping[StageDef[Any] | str, Any] | None = None,
    attempts: int | None = None,
    data: Mapping[str, Any] | None = None,
    ports: Any = None,
    sink: EventSink | None = None,
    interceptors: Sequence[BaseInterceptor] = (),
    timeout: float | None = None,  # noqa: ASYNC109 - it becomes the stage's limit
    context: PipelineContext | ContextSnapshot[Any] | None = None,
    name: str | None = None,
    kind: StageKind | None = None,
    config: Mapping[str, Any] | None = None,
) -> StageOutput:
    """Run one stage as a pipeline would, and return its output.

    The stage runs in a graph of its own, behind stand-ins that leave what *prior_outputs* and *values* say. So inputs
    are strict, time limits, attempts and cleanup callbacks work, and outputs are read-only. A stage that uses
    (``use(other)``) others with a default may go without their values.

    Args:
        stage: A class with ``execute``, an instance of one, an async callable, or a stage made with ``@stage``.
        input_text: The text that the run is started with.
        prior_outputs: What the stage's dependencies left: OK or SKIP outputs, or a mapping for the data of an OK one.
        values: The typed values of stages made with ``@stage``, by the stage or its name.
        attempts: How often the stage may be attempted, without a wait; once by default, or as ``@stage(retry=...)``
            says.
        data: What interceptors find.
        ports: What the run injects.
        sink: Where the events of the run go, those of the stand-ins too.
        interceptors: What wraps the stage; nothing by default.
        timeout: The limit of an attempt, in seconds.
        context: What else the run is started with.
        name: The stage's name; its own by default.
        kind: What the stage is for; its own kind, or TRANSFORM, by default.
        config: Keyword arguments for the constructor, if the stage is a class.

    Returns:
        What the stage returned, or FAIL when it was refused by an interceptor or used up its attempts by RETRY.

    Raises:
        Exception: What the stage raised in its last attempt, as it raised it.
        StageTimeoutError: The stage was over the limit.
        ArgumentValueError: Something that the stage uses is not given, or something is given twice.

    ```python
    import asyncio

    from stageflow import stage, use
    from stageflow.testing import run_stage


    @stage
    async def greet() -> str:
        return "Hello"


    @stage
    async def shout(greeting: str = use(greet)) -> str:
        return greeting.upper()


    print(asyncio.run(run_stage(shout, values={greet: "hi"})).value)
    #> HI
    ```
    """
    spec = _spec_of(stage, name, kind, config)
    stand_ins = _stand_ins(prior_outputs or {}, values or {})
    spec = _placed(spec, list(stand_ins))
    uses: Mapping[str, Any] = getattr(stage, "uses", {})
    _require_all(spec, stand_ins, {one.stage.name for one in uses.values()})
    if timeout is not None:
        spec = spec.__replace__(timeout=timeout)
    if attempts is not None:
        spec = spec.__replace__(retry=_at_once(spec.retry, attempts))
    elif spec.retry is None:
        spec = spec.__replace__(retry=RetryPolicy(1))
    graph = StageGraph([*stand_ins.values(), spec], list(interceptors), name=f"run_stage({spec.name})")
    results = await graph.run(
        context, input_text=input_text, data=data, ports=ports, sink=sink, raise_errors=False
    )
    error = results.error
    if isinstance(error, StageExecutionError) and _was_raised(error.original):
        raise error.original
    if error is not None and spec.name not in results:
        raise error
    return results[spec.name]


def _was_raised(error: BaseException) -> bool:
    """Say whether somebody raised it: for an output that says FAIL, the run only makes an error up."""
    return error.__traceback__ is not None or isinstance(error, TimeoutError)


def _spec_of(
    stage: Any, name: str | None, kind: StageKind | None, config: Mapping[str, Any] | None
) -> StageSpec:
    make: Any = getattr(stage, "spec", None)
    spec = make() if callable(make) and not isinstance(stage, type) else None
    if not isinstance(spec, StageSpec):
        own: Any = getattr(stage, "name", None) or getattr(stage, "__name__", type(stage).__name__)
        spec = StageSpec(
            own if isinstance(own, str) else "stage", stage, getattr(stage, "kind", StageKind.TRANSFORM)
        )
    changes = {"name": name, "kind": kind, "config": config}
    return spec.__replace__(**{key: value for key, value in changes.items() if value is not None})


def _placed(spec: StageSpec, given: list[str]) -> StageSpec:
    """Return the stage behind its stand-ins, and freed of what would need a real router."""
    if spec.name in given:
        raise ArgumentValueError(_OWNER, "prior_outputs", f"names the stage itself: {spec.name!r}")
    dependencies = [*spec.dependencies, *(one for one in given if one not in spec.dependencies)]
    return spec.__replace__(dependencies=dependencies, route=())


def _require_all(spec: StageSpec, stand_ins: dict[str, StageSpec], used: set[str]) -> None:
    """Complete the stand-ins: what is only waited for, or has a default, may be left out."""
    missing = [one for one in spec.dependencies if one not in stand_ins]
    needed = [one for one in missing if one in used and one not in spec.optional]
    if needed:
        problem = f"has nothing for {', '.join(map(repr, needed))}, whose value {spec.name!r} uses"
        unused = [one for one in stand_ins if one not in used]
        fix = close_matches(needed[0], unused) or f"Pass values={{{needed[0]}: ...}}"
        raise ArgumentValueError(_OWNER, "values", problem, fix=fix)
    for one in missing:
        stand_ins[one] = _stand_in(one, StageOutput.skip("not given to run_stage"))


def _stand_ins(
    outputs: Mapping[str, StageOutput | Mapping[str, Any]], values: Mapping[StageDef[Any] | str, Any]
) -> dict[str, StageSpec]:
    stand_ins: dict[str, StageSpec] = {}
    for name, given in outputs.items():
        output = StageOutput.ok(given) if isinstance(given, Mapping) else given
        if output.status not in (StageStatus.OK, StageStatus.SKIP):
            problem = f"has {output.status.name} for {name!r}, behind which no stage runs"
            raise ArgumentValueError(_OWNER, "prior_outputs", problem, fix="Give OK or SKIP outputs")
        stand_ins[name] = _stand_in(name, output)
    for source, value in values.items():
        name = source if isinstance(source, str) else source.name
        if name in stand_ins:
            raise ArgumentValueError(_OWNER, "values", f"has {name!r}, which is given already")
        stand_ins[name] = _typed_stand_in(source, name, value)
    return stand_ins


def _stand_in(name: str, output: StageOutput) -> StageSpec:
    async def leave(_: Any) -> StageOutput:
        return output

    return StageSpec(name, leave)


def _typed_stand_in(source: StageDef[Any] | str, name: str, value: Any) -> StageSpec:
    """Return a stage made with ``@stage`` that gives *value*, and is held to what the real one promises."""

    async def give() -> Any:
        return value

    give.__annotations__ = {"return": Any if isinstance(source, str) else source.hints().get("return", Any)}
    return stage(name=name)(give).spec()


def _at_once(policy: RetryPolicy | None, attempts: int) -> RetryPolicy:
    if policy is None:
        return RetryPolicy(attempts, base_delay=0)
    return RetryPolicy(
        attempts, base_delay=0, retry_on=policy.retry_on, retry_on_status=policy.retry_on_status
    )
