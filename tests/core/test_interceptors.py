"""Interceptors: their order, what each hook may do, and what their own errors mean (findings A1.1, A1.5, A1.26)."""

from __future__ import annotations

import asyncio
import logging

import pytest
from stageflow import (
    BaseInterceptor,
    ErrorAction,
    InterceptorResult,
    LoggingInterceptor,
    Pipeline,
    RetryPolicy,
    StageExecutionError,
    StageKind,
    StageOutput,
    TimeoutInterceptor,
    get_default_interceptors,
)
from stageflow.interceptors.chain import sort_interceptors

K = StageKind.WORK


async def ok(ctx):
    return {"ran": True}


async def fails(ctx):
    return StageOutput.fail("no")


async def raises(ctx):
    raise ValueError("no")


async def forever(ctx):
    await asyncio.Event().wait()


def graph(runner, *interceptors, **options):
    return (
        Pipeline()
        .with_stage("a", runner, K, **options)
        .with_stage("b", ok, K, ["a"])
        .build(interceptors=interceptors)
    )


class Tracing(BaseInterceptor):
    """Writes down which of its hooks run."""

    def __init__(self, name: str, log: list[str], priority: int = 100) -> None:
        self.name, self.log, self.priority = name, log, priority

    async def before(self, stage_name, ctx):
        if stage_name == "a":
            self.log.append(f"{self.name} before")

    async def after(self, stage_name, result, ctx):
        if stage_name == "a":
            self.log.append(f"{self.name} after {result.status}")

    async def on_error(self, stage_name, error, ctx):
        self.log.append(f"{self.name} on_error {type(error).__name__}")
        return ErrorAction.FAIL


# --- order -----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_before_ascends_and_after_descends():
    log: list[str] = []
    await graph(ok, Tracing("c", log, 30), Tracing("a", log, 10), Tracing("b", log, 20)).run()
    assert log == [
        "a before",
        "b before",
        "c before",
        "c after completed",
        "b after completed",
        "a after completed",
    ]


@pytest.mark.asyncio
async def test_equal_priorities_keep_the_order_they_were_given_in():
    log: list[str] = []
    await graph(ok, Tracing("x", log), Tracing("y", log)).run()
    assert log[:2] == ["x before", "y before"]


def test_the_defaults_and_none_of_them():
    defaults = [type(one) for one in get_default_interceptors()]
    assert {TimeoutInterceptor, LoggingInterceptor} < set(defaults)
    pipeline = Pipeline().with_stage("a", ok, K)
    assert [type(one) for one in pipeline.build().interceptors] == defaults
    assert list(pipeline.build(interceptors=[]).interceptors) == []


def test_hooks_that_are_not_overridden_cost_nothing():
    built = Pipeline().with_stage("a", ok, K).build(interceptors=[BaseInterceptor(), TimeoutInterceptor()])
    assert built.stage("a").call is ok


def test_sorting_is_stable_and_does_not_change_what_it_is_given():
    first, second = Tracing("first", [], 1), Tracing("second", [], 0)
    given = [first, second]
    assert list(sort_interceptors(given)) == [second, first]
    assert given == [first, second]


# --- outcomes ----------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("runner", "status", "hears_error"),
    [(ok, "completed", False), (fails, "failed", False), (raises, "failed", True)],
    ids=["ok", "fail", "exception"],
)
async def test_after_says_how_the_attempt_ended(runner, status, hears_error):
    log: list[str] = []
    await graph(runner, Tracing("x", log)).run(raise_errors=False)
    assert log == ["x before", *(["x on_error ValueError"] if hears_error else []), f"x after {status}"]


