"""Custom interceptors as 0.9 documented them: `before`, `after`, `on_error`, short-circuits; and the built-in chain."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

import pytest
import stageflow
from stageflow import (
    BaseInterceptor,
    ChildTrackerMetricsInterceptor,
    CircuitBreakerInterceptor,
    ErrorAction,
    IdempotencyInterceptor,
    InterceptorContext,
    InterceptorResult,
    LoggingInterceptor,
    MetricsInterceptor,
    Pipeline,
    PipelineContext,
    RetryInterceptor,
    StageExecutionError,
    StageGraph,
    StageKind,
    StageOutput,
    StageResult,
    StageSpec,
    StageStatus,
    TimeoutInterceptor,
    TracingInterceptor,
    get_default_interceptors,
)
from stageflow.context import Message
from stageflow.interceptors import ContextSizeInterceptor, ImmutabilityInterceptor
from stageflow.pipeline.idempotency import InMemoryIdempotencyStore
from stageflow.pipeline.interceptors import CriticalInterceptorError
from stageflow.testing import (
    EventRecorder,
    ScriptedStage,
    create_test_pipeline_context,
    create_test_snapshot,
    run_virtual,
)

WORK = StageKind.TRANSFORM


class Trail(BaseInterceptor):
    """Writes down what it is asked."""

    def __init__(self, name: str, priority: int, trail: list[str]) -> None:
        self.name = name
        self.priority = priority
        self.trail = trail

    async def before(self, stage_name: str, ctx: InterceptorContext) -> InterceptorResult | None:
        self.trail.append(f"{self.name}.before {stage_name}")
        return None

    async def after(self, stage_name: str, result: StageResult, ctx: InterceptorContext) -> None:
        self.trail.append(f"{self.name}.after {stage_name} {result.status}")

    async def on_error(self, stage_name: str, error: Exception, ctx: InterceptorContext) -> ErrorAction:
        self.trail.append(f"{self.name}.on_error {stage_name} {type(error).__name__}")
        return ErrorAction.FAIL


def one_stage(runner: object, interceptors: list[BaseInterceptor] | None, **options: object) -> StageGraph:
    return Pipeline("app").with_stage("charge", runner, WORK, **options).build(interceptors=interceptors)


# --- order --------------------------------------------------------------------------------------------------


def test_before_goes_in_and_after_comes_out_by_priority():
    trail: list[str] = []

    async def charge(ctx):
        trail.append("charge")
        return {"charged": True}

    graph = one_stage(
        charge, [Trail("inner", 60, trail), Trail("outer", 3, trail), Trail("middle", 20, trail)]
    )
    results = run_virtual(graph.run(create_test_pipeline_context()))
    assert results["charge"].data == {"charged": True}
    assert trail == [
        "outer.before charge",
        "middle.before charge",
        "inner.before charge",
        "charge",
        "inner.after charge completed",
        "middle.after charge completed",
        "outer.after charge completed",
    ]


def test_on_error_comes_out_too_and_after_hears_of_the_failure():
    trail: list[str] = []
    graph = one_stage(ScriptedStage(ValueError("no")), [Trail("inner", 60, trail), Trail("outer", 3, trail)])
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(graph.run(create_test_pipeline_context()))
    assert isinstance(caught.value.original, ValueError)
    assert trail[:2] == ["outer.before charge", "inner.before charge"]
    assert [entry for entry in trail if ".on_error" in entry] == [
        "inner.on_error charge ValueError",
        "outer.on_error charge ValueError",
    ]
    assert [entry for entry in trail if ".after" in entry] == [
        "inner.after charge failed",
        "outer.after charge failed",
    ]
    assert trail.index("inner.on_error charge ValueError") < trail.index("inner.after charge failed")
    assert len(trail) == 6


def test_the_same_chain_wraps_every_stage_of_a_graph_of_specs():
    trail: list[str] = []
    graph = StageGraph(
        specs=[
            StageSpec(name="a", runner=ScriptedStage({"n": 1})),
            StageSpec(name="b", runner=ScriptedStage(StageOutput.skip("later")), dependencies=("a",)),
        ],
        interceptors=[Trail("t", 1, trail)],
    )
    run_virtual(graph.run(create_test_pipeline_context()))
    assert trail == ["t.before a", "t.after a completed", "t.before b", "t.after b skipped"]


# --- an interceptor that lets in, or not --------------------------------------------------------------------


class TokenInterceptor(BaseInterceptor):
    """What backends of 0.9 wrote in front of their stages: who is it, and may they?"""

    name = "token"
    priority = 1

    def __init__(self, users: dict[str, UUID], protected: set[str]) -> None:
        self.users = users
        self.protected = protected

    async def before(self, stage_name, ctx):
        if stage_name not in self.protected:
            return None
        token = ctx.data.get("_auth_token")
        if token == "broken":  # noqa: S105 - as a validator that crashes
            raise ConnectionError("the key server does not answer")
        user = self.users.get(token)
        if user is None:
            ctx.try_emit_event("auth.failure", {"stage": stage_name})
            return InterceptorResult(stage_ran=False, error="not authenticated")
        ctx.data["_user"] = user
        ctx.try_emit_event("auth.login", {"stage": stage_name, "user": str(user)})
        return None

    async def after(self, stage_name, result, ctx):
        ctx.try_emit_event(
            "auth.audit", {"stage": stage_name, "result": result.status, "error": result.error}
        )


class SeesUser(BaseInterceptor):
    """Further in: finds what the one further out has found out."""

    name = "sees_user"
    priority = 50

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def before(self, stage_name, ctx):
        self.seen.append((stage_name, ctx.data.get("_user")))


def secured(ran: list[str]) -> tuple[Pipeline, TokenInterceptor, SeesUser]:
    def stage(name: str):
        async def body(ctx):
            ran.append(name)
            return {"done": name}

        return body

    pipeline = (
        Pipeline("secured")
        .with_stage("public", stage("public"), StageKind.ENRICH)
        .with_stage("private", stage("private"), StageKind.TRANSFORM, dependencies=("public",))
        .with_stage("after_private", stage("after_private"), StageKind.TRANSFORM, dependencies=("private",))
    )
    return pipeline, TokenInterceptor({"ada-token": UUID(int=1)}, {"private"}), SeesUser()


def test_who_has_a_token_gets_in():
    ran: list[str] = []
    pipeline, token, inner = secured(ran)
    sink = EventRecorder()
    context = create_test_pipeline_context(data={"_auth_token": "ada-token"}, event_sink=sink)
    results = run_virtual(pipeline.build(interceptors=[inner, token]).run(context))
    assert ran == ["public", "private", "after_private"]
    assert results["private"].data == {"done": "private"}
    # Findings A1.26: what interceptors note is per invocation, so no other stage sees it.
    assert inner.seen == [("public", None), ("private", UUID(int=1)), ("after_private", None)]
    assert context.data == {"_auth_token": "ada-token"}
    assert [event for event in sink.types if event.startswith("auth.")] == [
        "auth.audit",
        "auth.login",
        "auth.audit",
        "auth.audit",
    ]
    assert sink.data("auth.login")["user"] == str(UUID(int=1))


def test_a_refusal_is_a_failure_and_nothing_behind_it_runs():
    # Findings A1.1: in 0.9 a denied stage counted as completed, and its dependants ran.
    ran: list[str] = []
    pipeline, token, inner = secured(ran)
    sink = EventRecorder()
    context = create_test_pipeline_context(data={"_auth_token": "stolen"}, event_sink=sink)
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(pipeline.build(interceptors=[inner, token]).run(context))
    assert ran == ["public"]
    assert caught.value.stage == "private"
    assert "not authenticated" in str(caught.value.original)
    assert caught.value.results["private"].status is StageStatus.FAIL
    assert caught.value.results["private"].error == "not authenticated"
    assert sink.types == [
        "pipeline.started",
        "stage.public.started",
        "auth.audit",
        "stage.public.completed",
        "stage.private.started",
        "auth.failure",
        "auth.audit",
        "stage.private.failed",
        "stage.after_private.skipped",
        "pipeline.failed",
    ]
    audit = [event.data for event in sink.events if event.type == "auth.audit"][-1]
    assert (audit["stage"], audit["result"], audit["error"]) == ("private", "failed", "not authenticated")
    assert inner.seen == [("public", None)]  # `before` further in has not run


def test_after_runs_only_for_those_whose_before_ran():
    # Findings A1.2: 0.9 ran `after` for all, so an inner cache stored the denial.
    trail: list[str] = []

    class Deny(Trail):
        async def before(self, stage_name, ctx):
            await super().before(stage_name, ctx)
            return InterceptorResult(stage_ran=False, error="denied")

    stage = ScriptedStage()
    graph = one_stage(stage, [Trail("outer", 1, trail), Deny("deny", 2, trail), Trail("inner", 3, trail)])
    with pytest.raises(StageExecutionError):
        run_virtual(graph.run(create_test_pipeline_context()))
    assert trail == [
        "outer.before charge",
        "deny.before charge",
        "deny.after charge failed",
        "outer.after charge failed",
    ]
    assert stage.calls == []


def test_a_guard_that_breaks_lets_nobody_in():
    # Findings A1.3: in 0.9 an exception of an interceptor was logged, and the stage ran unauthenticated.
    ran: list[str] = []
    pipeline, token, inner = secured(ran)
    context = create_test_pipeline_context(data={"_auth_token": "broken"})
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(pipeline.build(interceptors=[token, inner]).run(context))
    assert ran == ["public"]
    assert isinstance(caught.value.original, ConnectionError)


def test_a_watcher_that_breaks_is_logged_and_the_stage_goes_on(caplog):
    class Watcher(BaseInterceptor):
        name = "watcher"
        fail_closed = False

        async def before(self, stage_name, ctx):
            raise LookupError("no such table")

        async def after(self, stage_name, result, ctx):
            raise LookupError("still no such table")

    results = run_virtual(one_stage(ScriptedStage({"n": 1}), [Watcher()]).run(create_test_pipeline_context()))
    assert results["charge"].data == {"n": 1}
    warnings = [record for record in caplog.records if record.name == "stageflow.interceptors"]
    assert [record.levelno for record in warnings] == [logging.WARNING, logging.WARNING]
    assert all("watcher" in record.getMessage() for record in warnings)


def test_a_critical_error_always_fails_the_stage():
    class Quota(BaseInterceptor):
        name = "quota"
        fail_closed = False

        async def before(self, stage_name, ctx):
            raise CriticalInterceptorError("the quota is used up", self.name)

    with pytest.raises(StageExecutionError) as caught:
        run_virtual(one_stage(ScriptedStage(), [Quota()]).run(create_test_pipeline_context()))
    original = caught.value.original
    assert isinstance(original, CriticalInterceptorError)
    assert original.interceptor_name == "quota"
    assert "the quota is used up" in str(original)


# --- an interceptor that answers instead of the stage -------------------------------------------------------


class Cache(BaseInterceptor):
    name = "cache"
    priority = 10

    def __init__(self) -> None:
        self.answers: dict[object, object] = {}

    async def before(self, stage_name, ctx):
        key = (stage_name, ctx.data.get("key"))
        if key in self.answers:
            return InterceptorResult(stage_ran=False, result=self.answers[key])
        ctx.add_observation("key", key)
        return None

    async def after(self, stage_name, result, ctx):
        key = ctx.get_observation("key")
        if key is not None and result.status == "completed":
            self.answers[key] = dict(result.data)


def test_a_value_in_the_stages_place_is_a_success():
    stage = ScriptedStage({"n": 1}, {"n": 2})
    graph = one_stage(stage, [Cache()])

    async def program():
        return [
            await graph.run(create_test_pipeline_context(data={"key": key})) for key in ("x", "x", "y", "x")
        ]

    runs = run_virtual(program())
    assert [results["charge"].data["n"] for results in runs] == [1, 1, 2, 1]
    assert {results["charge"].status for results in runs} == {StageStatus.OK}
    assert len(stage.calls) == 2


def test_stage_ran_true_changes_nothing():
    class Waves(BaseInterceptor):
        name = "waves"

        async def before(self, stage_name, ctx):
            return InterceptorResult(stage_ran=True, result={"not": "used"}, error="nor this")

    results = run_virtual(one_stage(ScriptedStage({"n": 1}), [Waves()]).run(create_test_pipeline_context()))
    assert results["charge"].data == {"n": 1}


def test_an_empty_list_means_no_interceptors_and_none_means_the_defaults(caplog):
    # Findings A1.26: in 0.9 an empty list meant the defaults.
    caplog.set_level(logging.INFO, logger="stage_interceptor")
    run_virtual(one_stage(ScriptedStage(), []).run(create_test_pipeline_context()))
    assert [record.getMessage() for record in caplog.records if record.name == "stage_interceptor"] == []
    run_virtual(one_stage(ScriptedStage(), None).run(create_test_pipeline_context()))
    assert [record.getMessage() for record in caplog.records if record.name == "stage_interceptor"] == [
        "Stage starting: charge",
        "Stage completed: charge - completed",
    ]


# --- what an interceptor is given ---------------------------------------------------------------------------


def test_what_hooks_know_of_the_run():
    seen: dict[str, object] = {}

    class Looks(BaseInterceptor):
        name = "looks"

        async def before(self, stage_name, ctx):
            for key in (
                "name",
                "pipeline_run_id",
                "request_id",
                "session_id",
                "user_id",
                "org_id",
                "interaction_id",
                "topology",
                "execution_mode",
            ):
                seen[key] = getattr(ctx, key)
            seen["tone"] = ctx.data["tone"]
            ctx.add_observation("when", "before")

        async def after(self, stage_name, result, ctx):
            seen["observation"] = ctx.get_observation("when")
            seen["missing"] = ctx.get_observation("nothing", "default")
            seen["result"] = (result.name, result.status, dict(result.data), result.error)
            seen["took"] = (result.ended_at - result.started_at).total_seconds() >= 0

    context = PipelineContext(
        pipeline_run_id=UUID(int=1),
        request_id=UUID(int=2),
        session_id=UUID(int=3),
        user_id=UUID(int=4),
        org_id=UUID(int=5),
        interaction_id=UUID(int=6),
        topology="chat_fast",
        execution_mode="practice",
        data={"tone": "calm"},
    )
    run_virtual(one_stage(ScriptedStage({"n": 1}), [Looks()]).run(context))
    assert seen == {
        "name": "looks",
        "pipeline_run_id": UUID(int=1),
        "request_id": UUID(int=2),
        "session_id": UUID(int=3),
        "user_id": UUID(int=4),
        "org_id": UUID(int=5),
        "interaction_id": UUID(int=6),
        "topology": "chat_fast",
        "execution_mode": "practice",
        "tone": "calm",
        "observation": "before",
        "missing": "default",
        "result": ("charge", "completed", {"n": 1}, None),
        "took": True,
    }


def test_observations_of_one_interceptor_are_not_anothers():
    class Notes(BaseInterceptor):
        def __init__(self, name: str, priority: int) -> None:
            self.name = name
            self.priority = priority
            self.found: object = "nothing yet"

        async def before(self, stage_name, ctx):
            self.found = ctx.get_observation("n")
            ctx.add_observation("n", self.name)

        async def after(self, stage_name, result, ctx):
            self.found = (self.found, ctx.get_observation("n"))

    first, second = Notes("first", 1), Notes("second", 2)
    run_virtual(one_stage(ScriptedStage(), [first, second]).run(create_test_pipeline_context()))
    assert (first.found, second.found) == ((None, "first"), (None, "second"))


def test_parallel_stages_do_not_overwrite_each_others_notes():
    # Findings A1.26: 0.9 had one slot per run.
    mixed: list[str] = []

    class Span(BaseInterceptor):
        name = "span"

        async def before(self, stage_name, ctx):
            ctx.data["span"] = stage_name

        async def after(self, stage_name, result, ctx):
            if ctx.data["span"] != stage_name:
                mixed.append(stage_name)

    pipeline = Pipeline()
    for n in range(10):

        async def body(ctx, n=n):
            await asyncio.sleep(n % 3)

        pipeline = pipeline.with_stage(f"s{n}", body, WORK)
    run_virtual(pipeline.build(interceptors=[Span()]).run(create_test_pipeline_context()))
    assert mixed == []


# --- errors: retry, fallback, fail --------------------------------------------------------------------------


class Decides(BaseInterceptor):
    name = "decides"

    def __init__(self, *actions: ErrorAction, value: object = None) -> None:
        self.actions = list(actions)
        self.value = value
        self.errors: list[str] = []

    async def on_error(self, stage_name, error, ctx):
        self.errors.append(f"{type(error).__name__}: {error}")
        return self.actions.pop(0) if self.actions else ErrorAction.FAIL

    async def fallback(self, stage_name, error, ctx):
        return self.value


def test_on_error_retry_runs_the_stage_again():
    # Findings A1.6: in 0.9 the second call was the last one, and had no time-out.
    stage = ScriptedStage(ConnectionError("one"), ConnectionError("two"), {"n": 3})
    decides = Decides(ErrorAction.RETRY, ErrorAction.RETRY)
    sink = EventRecorder()
    graph = one_stage(stage, [decides])
    results = run_virtual(graph.run(create_test_pipeline_context(event_sink=sink)))
    assert results["charge"].data == {"n": 3}
    assert decides.errors == ["ConnectionError: one", "ConnectionError: two"]
    assert [call.attempt for call in stage.calls] == [1, 2, 3]
    assert sink.of("charge") == ["started", "retrying", "retrying", "completed"]
    assert sink.data("stage.charge.completed")["attempt"] == 3


def test_on_error_retry_has_an_end():
    stage = ScriptedStage(ValueError("always"))
    decides = Decides(*[ErrorAction.RETRY] * 100)
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(one_stage(stage, [decides]).run(create_test_pipeline_context()))
    assert len(stage.calls) == 3
    assert caught.value.attempts == 3
    assert str(caught.value.original) == "always"


def test_on_error_fallback_gives_a_value():
    # Findings A1.6 and the guide: FALLBACK was the same as FAIL in 0.9.
    decides = Decides(ErrorAction.FALLBACK, value={"text": "yesterday's"})
    results = run_virtual(
        one_stage(ScriptedStage(ValueError("no")), [decides]).run(create_test_pipeline_context())
    )
    assert results["charge"].status is StageStatus.OK
    assert results["charge"].data == {"text": "yesterday's"}


def test_on_error_fallback_without_a_value_fails():
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(
            one_stage(ScriptedStage(ValueError("no")), [Decides(ErrorAction.FALLBACK)]).run(
                create_test_pipeline_context()
            )
        )
    assert isinstance(caught.value.original, ValueError)


def test_the_first_answer_from_the_inside_decides():
    class Named(Decides):
        def __init__(self, name: str, priority: int, *actions: ErrorAction, value: object = None) -> None:
            super().__init__(*actions, value=value)
            self.name = name
            self.priority = priority

    outer = Named("outer", 1, ErrorAction.FALLBACK, value={"by": "outer"})
    inner = Named("inner", 9, ErrorAction.FALLBACK, value={"by": "inner"})
    silent = Named("silent", 10)
    graph = one_stage(ScriptedStage(ValueError("no")), [outer, inner, silent])
    results = run_virtual(graph.run(create_test_pipeline_context()))
    assert results["charge"].data == {"by": "inner"}
    assert silent.errors == ["ValueError: no"]
    assert outer.errors == []


# --- the chain of 0.9 ---------------------------------------------------------------------------------------


def test_the_default_chain_is_sorted_and_fresh():
    chain = get_default_interceptors()
    assert [interceptor.priority for interceptor in chain] == sorted(i.priority for i in chain)
    again = get_default_interceptors()
    assert [type(interceptor) for interceptor in again] == [type(interceptor) for interceptor in chain]
    assert not {id(interceptor) for interceptor in again} & {id(interceptor) for interceptor in chain}


def test_the_default_chain_has_what_0_9_had():
    assert [(interceptor.name, interceptor.priority) for interceptor in get_default_interceptors()] == [
        ("idempotency", 4),
        ("timeout", 5),
        ("circuit_breaker", 10),
        ("tracing", 20),
        ("metrics", 40),
        ("child_tracker_metrics", 45),
        ("logging", 50),
    ]


def test_the_default_chain_takes_the_options_of_0_9():
    without = get_default_interceptors(include_idempotency=False)
    assert "idempotency" not in [interceptor.name for interceptor in without]
    store = InMemoryIdempotencyStore()
    with_store = get_default_interceptors(
        include_auth=False, include_idempotency=True, idempotency_store=store
    )
    assert "idempotency" in [interceptor.name for interceptor in with_store]


@pytest.mark.parametrize(
    ("interceptor", "name", "priority"),
    [
        (IdempotencyInterceptor, "idempotency", 4),
        (TimeoutInterceptor, "timeout", 5),
        (CircuitBreakerInterceptor, "circuit_breaker", 10),
        (ImmutabilityInterceptor, None, 10),
        (RetryInterceptor, "retry", 15),
        (TracingInterceptor, "tracing", 20),
        (MetricsInterceptor, "metrics", 40),
        (ContextSizeInterceptor, None, 42),
        (ChildTrackerMetricsInterceptor, "child_tracker_metrics", 45),
        (LoggingInterceptor, "logging", 50),
    ],
)
def test_the_published_interceptors_have_their_names_and_places(interceptor, name, priority):
    made = interceptor()
    assert isinstance(made, BaseInterceptor)
    assert made.priority == priority
    assert name is None or made.name == name


def test_an_interceptor_that_overrides_nothing_changes_nothing():
    class Plain(BaseInterceptor):
        pass

    assert (Plain.name, Plain.priority) == ("base_interceptor", 100)
    results = run_virtual(one_stage(ScriptedStage({"n": 1}), [Plain()]).run(create_test_pipeline_context()))
    assert results["charge"].data == {"n": 1}


def test_a_time_out_of_the_chain():
    sink = EventRecorder()
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(
            one_stage(ScriptedStage("hang"), [TimeoutInterceptor(timeout_ms=1500)]).run(
                create_test_pipeline_context(event_sink=sink)
            )
        )
    assert isinstance(caught.value.original, TimeoutError)
    assert caught.value.results["charge"].error == "Stage timed out after 1500ms"
    assert sink.data("stage.charge.failed")["error"] == "Stage timed out after 1500ms"


def test_the_default_time_out_has_its_published_name():
    assert TimeoutInterceptor.DEFAULT_TIMEOUT_MS == 30000


def test_the_time_out_of_one_run_in_its_data():
    async def program():
        loop = asyncio.get_running_loop()
        for data, seconds in (({}, 30), ({"_timeout_ms": 250}, 0.25)):
            begin = loop.time()
            with pytest.raises(StageExecutionError):
                await one_stage(ScriptedStage("hang"), None).run(create_test_pipeline_context(data=data))
            assert loop.time() - begin == pytest.approx(seconds, abs=0.1)

    run_virtual(program())


def test_no_time_out_where_it_is_zero():
    async def program():
        loop = asyncio.get_running_loop()

        async def slow(ctx):
            await asyncio.sleep(3600)
            return {"slept": True}

        results = await one_stage(slow, None).run(create_test_pipeline_context(data={"_timeout_ms": 0}))
        return results["charge"].data["slept"], loop.time()

    assert run_virtual(program()) == (True, pytest.approx(3600, abs=0.1))


def test_a_time_out_error_of_the_stage_itself_is_an_error_like_others():
    # Findings A1.6: 0.9 took any TimeoutError for its own, and skipped `on_error`.
    decides = Decides()
    with pytest.raises(StageExecutionError) as caught:
        run_virtual(
            one_stage(ScriptedStage(TimeoutError("the model's")), [TimeoutInterceptor(), decides]).run(
                create_test_pipeline_context()
            )
        )
    assert decides.errors == ["TimeoutError: the model's"]
    assert str(caught.value.original) == "the model's"


def test_tracing_and_metrics_see_each_stage_apart(caplog):
    caplog.set_level(logging.INFO, logger="stage_metrics")
    spans: dict[str, object] = {}

    class Inner(BaseInterceptor):
        name = "inner"
        priority = 99

        async def before(self, stage_name, ctx):
            spans[stage_name] = (ctx.data["_tracing.span_name"], ctx.data["_tracing.span_start"] is not None)

    pipeline = (
        Pipeline()
        .with_stage("a", ScriptedStage(), WORK)
        .with_stage("b", ScriptedStage(), WORK, dependencies=("a",))
    )
    run_virtual(
        pipeline.build(interceptors=[Inner(), TracingInterceptor(), MetricsInterceptor()]).run(
            create_test_pipeline_context()
        )
    )
    assert set(spans) == {"a", "b"}
    assert spans["a"] != spans["b"]
    assert all("a" in spans["a"][0] or "b" in spans["b"][0] for _ in spans)
    assert len([record for record in caplog.records if record.name == "stage_metrics"]) == 2


# --- run_with_interceptors ----------------------------------------------------------------------------------


def now_result(name: str, status: str = "completed", **data: object) -> StageResult:
    now = PipelineContext.now()
    return StageResult(name=name, status=status, started_at=now, ended_at=now, data=data)


def test_run_with_interceptors_around_a_call_of_ones_own():
    trail: list[str] = []

    async def stage_run() -> StageResult:
        trail.append("ran")
        return now_result("charge", n=1)

    result = run_virtual(
        stageflow.run_with_interceptors(
            stage_name="charge",
            stage_run=stage_run,
            ctx=create_test_pipeline_context(),
            interceptors=[Trail("inner", 9, trail), Trail("outer", 1, trail)],
        )
    )
    assert isinstance(result, StageResult)
    assert (result.name, result.status, dict(result.data), result.error) == (
        "charge",
        "completed",
        {"n": 1},
        None,
    )
    assert trail == [
        "outer.before charge",
        "inner.before charge",
        "ran",
        "inner.after charge completed",
        "outer.after charge completed",
    ]


def test_run_with_interceptors_refuses():
    ran: list[str] = []

    async def stage_run() -> StageResult:
        ran.append("ran")
        return now_result("private")

    _, token, _ = secured([])
    result = run_virtual(
        stageflow.run_with_interceptors(
            "private", stage_run, create_test_pipeline_context(data={"_auth_token": "stolen"}), [token]
        )
    )
    assert ran == []
    # Findings A1.1: a short-circuit with an error is a failure.
    assert (result.name, result.status, result.error) == ("private", "failed", "not authenticated")


def test_run_with_interceptors_answers():
    async def stage_run() -> StageResult:
        return now_result("charge", n=1)

    cache = Cache()
    cache.answers["charge", "x"] = {"n": 7}
    result = run_virtual(
        stageflow.run_with_interceptors(
            "charge", stage_run, create_test_pipeline_context(data={"key": "x"}), [cache]
        )
    )
    assert (result.status, dict(result.data), result.error) == ("completed", {"n": 7}, None)


def test_messages_reach_the_hooks():
    seen: list[str] = []

    class Reads(BaseInterceptor):
        name = "reads"

        async def before(self, stage_name, ctx):
            seen.extend(message.content for message in ctx.snapshot.messages)

    snapshot = create_test_snapshot(messages=[Message(role="user", content="hello")])
    run_virtual(one_stage(ScriptedStage(), [Reads()]).run(snapshot))
    assert seen == ["hello"]
