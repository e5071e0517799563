"""Isolation (DESIGN section 4): context variables, read-only data, runs beside each other, tenants."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from uuid import UUID

import pytest
from stageflow import (
    BaseInterceptor,
    CancellationToken,
    ContextSnapshot,
    FailureMode,
    Pipeline,
    PipelineCancelled,
    PipelineContext,
    PipelineTimer,
    RetryPolicy,
    RunIdentity,
    StageContext,
    StageInputs,
    StageKind,
    StageOutput,
    stage,
    use,
)
from stageflow.context.frozen import thaw
from stageflow.errors import ReadOnlyDataError
from stageflow.testing import EventRecorder

K = StageKind.WORK
LABEL: ContextVar[str] = ContextVar("test_isolation_label", default="nobody")


# --- what a stage sets ---------------------------------------------------------------------------------------


async def at_once(ctx):
    LABEL.set("mine")


async def after_a_suspension(ctx):
    await asyncio.sleep(0)
    LABEL.set("mine")
    await asyncio.sleep(0)
    assert LABEL.get() == "mine"


async def before_a_suspension(ctx):
    LABEL.set("mine")
    for _ in range(3):
        await asyncio.sleep(0)
        assert LABEL.get() == "mine"


async def around_an_exception(ctx):
    LABEL.set("mine")
    broken = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(broken.set_exception, ValueError("thrown in"))
    try:
        await broken
    except ValueError:
        assert LABEL.get() == "mine"
        LABEL.set("mine, after it")


async def around_a_time_out(ctx):
    LABEL.set("mine")
    try:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)
    except TimeoutError:
        assert LABEL.get() == "mine"
        LABEL.set("mine, after it")


async def in_finally(ctx):
    try:
        await asyncio.sleep(0)
    finally:
        assert LABEL.get() == "nobody"
        LABEL.set("mine")
        await asyncio.sleep(0)
        assert LABEL.get() == "mine"


async def and_takes_it_back(ctx):
    token = LABEL.set("mine")
    await asyncio.sleep(0)
    LABEL.reset(token)  # raises if the stage has been moved to another Context meanwhile
    assert LABEL.get() == "nobody"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "sets",
    [
        at_once,
        after_a_suspension,
        before_a_suspension,
        around_an_exception,
        around_a_time_out,
        in_finally,
        and_takes_it_back,
    ],
    ids=lambda body: body.__name__,
)
async def test_what_a_stage_sets_nobody_else_sees(sets):
    seen: dict[str, str] = {}

    async def look(ctx):
        seen[ctx.stage_name] = LABEL.get()

    async def look_slowly(ctx):
        for _ in range(8):
            seen[ctx.stage_name] = LABEL.get()
            await asyncio.sleep(0)

    def asked(inputs):
        seen["when"] = LABEL.get()
        return True

    await (
        Pipeline()
        .with_stage("before", look_slowly, K)
        .with_stage("sets", sets, K)
        .with_stage("sibling", look_slowly, K)
        .with_stage("dependant", look, K, ["sets"])
        .with_stage("asked", look, K, ["sets"], when=asked)
        .run()
    )
    assert seen == dict.fromkeys(["before", "sibling", "dependant", "asked", "when"], "nobody")
    assert LABEL.get() == "nobody"


@pytest.mark.asyncio
@pytest.mark.parametrize("suspends", [False, True], ids=["inline", "suspended"])
async def test_a_failed_stage_and_a_callback_leave_no_variable_behind(suspends):
    seen = []

    async def cleanup():
        seen.append(("cleanup", LABEL.get()))

    async def fails(ctx):
        ctx.register_cleanup(cleanup)
        LABEL.set("mine")
        if suspends:
            await asyncio.sleep(0)
        raise ValueError

    async def look(ctx):
        await asyncio.sleep(0)
        seen.append(("sibling", LABEL.get()))

    graph = (
        Pipeline()
        .with_stage("fails", fails, K)
        .with_stage("look", look, K)
        .build(failure_mode=FailureMode.BEST_EFFORT)
    )
    await graph.run()
    assert seen == [("sibling", "nobody"), ("cleanup", "nobody")]
    assert LABEL.get() == "nobody"


@pytest.mark.asyncio
async def test_a_cancelled_stage_cleans_up_among_its_own_variables():
    seen = []
    token = CancellationToken()

    async def waits(ctx):
        LABEL.set(ctx.stage_name)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(LABEL.get())
            raise
        finally:
            await asyncio.sleep(0)
            seen.append(LABEL.get())

    async def cancels(ctx):
        LABEL.set("cancels")
        await asyncio.sleep(0)
        token.cancel("now")

    pipeline = Pipeline().with_stage("one", waits, K).with_stage("two", waits, K).with_stage("c", cancels, K)
    with pytest.raises(PipelineCancelled):
        await pipeline.run(cancel_token=token)
    assert seen == ["one", "two", "one", "two"]
    assert LABEL.get() == "nobody"


@pytest.mark.asyncio
async def test_a_stage_over_its_limit_cleans_up_among_its_own_variables():
    seen = []

    async def slow(ctx):
        LABEL.set("slow")
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(LABEL.get())

    results = await Pipeline().with_stage("slow", slow, K, timeout=0.01).run(raise_errors=False)
    assert results["slow"].status == "fail"
    assert seen == ["slow"]
    assert LABEL.get() == "nobody"


@pytest.mark.asyncio
async def test_another_attempt_starts_afresh():
    seen = []

    async def flaky(ctx):
        seen.append(LABEL.get())
        LABEL.set(f"attempt {ctx.attempt}")
        await asyncio.sleep(0)
        return StageOutput.retry("again") if ctx.attempt < 3 else None

    policy = RetryPolicy(3, base_delay=0, jitter=False)
    await Pipeline().with_stage("flaky", flaky, K, retry=policy).run()
    assert seen == ["nobody"] * 3


@pytest.mark.asyncio
async def test_tasks_of_a_stage_inherit_its_variables():
    async def parent(ctx):
        LABEL.set("parent")
        await asyncio.sleep(0)

        async def child():
            seen = LABEL.get()
            LABEL.set("child")
            return seen

        return {"seen": await asyncio.create_task(child()), "after": LABEL.get()}

    results = await Pipeline().with_stage("parent", parent, K).run()
    assert results["parent"].data == {"seen": "parent", "after": "parent"}


@pytest.mark.asyncio
async def test_an_interceptor_shares_the_variables_of_its_stage_and_of_no_other():
    seen: list[tuple[str, str, str]] = []

    class Marks(BaseInterceptor):
        name = "marks"

        async def before(self, stage_name, ctx):
            seen.append(("before", stage_name, LABEL.get()))
            LABEL.set(f"for {stage_name}")

        async def after(self, stage_name, result, ctx):
            seen.append(("after", stage_name, LABEL.get()))

    async def look(ctx):
        await asyncio.sleep(0)
        seen.append(("stage", ctx.stage_name, LABEL.get()))

    pipeline = (
        Pipeline().with_stage("a", look, K).with_stage("b", look, K).with_stage("c", look, K, ["a", "b"])
    )
    await pipeline.build(interceptors=[Marks()]).run()
    assert [where for where in seen if where[0] == "before"] == [("before", name, "nobody") for name in "abc"]
    assert {where for where in seen if where[0] != "before"} == {
        (hook, name, f"for {name}") for hook in ("stage", "after") for name in "abc"
    }


# --- what a caller sets --------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("way", ["run", "stream", "pipeline"])
async def test_stages_see_what_the_caller_has_set(way):
    async def look(ctx):
        first = LABEL.get()
        await asyncio.sleep(0)
        return {"seen": [first, LABEL.get()], "asked": ctx.inputs.prior_outputs != {}}

    pipeline = (
        Pipeline()
        .with_stage("a", look, K)
        .with_stage("b", look, K, ["a"], when=lambda _: LABEL.get() == "caller")
    )
    graph = pipeline.build()
    token = LABEL.set("caller")  # after the build: what counts is the call
    try:
        if way == "stream":
            stream = graph.stream()
            async for _ in stream:
                pass
            results = stream.results
        else:
            results = await (graph if way == "run" else pipeline).run()
    finally:
        LABEL.reset(token)
    assert results["a"].data["seen"] == results["b"].data["seen"] == ["caller", "caller"]


@pytest.mark.asyncio
async def test_callers_beside_each_other_each_have_their_own_variables():
    async def look(ctx):
        await asyncio.sleep(0)
        seen = LABEL.get()
        LABEL.set(f"stage of {seen}")
        return {"seen": seen}

    graph = Pipeline().with_stage("a", look, K).with_stage("b", look, K, ["a"]).build()

    async def caller(name):
        LABEL.set(name)
        results = await graph.run()
        assert LABEL.get() == name
        return [results["a"].data["seen"], results["b"].data["seen"]]

    names = [f"caller {number}" for number in range(50)]
    assert await asyncio.gather(*map(caller, names)) == [[name, name] for name in names]


# --- what a stage hands over ---------------------------------------------------------------------------------


def given():
    return {"list": [1, [2]], "dict": {"deep": {"x": 1}}, "set": {1, 2}, "tuple": ([3],)}


TAMPERING = {
    "append": lambda data: data["list"].append(3),
    "setitem": lambda data: data.__setitem__("list", 0),
    "delete": lambda data: data.pop("list"),
    "deep list": lambda data: data["list"][1].append(3),
    "deep dict": lambda data: data["dict"]["deep"].update(x=2),
    "in place": lambda data: data["list"].__iadd__([1]),
    "sort": lambda data: data["list"].sort(),
    "set": lambda data: data["set"].add(3),
    "in a tuple": lambda data: data["tuple"][0].append(4),
    "clear": lambda data: data.clear(),
    "merge": lambda data: data.__ior__({"more": 1}),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("tamper", TAMPERING.values(), ids=TAMPERING)
async def test_dependants_and_callers_cannot_change_what_a_stage_handed_over(tamper):
    caught = []

    async def makes(ctx):
        return StageOutput.ok(given())

    async def tampers(ctx):
        with pytest.raises(ReadOnlyDataError):
            tamper(ctx.inputs.get_output("makes").data)
        caught.append(ctx.stage_name)

    async def reads(ctx):
        return thaw(ctx.inputs.get_output("makes").data)

    results = await (
        Pipeline()
        .with_stage("makes", makes, K)
        .with_stage("tampers", tampers, K, ["makes"])
        .with_stage("reads", reads, K, ["makes", "tampers"])
        .run()
    )
    assert caught == ["tampers"]
    with pytest.raises(ReadOnlyDataError):
        tamper(results["makes"].data)
    assert results["makes"].data == results["reads"].data == given()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "mine", [{}, {"x": 1}, {"x": 1, "y": "text", "z": None}], ids=["empty", "one", "several"]
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["mapping", "output"])
async def test_flat_data_is_copied_and_read_only_too(mine, wrapped):
    """Nothing in it can hold anything, which the kernel has a short way for."""
    mine, before = dict(mine), dict(mine)

    async def makes(ctx):
        return StageOutput.ok(mine) if wrapped else mine

    async def tampers(ctx):
        with pytest.raises(ReadOnlyDataError):
            ctx.inputs.get_output("makes").data["more"] = 1
        mine["later"] = 2

    results = (
        await Pipeline().with_stage("makes", makes, K).with_stage("tampers", tampers, K, ["makes"]).run()
    )
    assert results["makes"].data == before
    assert mine == {**before, "later": 2}
    for attack in (
        lambda data: data.update(x=2),
        lambda data: data.setdefault("new", 1),
        lambda data: data.clear(),
    ):
        with pytest.raises(ReadOnlyDataError):
            attack(results["makes"].data)
    assert results["makes"].data == before


@pytest.mark.asyncio
@pytest.mark.parametrize("wrapped", [False, True], ids=["mapping", "output"])
async def test_the_stages_own_objects_stay_its_own(wrapped):
    mine = given()

    async def makes(ctx):
        return StageOutput.ok(mine) if wrapped else mine

    async def waits(ctx):
        mine["list"].append("later")
        mine["more"] = True

    results = await Pipeline().with_stage("makes", makes, K).with_stage("waits", waits, K, ["makes"]).run()
    assert results["makes"].data == given()
    assert type(mine) is dict
    assert type(mine["list"]) is list
    assert mine["list"] == [1, [2], "later"]


@pytest.mark.asyncio
async def test_typed_values_are_read_only_and_the_stages_own_objects_stay_its_own():
    mine = [[1], [2]]

    @stage
    async def makes() -> list[list[int]]:
        return mine

    @stage
    async def uses(value: list[list[int]] = use(makes)) -> int:
        with pytest.raises(ReadOnlyDataError):
            value[0].append(5)
        mine[0].append(6)
        return len(value[0])

    results = await Pipeline.from_stages(makes, uses).run()
    assert results.value(uses) == 1
    assert results.value(makes) == [[1], [2]]
    assert mine == [[1, 6], [2]]


@pytest.mark.asyncio
async def test_a_large_output_is_frozen_in_slices(sink):
    """Others get a turn for every 20,000 elements or so between what the stage returned and its end."""
    turns = returned = completed = 0

    async def counts():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def makes(ctx):
        nonlocal returned
        rows = [[number] for number in range(200_000)]
        await asyncio.sleep(0)
        returned = turns
        return {"rows": rows}

    def hears(event):
        nonlocal completed
        if event.type == "stage.makes.completed":
            completed = turns

    sink = EventRecorder(hears)
    counting = asyncio.create_task(counts())
    results = await Pipeline().with_stage("makes", makes, K).run(sink=sink)
    counting.cancel()
    await asyncio.wait([counting])
    assert completed - returned >= 9
    with pytest.raises(ReadOnlyDataError):
        results["makes"].data["rows"][-1].append(1)


# --- what the caller hands over --------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "tamper",
    [
        lambda data: data.__setitem__("tone", "rude"),
        lambda data: data.update(tone="rude"),
        lambda data: data["tags"].append("rude"),
        lambda data: data["nested"]["by"].clear(),
        lambda data: data.clear(),
    ],
    ids=["set", "update", "list", "nested", "clear"],
)
@pytest.mark.parametrize("given", ["data=", "a context", "both"])
async def test_the_runs_data_is_read_only_for_stages(tamper, given):
    mine = {"tone": "calm", "tags": ["a"], "nested": {"by": {"x": 1}}}
    context = PipelineContext(data={"tone": "loud"} if given == "both" else mine)

    async def tampers(ctx):
        assert ctx.data["tone"] == "calm"
        with pytest.raises(ReadOnlyDataError):
            tamper(ctx.data)

    async def reads(ctx):
        return {"seen": ctx.data}

    pipeline = Pipeline().with_stage("tampers", tampers, K).with_stage("reads", reads, K, ["tampers"])
    graph = pipeline.build(interceptors=[])
    results = await graph.run(
        None if given == "data=" else context, data=None if given == "a context" else mine
    )
    assert (
        results["reads"].data["seen"] == mine == {"tone": "calm", "tags": ["a"], "nested": {"by": {"x": 1}}}
    )


@pytest.mark.asyncio
async def test_what_interceptors_note_is_not_the_runs_data_and_objects_are_shared():
    connection = object()

    class Notes(BaseInterceptor):
        name = "notes"

        async def before(self, stage_name, ctx):
            ctx.data["noted"] = True

    async def reads(ctx):
        assert ctx.data is ctx.data
        return {"keys": sorted(ctx.data), "same": ctx.data["db"] is connection}

    graph = Pipeline().with_stage("reads", reads, K).build(interceptors=[Notes()])
    results = await graph.run(data={"db": connection})
    assert results["reads"].data == {"keys": ["db"], "same": True}


def test_a_context_of_no_run_has_no_data():
    snapshot = ContextSnapshot()
    ctx = StageContext(snapshot, StageInputs(snapshot), "a", PipelineTimer())
    assert ctx.data == {}
    with pytest.raises(ReadOnlyDataError):
        ctx.data["x"] = 1


# --- runs beside each other ----------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.timeout(30)
async def test_hundred_runs_of_one_graph_each_keep_their_tenant():
    """What could get from one run into another: ids, inputs, outputs, instances, data, ports, events."""
    ended: list[tuple[str, int]] = []
    chains: list[tuple[int, int]] = []

    class Counts:
        def __init__(self):
            self.calls = 0

        async def execute(self, ctx):
            self.calls += 1
            await asyncio.sleep(0)
            return {"calls": self.calls, "org": ctx.snapshot.org_id.int, "text": ctx.input_text}

    async def reads(ctx: StageContext):
        number = ctx.snapshot.org_id.int
        for _ in range(number % 4):
            await asyncio.sleep(0)
        assert ctx.inputs.require_from("counts", "org") == number
        assert ctx.inputs.ports == f"ports of {number}"
        assert LABEL.get() == f"caller {number}"

        async def cleanup():
            ended.append(("cleanup", number))

        ctx.register_cleanup(cleanup)
        ctx.try_emit_event("own", {"number": number})
        return {"org": number, "text": ctx.input_text, "list": [number]}

    class Watches(BaseInterceptor):
        name = "watches"

        async def before(self, stage_name, ctx):
            chains.append((ctx.org_id.int, ctx.data["number"]))
            ctx.data["number"] = -1  # stays within this attempt of this stage

    graph = (
        Pipeline()
        .with_stage("counts", Counts, K)
        .with_stage("reads", reads, K, ["counts"])
        .with_stage(
            "last", reads, K, ["reads", "counts"], when=lambda inputs: inputs.snapshot.org_id.int % 2 == 0
        )
        .build(interceptors=[Watches()])
    )

    async def one(number):
        LABEL.set(f"caller {number}")
        sink = EventRecorder()
        snapshot = ContextSnapshot(RunIdentity(org_id=UUID(int=number)), input_text=f"text {number}")
        context = PipelineContext.from_snapshot(snapshot, data={"number": number})
        results = await graph.run(context, sink=sink, ports=f"ports of {number}")
        sink.assert_paired(stages=["counts", "reads", "last"], end="completed")
        assert {event.data["org_id"] for event in sink} == {str(UUID(int=number))}
        assert {event.data["number"] for event in sink if event.type == "own"} == {number}
        assert context.data == {"number": number}
        return results

    all_results = await asyncio.gather(*map(one, range(100)))
    assert len({results.run_id for results in all_results}) == 100
    for number, results in enumerate(all_results):
        assert results["counts"].data == {"calls": 1, "org": number, "text": f"text {number}"}
        assert results["reads"].data == {"org": number, "text": f"text {number}", "list": [number]}
        assert results["last"].status == ("ok" if number % 2 == 0 else "skip")
    assert all(org == number for org, number in chains)
    assert sorted(ended) == sorted(
        ("cleanup", number) for number in range(100) for _ in range(2 - number % 2)
    )


@pytest.mark.asyncio
async def test_one_run_that_fails_or_is_cancelled_leaves_the_others_alone():
    async def does(ctx):
        await asyncio.sleep(0)
        if ctx.input_text == "fail":
            raise ValueError
        if ctx.input_text == "cancel":
            return StageOutput.cancel("done here")
        for _ in range(5):
            await asyncio.sleep(0)
        return {"text": ctx.input_text}

    graph = Pipeline().with_stage("does", does, K).build()
    texts = [("fail", "cancel", "go on")[number % 3] for number in range(60)]
    all_results = await asyncio.gather(*(graph.run(input_text=text, raise_errors=False) for text in texts))
    ways = {
        "fail": ("fail", "StageExecutionError"),
        "cancel": ("cancel", "PipelineCancelled"),
        "go on": ("ok", "NoneType"),
    }
    for text, results in zip(texts, all_results, strict=True):
        assert (str(results["does"].status), type(results.error).__name__) == ways[text]


@pytest.mark.asyncio
async def test_an_instance_that_is_a_stage_is_shared_and_a_class_is_not():
    class Counts:
        def __init__(self, start=0):
            self.calls = start

        async def execute(self, ctx):
            self.calls += 1
            return {"calls": self.calls}

    graph = (
        Pipeline()
        .with_stage("class", Counts, K, config={"start": 10})
        .with_stage("instance", Counts(), K)
        .build()
    )
    both = [await graph.run() for _ in range(2)]
    assert [results["class"].data["calls"] for results in both] == [11, 11]
    assert [results["instance"].data["calls"] for results in both] == [1, 2]
