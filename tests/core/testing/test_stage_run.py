"""run_stage: one line for a stage's author, through the same graph as everything else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from stageflow import (
    BaseInterceptor,
    InterceptorResult,
    PipelineCancelled,
    PipelineContext,
    RetryPolicy,
    StageKind,
    StageOutput,
    StageStatus,
    stage,
    use,
)
from stageflow.context import ArgumentValueError
from stageflow.errors import StageContractError, StageTimeoutError, UndeclaredDependencyError
from stageflow.testing import (
    EventRecorder,
    FailingStage,
    HangingStage,
    ScriptedStage,
    create_test_snapshot,
    run_stage,
    run_virtual,
)


class Shout:
    name = "shout"
    kind = StageKind.WORK

    def __init__(self, mark: str = "!") -> None:
        self.mark = mark

    async def execute(self, ctx: Any) -> StageOutput:
        assert (ctx.stage_name, ctx.kind) == ("shout", StageKind.WORK)
        return StageOutput.ok(text=(ctx.input_text or "").upper() + self.mark)


async def shout(ctx: Any) -> dict[str, str]:
    return {"text": ctx.input_text.upper()}


@dataclass(frozen=True)
class Greeting:
    text: str


@stage
async def greet() -> Greeting:
    return Greeting("Hello")


@stage(retry=RetryPolicy(2, base_delay=0))
async def louder(ctx: Any, greeting: Greeting = use(greet)) -> str:
    if ctx.attempt == 1:
        raise ConnectionError("once")
    return greeting.text.upper()


@stage
async def perhaps(greeting: Greeting | None = use(greet, default=None)) -> str:
    return "nothing" if greeting is None else greeting.text


def run(*args: Any, **options: Any) -> StageOutput:
    return asyncio.run(run_stage(*args, **options))


@pytest.mark.parametrize("target", [Shout, Shout()], ids=["class", "instance"])
def test_a_class_and_an_instance(target: Any) -> None:
    assert run(target, "hi").data == {"text": "HI!"}


def test_config_name_and_kind() -> None:
    assert run(Shout, "hi", config={"mark": "?"}).data == {"text": "HI?"}
    seen = ScriptedStage()
    run(seen, name="other", kind=StageKind.GUARD)
    assert (seen.calls[0].ctx.stage_name, seen.calls[0].ctx.kind) == ("other", StageKind.GUARD)


def test_a_callable() -> None:
    assert run(shout, input_text="hi").data == {"text": "HI"}


def test_outputs_are_read_only_and_timed_as_in_a_run() -> None:
    output = run(ScriptedStage({"rows": [1]}))
    assert output.duration_ms is not None
    with pytest.raises(TypeError):
        output.data["rows"].append(2)


def test_prior_outputs_and_strict_inputs() -> None:
    async def reads(ctx: Any) -> dict[str, Any]:
        skipped = ctx.inputs.get_output("b")
        return {"a": ctx.inputs.require_from("a", "n"), "b": skipped.status.value}

    assert run(reads, prior_outputs={"a": {"n": 1}, "b": StageOutput.skip("no")}).data == {
        "a": 1,
        "b": "skip",
    }
    with pytest.raises(UndeclaredDependencyError):
        run(reads, prior_outputs={"a": {"n": 1}})


@pytest.mark.parametrize("key", [greet, "greet"], ids=["stage", "name"])
def test_a_typed_stage_with_values(key: Any) -> None:
    output = run(louder, values={key: Greeting("hey")})
    assert (output.value, output.data) == ("HEY", {"value": "HEY"})


def test_a_typed_stage_with_plain_data() -> None:
    assert run(louder, prior_outputs={"greet": {"text": "hey"}}).value == "HEY"


def test_a_default_may_be_left_out() -> None:
    assert run(perhaps).value == "nothing"
    assert run(perhaps, values={greet: Greeting("hey")}).value == "hey"


def test_a_value_of_another_type_than_the_stage_gives() -> None:
    with pytest.raises(StageContractError, match="greet"):
        run(louder, values={greet: 3})


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ArgumentValueError, match="has nothing for 'greet'") as caught:
        run(louder)
    assert "values={greet: ...}" in caught.value.fix
    with pytest.raises(ArgumentValueError) as caught:
        run(louder, values={"gret": Greeting("hey")})
    assert "'gret'" in caught.value.fix


def test_what_is_given_twice_or_makes_no_sense() -> None:
    with pytest.raises(ArgumentValueError, match="given already"):
        run(louder, values={greet: Greeting("hey")}, prior_outputs={"greet": {"text": "hey"}})
    with pytest.raises(ArgumentValueError, match="FAIL"):
        run(shout, prior_outputs={"a": StageOutput.fail("no")})
    with pytest.raises(ArgumentValueError, match="names the stage itself"):
        run(Shout, prior_outputs={"shout": {}})


def test_what_the_stage_returns_is_returned() -> None:
    for output in (StageOutput.fail("no"), StageOutput.skip("no"), StageOutput.cancel("no")):
        assert run(ScriptedStage(output)).status is output.status
    assert run(ScriptedStage(StageOutput.fail("no"))).error == "no"


def test_what_the_stage_raises_is_raised_as_it_is() -> None:
    error = ZeroDivisionError("mine")
    with pytest.raises(ZeroDivisionError) as caught:
        run(FailingStage(error))
    assert caught.value is error


def test_attempts_without_a_wait() -> None:
    busy = ScriptedStage(StageOutput.retry("busy"), StageOutput.retry("busy"), {"n": 3})

    async def main() -> tuple[Any, float]:
        output = await run_stage(busy, attempts=3)
        return output, asyncio.get_running_loop().time()

    output, passed = run_virtual(main())
    assert (output.data, passed) == ({"n": 3}, 0)
    used_up = run(ScriptedStage(StageOutput.retry("busy")))
    assert (used_up.status, used_up.error) == (StageStatus.FAIL, "busy")


def test_the_stages_own_policy_says_after_what() -> None:
    @stage(retry=RetryPolicy(9, base_delay=60, retry_on=(ZeroDivisionError,)))
    async def divide(ctx: Any) -> int:
        return 6 // (ctx.attempt - 1)

    assert run(divide, attempts=2).value == 6


def test_time_limit() -> None:
    with pytest.raises(StageTimeoutError):
        run_virtual(run_stage(HangingStage(), timeout=30))


def test_interceptors_and_their_data() -> None:
    class Closed(BaseInterceptor):
        name = "closed"

        async def before(self, stage_name: str, ctx: Any) -> InterceptorResult | None:
            return InterceptorResult(stage_ran=False, error="closed") if ctx.data["closed"] else None

    calls = ScriptedStage({"n": 1})
    assert run(calls, interceptors=[Closed()], data={"closed": False}).data == {"n": 1}
    refused = run(calls, interceptors=[Closed()], data={"closed": True})
    assert (refused.status, refused.error, len(calls.calls)) == (StageStatus.FAIL, "closed", 1)


def test_sink_ports_and_context() -> None:
    events = EventRecorder()
    cleaned = []

    async def body(ctx: Any) -> dict[str, Any]:
        async def clean() -> None:
            cleaned.append(True)

        ctx.register_cleanup(clean)
        return {"port": ctx.inputs.ports["db"], "user": ctx.snapshot.user_id.int, "text": ctx.input_text}

    snapshot = create_test_snapshot(input_text="from the snapshot")
    context = PipelineContext(user_id=snapshot.user_id)
    output = run(body, sink=events, ports={"db": 1}, context=snapshot)
    assert output.data == {"port": 1, "user": snapshot.user_id.int, "text": "from the snapshot"}  # type: ignore[union-attr]
    assert run(body, "hi", ports={"db": 2}, context=context).data["text"] == "hi"
    events.assert_paired(stages=["body"], end="completed")
    assert cleaned == [True, True]


def test_a_stage_that_was_cancelled_has_no_output() -> None:
    context = PipelineContext()

    async def gives_way(ctx: Any) -> None:
        context.mark_canceled()
        ctx.raise_if_cancelled()

    with pytest.raises(PipelineCancelled):
        run(gives_way, context=context)


def test_a_stage_behind_a_router_runs_without_one() -> None:
    @stage(route="long")
    async def branch() -> int:
        return 1

    assert run(branch).value == 1