@pytest.mark.asyncio
@pytest.mark.parametrize("what", ["is cancelled", "is over its limit"])
async def test_after_runs_also_for_an_attempt_that_is_interrupted(what):
    """Whoever opened something in `before` must get to close it, "well or badly"."""
    log: list[str] = []
    limit = {"timeout": 0.01} if what == "is over its limit" else {}
    run = graph(forever, Tracing("outer", log, 1), Tracing("inner", log, 2), **limit).run(
        raise_errors=False, timeout=0.05
    )
    await run
    assert log[:2] == ["outer before", "inner before"]
    assert [line.rpartition(" ")[0] for line in log[2:]] == ["inner after", "outer after"]


@pytest.mark.asyncio
async def test_a_short_circuit_with_an_error_fails_the_stage_and_blocks_dependants(sink):
    """Finding A1.1: a denied stage counted as success."""

    class Denies(BaseInterceptor):
        async def before(self, stage_name, ctx):
            return InterceptorResult(stage_ran=False, error="denied") if stage_name == "a" else None

    ran = []

    async def body(ctx):
        ran.append(True)

    with pytest.raises(StageExecutionError) as caught:
        await graph(body, Denies()).run(sink=sink)
    assert ran == []
    assert caught.value.results["a"].status == "fail"
    assert caught.value.results["a"].error == "denied"
    assert sink.of("b") == ["skipped"]


@pytest.mark.asyncio
async def test_a_short_circuit_with_an_empty_error_is_a_denial_all_the_same():
    class Denies(BaseInterceptor):
        async def before(self, stage_name, ctx):
            return InterceptorResult(stage_ran=False, error="")

    results = await graph(ok, Denies()).run(raise_errors=False)
    assert results["a"].status == "fail"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("result", "status", "data"),
    [
        ({"cached": 1}, "ok", {"cached": 1}),
        (StageOutput.ok(cached=1), "ok", {"cached": 1}),
        (None, "ok", {}),
        (StageOutput.skip("not now"), "skip", {"reason": "not now"}),
        (StageOutput.fail("no"), "fail", {}),
    ],
)
async def test_a_short_circuit_with_a_value_takes_the_place_of_the_stage(result, status, data):
    class Answers(BaseInterceptor):
        async def before(self, stage_name, ctx):
            return InterceptorResult(stage_ran=False, result=result) if stage_name == "a" else None

    results = await graph(raises, Answers()).run(raise_errors=False)
    assert (results["a"].status, results["a"].data) == (status, data)


@pytest.mark.asyncio
async def test_after_runs_only_for_those_entered():
    """Finding A1.2: `after` of interceptors ran that had never been entered."""
    log: list[str] = []

    class Denies(Tracing):
        async def before(self, stage_name, ctx):
            self.log.append(f"{self.name} denies")
            return InterceptorResult(stage_ran=False, error="denied")

    await graph(ok, Tracing("outer", log, 1), Denies("guard", log, 2), Tracing("inner", log, 3)).run(
        raise_errors=False
    )
    assert log == ["outer before", "guard denies", "guard after failed", "outer after failed"]


@pytest.mark.asyncio
async def test_a_fallback_takes_the_place_of_a_stage_that_raised(sink):
    class Falls(BaseInterceptor):
        async def on_error(self, stage_name, error, ctx):
            return ErrorAction.FALLBACK

        async def fallback(self, stage_name, error, ctx):
            return {"instead": str(error)}

    log: list[str] = []
    results = await graph(raises, Tracing("outer", log, 1), Falls()).run(sink=sink)
    assert results["a"].data == {"instead": "no"}
    assert log == ["outer before", "outer after completed"]
    sink.assert_paired(stages="ab", end="completed")


@pytest.mark.asyncio
async def test_no_fallback_is_a_failure():
    class Falls(BaseInterceptor):
        async def on_error(self, stage_name, error, ctx):
            return ErrorAction.FALLBACK

    results = await graph(raises, Falls()).run(raise_errors=False)
    assert isinstance(results.error.original, ValueError)


