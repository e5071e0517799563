"""Typed function stages: what is read off the signature, what is checked, and what values become."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict

import pytest
from pydantic import BaseModel
from stageflow import (
    BaseInterceptor,
    InterceptorResult,
    Pipeline,
    StageContext,
    StageflowError,
    StageKind,
    StageOutput,
    stage,
    use,
)
from stageflow.errors import (
    ConfigurationError,
    MissingInputError,
    PipelineValidationError,
    StageContractError,
)
from stageflow.stages.annotations import accepts, assignable, shown

K = StageKind.TRANSFORM


@dataclass(frozen=True)
class Greeting:
    text: str
    to: str = "you"


class Shout(BaseModel):
    text: str
    loudness: int = 1


class Plain(TypedDict):
    text: str


@stage(kind=StageKind.TRANSFORM)
async def greet(ctx: StageContext) -> Greeting:
    return Greeting(f"Hello, {ctx.input_text}", to=ctx.input_text or "")


@stage(kind=StageKind.AGENT)
async def shout(ctx: StageContext, greeting: Greeting = use(greet)) -> Shout:
    return Shout(text=greeting.text.upper(), loudness=3)


def codes(pipeline: Pipeline) -> list[str]:
    with pytest.raises(PipelineValidationError) as caught:
        pipeline.build()
    return [problem.code for problem in caught.value.problems]


# --- the way of a value -------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_edges_kinds_and_values_are_read_off_the_signature():
    pipeline = Pipeline.from_stages(greet, shout, name="greeting")
    assert pipeline.stages["shout"].dependencies == ("greet",)
    assert pipeline.stages["shout"].kind is StageKind.AGENT
    results = await pipeline.run(input_text="Ada")
    assert results.value(greet) == Greeting("Hello, Ada", "Ada")
    assert results.value(shout) == Shout(text="HELLO, ADA", loudness=3)
    assert results["greet"].data == {"text": "Hello, Ada", "to": "Ada"}
    assert results["shout"].data == {"text": "HELLO, ADA", "loudness": 3}


@pytest.mark.asyncio
async def test_stages_may_be_listed_in_any_order_and_without_a_context():
    @stage
    async def no_context(shouted: Shout = use(shout)) -> int:
        return shouted.loudness

    @stage
    async def nothing_at_all() -> None:
        return None

    results = await Pipeline.from_stages(no_context, nothing_at_all, shout, greet).run(input_text="x")
    assert results.value(no_context) == 3
    assert results["no_context"].data == {"value": 3}
    assert results.value(nothing_at_all) is None
    assert results["nothing_at_all"].data == {}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, 1),
        (float, 1),
        (str, "x"),
        (bytes, b"x"),
        (bool, True),
        (type(None), None),
        (list[int], [1, 2]),
        (dict[str, int], {"a": 1}),
        (set[int], {1}),
        (tuple[int, ...], (1, 2)),
        (Optional[int], None),  # noqa: UP045 - the old spelling is what is tested
        (int | str, "x"),
        (Literal["a", "b"], "a"),
        (Annotated[int, "years"], 3),
        (NewType("Id", int), 5),
        (Any, object),
        (Plain, {"text": "x"}),
        (Greeting, Greeting("x")),
        (Shout, Shout(text="x")),
    ],
    ids=str,
)
async def test_every_kind_of_annotation_passes_from_stage_to_stage(annotation, value):
    async def make(ctx):
        return value

    async def take(x):
        return x

    make.__annotations__ = {"return": annotation}
    take.__annotations__ = {"x": annotation, "return": annotation}
    source = stage(make)
    take.__defaults__ = (use(source),)
    sink = stage(take)
    results = await Pipeline.from_stages(source, sink).run()
    assert results.value(sink) == value


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (list[int], [1, 2]),
        (list[Greeting], [Greeting("a")]),
        (set[int], {1}),
        (tuple[int, str], (1, "a")),
        (dict[str, int], {"a": 1, "b": 2}),
        (int, 3),
        (Greeting, {"text": "x", "to": "y"}),
        (Shout, {"text": "x", "loudness": 2}),
    ],
    ids=str,
)
async def test_a_value_is_rebuilt_from_data_that_somebody_else_put_in_the_stages_place(annotation, value):
    """An interceptor (a cache, a fallback) gives data; the typed consumer sees a value of the promised type."""

    class Cached(BaseInterceptor):
        async def before(self, stage_name, ctx):
            if stage_name != "make":
                return None
            return InterceptorResult(
                stage_ran=False, result=value if isinstance(value, dict) else {"value": value}
            )

    async def make(ctx):
        raise AssertionError("it is cached")

    async def take(x):
        return {"type": type(x).__mro__[-2].__name__, "equal": x == expected}

    expected = value if not isinstance(value, dict) or annotation is dict[str, int] else annotation(**value)
    make.__annotations__ = {"return": annotation}
    take.__annotations__ = {"x": annotation, "return": dict[str, Any]}
    source = stage(make)
    take.__defaults__ = (use(source),)
    results = await Pipeline.from_stages(source, stage(take)).build(interceptors=[Cached()]).run()
    assert results["take"].data["equal"]


@pytest.mark.asyncio
async def test_a_function_may_return_an_output_instead():
    @stage
    async def either(ctx: StageContext) -> Greeting | StageOutput:
        return StageOutput.ok(text="raw", to="me")

    @stage
    async def take(greeting: Greeting = use(either)) -> str:
        return greeting.text + greeting.to

    results = await Pipeline.from_stages(either, take).run()
    assert results.value(take) == "rawme"


@pytest.mark.asyncio
async def test_data_that_does_not_make_the_promised_type_fails_the_reader():
    @stage
    async def either(ctx: StageContext) -> Greeting | StageOutput:
        return StageOutput.ok(txt="misspelt")

    @stage
    async def take(greeting: Greeting = use(either)) -> str:
        return greeting.text

    results = await Pipeline.from_stages(either, take).run(raise_errors=False)
    assert isinstance(results.error.original, StageContractError)


@pytest.mark.asyncio
async def test_a_broken_promise_fails_the_stage():
    @stage
    async def liar(ctx: StageContext) -> Greeting:
        return "hello"  # type: ignore[return-value]

    results = await Pipeline.from_stages(liar).run(raise_errors=False)
    assert isinstance(results.error.original, StageContractError)
    assert "Greeting" in str(results.error.original)


@pytest.mark.asyncio
async def test_values_are_read_only_for_everybody_who_uses_them():
    @stage
    async def make(ctx: StageContext) -> dict[str, list[int]]:
        return {"numbers": [1]}

    @stage
    async def spoil(d: dict[str, list[int]] = use(make)) -> None:
        d["numbers"].append(2)

    results = await Pipeline.from_stages(make, spoil).run(raise_errors=False)
    assert results.error.original.code == "SF-RUN-READ-ONLY"
    assert results.value(make) == {"numbers": [1]}


@pytest.mark.asyncio
async def test_values_of_stages_that_left_none():
    @stage
    async def skips(ctx: StageContext) -> int | StageOutput:
        return StageOutput.skip("no")

    results = await Pipeline.from_stages(skips).run()
    with pytest.raises(MissingInputError):
        results.value(skips)
    with pytest.raises(KeyError):
        results.value(greet)


def test_options_of_the_decorator_reach_the_pipeline():
    from stageflow import RetryPolicy

    policy = RetryPolicy(2)

    @stage(
        kind=StageKind.WORK,
        name="other name",
        timeout=3,
        retry=policy,
        conditional=True,
        when=bool,
        executor="inline",
    )
    async def body(ctx: StageContext) -> None: ...

    spec = Pipeline.from_stages(body).stages["other name"]
    assert (spec.timeout, spec.retry, spec.conditional, spec.when) == (3, policy, True, bool)
    assert spec.executor == "inline"
    assert body.name == "other name"


# --- what is wrong is wrong at build ------------------------------------------------------------------------------


def test_a_wrong_annotation_is_an_error_at_build():
    @stage
    async def wrong(greeting: Shout = use(greet)) -> str:
        return greeting.text

    with pytest.raises(PipelineValidationError) as caught:
        Pipeline.from_stages(greet, wrong).build()
    (problem,) = caught.value.problems
    assert problem.code == caught.value.code == "SF-BUILD-TYPE"
    assert problem.stages == ("wrong", "greet")
    assert "Shout" in problem.message
    assert "Greeting" in problem.message


def test_a_default_of_another_type_is_an_error_at_build():
    @stage
    async def wrong(greeting: Greeting = use(greet, default=3)) -> str:  # type: ignore[assignment]
        return greeting.text

    assert codes(Pipeline.from_stages(greet, wrong)) == ["SF-BUILD-TYPE"]


def test_all_problems_of_all_signatures_are_reported_at_once():
    @stage
    async def wrong(a: int = use(greet), b: str = use(greet)) -> str:
        return ""

    @stage
    async def unfilled(ctx: StageContext, more) -> str:
        return ""

    assert sorted(codes(Pipeline.from_stages(greet, wrong, unfilled))) == [
        "SF-BUILD-SIGNATURE",
        "SF-BUILD-TYPE",
        "SF-BUILD-TYPE",
    ]


def test_annotations_that_do_not_resolve_are_an_error_at_build():
    @stage
    async def wrong(ctx: StageContext) -> NoSuchType:  # noqa: F821
        ...

    assert codes(Pipeline.from_stages(wrong)) == ["SF-BUILD-ANNOTATION"]


def test_a_used_stage_that_is_not_in_the_pipeline_is_an_error_at_build():
    assert codes(Pipeline.from_stages(shout)) == ["SF-BUILD-UNKNOWN-DEPENDENCY"]


def test_a_used_stage_that_is_no_dependency_is_an_error_at_build():
    """Added by name, without the dependency that its signature needs: it could never run."""
    pipeline = Pipeline().with_stage("greet", greet, K).with_stage("shout", shout, K)
    with pytest.raises(PipelineValidationError):
        pipeline.build()


def test_outputs_inside_a_container_are_no_union_with_an_output():
    @stage
    async def make(ctx: StageContext) -> dict[str, StageOutput]:
        return {}

    @stage
    async def take(outputs: dict[str, StageOutput] = use(make)) -> int:
        return len(outputs)

    @stage
    async def wrong(outputs: str = use(make)) -> int:
        return 0

    Pipeline.from_stages(make, take).build()
    assert codes(Pipeline.from_stages(make, wrong)) == ["SF-BUILD-TYPE"]


@pytest.mark.asyncio
async def test_a_positional_only_context_works_or_is_refused_at_build():
    @stage
    async def positional(ctx: StageContext, /) -> str:
        return "ok"

    try:
        graph = Pipeline.from_stages(positional).build()
    except PipelineValidationError:
        return
    assert (await graph.run()).value(positional) == "ok"


@pytest.mark.parametrize(
    "signature", ["*args", "**kwargs", "ctx, *args", "ctx, **kwargs", "*, ctx", "ctx, /, *, more"]
)
@pytest.mark.asyncio
async def test_any_signature_works_or_is_refused_at_build(signature):
    scope: dict[str, Any] = {}
    exec(f"async def body({signature}): return {{'ok': True}}", scope)  # noqa: S102
    try:
        graph = Pipeline.from_stages(stage(scope["body"])).build()
    except StageflowError:
        return
    assert (await graph.run(raise_errors=False)).error is None


@pytest.mark.parametrize(
    "wrong",
    [5, None, "greet", lambda ctx: None, len, StageContext, object()],
    ids=lambda one: type(one).__name__,
)
def test_only_async_functions_are_stages(wrong):
    with pytest.raises(ConfigurationError):
        stage()(wrong)


def test_async_generators_are_no_stages():
    async def generator(ctx):
        yield 1

    with pytest.raises(ConfigurationError):
        stage(generator)


def test_a_partial_of_an_async_function_works_or_is_refused():
    async def body(number, ctx):
        return number

    try:
        made = stage(functools.partial(body, 1))
    except StageflowError:
        return
    assert made.name


def test_an_unknown_option_is_refused_where_it_is_written():
    with pytest.raises((StageflowError, TypeError)):

        @stage(timeuot=3)  # type: ignore[call-overload]
        async def body(ctx: StageContext) -> None: ...


@pytest.mark.parametrize("wrong", [None, 5, "greet", len], ids=repr)
def test_only_stages_can_be_used(wrong):
    with pytest.raises(ConfigurationError):
        use(wrong)


# --- the rules of types --------------------------------------------------------------------------------------------


class Named(Protocol):
    name: str


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (bool, int, True),
        (int, bool, False),
        (int, float, True),
        (int, complex, True),
        (float, int, False),
        (int, int | None, True),
        (int | None, int, False),
        (None, int | None, True),
        (int | str, str | int | None, True),
        (list[bool], list[int], True),
        (list[int], list[str], False),
        (list, list[int], True),
        (dict[str, int], dict[str, float], True),
        (dict[str, int], dict[str, str], False),
        (Literal["a"], Literal["a", "b"], True),
        (Literal["a", "c"], Literal["a", "b"], False),
        (Literal["a"], str, True),
        (Literal[1], str, False),
        (str, Literal["a"], False),
        (Annotated[int, 1], int, True),
        (int, Annotated[int, 1], True),
        (NewType("Id", int), int, True),
        (Any, int, True),
        (int, Any, True),
        (int, object, True),
        (Plain, Plain, True),
        (Plain, dict[str, Any], True),
        (dict[str, Any], Plain, False),
        (Plain, dict, True),
        (dict, Plain, False),
        (int, Plain, False),
        (Plain, int, False),
        (Greeting, Named, True),
        (Greeting, Shout, False),
        (tuple[int, str], tuple[int, str], True),
        (tuple[int, str], tuple[str, int], False),
        (tuple[int, int], tuple[int, ...], True),
        (type(None), int, False),
    ],
    ids=str,
)
def test_what_may_go_where(source, target, expected):
    assert assignable(source, target) is expected


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 1, True),
        (int, "1", False),
        (float, 1, True),
        (int | None, None, True),
        (list[int], [1], True),
        (list[int], (1,), False),
        (Literal["a"], "a", True),
        (Literal["a"], "b", False),
        (Plain, {"text": "x"}, True),
        (Plain, "x", False),
        (Named, Greeting("x"), True),
        (Any, 3.5, True),
        (object, 1, True),
        (type[Greeting], Greeting, True),
        (None, None, True),
        (None, 1, False),
    ],
    ids=str,
)
def test_what_is_taken_for_a_value_of_a_type(annotation, value, expected):
    assert accepts(annotation, value) is expected


def test_types_are_shown_as_an_author_writes_them():
    assert shown(int) == "int"
    assert shown(type(None)) == "None"
    assert shown(list[int]) == "list[int]"
    assert shown(Optional[int]) == "Optional[int]"  # noqa: UP045 - the old spelling is what is tested
    assert shown(Greeting) == "Greeting"