@pytest.mark.asyncio
async def test_the_innermost_answer_that_is_not_fail_counts():
    asked = []

    class Answers(BaseInterceptor):
        def __init__(self, name, priority, action):
            self.name, self.priority, self.action = name, priority, action

        async def on_error(self, stage_name, error, ctx):
            asked.append(self.name)
            return self.action

        async def fallback(self, stage_name, error, ctx):
            return {"by": self.name}

    results = await graph(
        raises,
        Answers("outer", 1, ErrorAction.FALLBACK),
        Answers("middle", 2, ErrorAction.FALLBACK),
        Answers("inner", 3, ErrorAction.FAIL),
    ).run()
    assert asked == ["inner", "middle"]
    assert results["a"].data == {"by": "middle"}


@pytest.mark.asyncio
async def test_around_may_call_not_at_all_or_more_than_once():
    class Twice(BaseInterceptor):
        async def around(self, stage_name, call, ctx):
            if stage_name == "b":
                return StageOutput.ok(not_called=True)
            await call()
            return await call()

    calls = []

    async def body(ctx):
        calls.append(True)

    results = await graph(body, Twice()).run()
    assert calls == [True, True]
    assert results["b"].data == {"not_called": True}


@pytest.mark.asyncio
async def test_around_sees_the_error_and_may_replace_it():
    class Shield(BaseInterceptor):
        async def around(self, stage_name, call, ctx):
            try:
                return await call()
            except ValueError:
                return {"rescued": True}

    assert (await graph(raises, Shield()).run())["a"].data == {"rescued": True}


@pytest.mark.asyncio
async def test_every_attempt_passes_through_the_chain():
    log: list[str] = []

    async def flaky(ctx):
        return StageOutput.retry("again") if ctx.attempt == 1 else None

    await graph(flaky, Tracing("x", log), retry=RetryPolicy(2, base_delay=0)).run()
    assert log == ["x before", "x after retry", "x before", "x after completed"]


# --- an interceptor that raises -------------------------------------------------------------------------------------


def raising(hook: str, *, guard: bool) -> BaseInterceptor:
    class Raises(BaseInterceptor):
        name = "broken"
        fail_closed = guard

    async def broken(self, *args):
        if args[0] == "a":
            raise RuntimeError(f"broken {hook}")
        return await getattr(BaseInterceptor, hook)(self, *args)

    setattr(Raises, hook, broken)
    return Raises()


@pytest.mark.asyncio
@pytest.mark.parametrize("hook", ["before", "after", "around"])
async def test_an_exception_in_a_guard_fails_the_stage(hook, sink):
    with pytest.raises(StageExecutionError) as caught:
        await graph(ok, raising(hook, guard=True)).run(sink=sink)
    assert str(caught.value.original) == f"broken {hook}"
    assert sink.of("b") == ["skipped"]
    sink.assert_paired(stages="ab", end="failed")


@pytest.mark.asyncio
@pytest.mark.parametrize("hook", ["before", "after", "around"])
async def test_an_exception_in_an_observer_is_isolated(hook, sink, caplog):
    results = await graph(ok, raising(hook, guard=False)).run(sink=sink, raise_errors=False)
    assert results.error is None
    assert results["a"].data == {"ran": True}
    assert "broken" in caplog.text
    sink.assert_paired(stages="ab", end="completed")


@pytest.mark.asyncio
async def test_an_observer_that_raises_after_the_stage_does_not_lose_its_output(caplog):
    calls = []

    async def body(ctx):
        calls.append(True)
        return {"ran": True}

    class Observer(BaseInterceptor):
        fail_closed = False

        async def around(self, stage_name, call, ctx):
            await call()
            raise RuntimeError("broken")

    results = await graph(body, Observer()).run(raise_errors=False)
    assert results.error is None
    assert results["a"].data == {"ran": True}
    assert calls == [True]


@pytest.mark.asyncio
@pytest.mark.parametrize("guard", [True, False], ids=["guard", "observer"])
async def test_a_broken_on_error_does_not_hide_the_stages_own_error(guard):
    results = await graph(raises, raising("on_error", guard=guard)).run(raise_errors=False)
    errors = [results.error.original, results.error.original.__cause__, results.error.original.__context__]
    assert any(isinstance(error, ValueError) for error in errors)


@pytest.mark.asyncio
@pytest.mark.parametrize("junk", [True, {"x": 1}, StageOutput.ok(), "denied", 0], ids=repr)
async def test_a_guard_that_answers_with_junk_fails_closed_and_an_observer_is_isolated(junk):
    class Confused(BaseInterceptor):
        async def before(self, stage_name, ctx):
            return junk if stage_name == "a" else None

    class ConfusedObserver(Confused):
        fail_closed = False

    results = await graph(ok, Confused()).run(raise_errors=False)
    assert results["a"].status == "fail"
    assert results.error.original.__class__ is not AttributeError
    results = await graph(ok, ConfusedObserver()).run(raise_errors=False)
    assert results.error is None


@pytest.mark.asyncio
async def test_an_action_that_is_none_is_no_rescue():
    class Confused(BaseInterceptor):
        async def on_error(self, stage_name, error, ctx):
            return "retry"

    results = await graph(raises, Confused()).run(raise_errors=False)
    assert isinstance(results.error.original, ValueError)


# --- what an interceptor is given ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_parallel_stages_do_not_overwrite_each_others_notes():
    """Finding A1.26: a shared `ctx.data` was the interceptors' scratch pad."""
    seen = {}

    class Notes(BaseInterceptor):
        name = "notes"

        async def before(self, stage_name, ctx):
            ctx.data["current"] = stage_name
            ctx.add_observation("stage", stage_name)

        async def after(self, stage_name, result, ctx):
            seen[stage_name] = (ctx.data["current"], ctx.get_observation("stage"), ctx.data["given"])

    class Reads(BaseInterceptor):
        name = "reads"

        async def after(self, stage_name, result, ctx):
            assert ctx.get_observation("stage", "nothing of mine") == "nothing of mine"

    async def turns(ctx):
        for _ in range(3):
            await asyncio.sleep(0)

    pipeline = Pipeline()
    for n in range(5):
        pipeline = pipeline.with_stage(f"s{n}", turns, K)
    data = {"given": 1}
    await pipeline.build(interceptors=[Notes(), Reads()]).run(data=data)
    assert seen == {f"s{n}": (f"s{n}", f"s{n}", 1) for n in range(5)}
    assert data == {"given": 1}


@pytest.mark.asyncio
async def test_a_retry_starts_with_a_clean_pad():
    seen = []

    class Notes(BaseInterceptor):
        async def before(self, stage_name, ctx):
            seen.append(ctx.data.get("mark"))
            ctx.data["mark"] = ctx.attempt

    async def flaky(ctx):
        return StageOutput.retry("again") if ctx.attempt == 1 else None

    await graph(flaky, Notes(), retry=RetryPolicy(2, base_delay=0)).run()
    assert seen == [None, None, None]


@pytest.mark.asyncio
async def test_log_lines(caplog):
    caplog.set_level(logging.INFO, "stage_interceptor")
    await Pipeline().with_stage("a", ok, K).build(interceptors=[LoggingInterceptor()]).run()
    await (
        Pipeline()
        .with_stage("f", fails, K)
        .build(interceptors=[LoggingInterceptor()])
        .run(raise_errors=False)
    )
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert lines == [
        ("INFO", "Stage starting: a"),
        ("INFO", "Stage completed: a - completed"),
        ("INFO", "Stage starting: f"),
        ("WARNING", "Stage completed: f - failed: no"),
    ]


@pytest.mark.asyncio
async def test_an_interceptor_may_have_a_field_called_timeout():
    """0.9 had no such hooks, and its users' interceptors have fields of these names."""

    class Old(BaseInterceptor):
        def __init__(self):
            self.timeout = 5
            self.retry = 3

    await graph(ok, Old()).run()
