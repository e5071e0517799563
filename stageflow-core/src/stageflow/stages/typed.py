"""Stages as typed functions: ``@stage`` makes one, ``use(...)`` declares what it needs of another.

```python
from dataclasses import dataclass

from stageflow import Pipeline, StageContext, StageKind, stage, use


@dataclass(frozen=True)
class Greeting:
    text: str


@stage(kind=StageKind.TRANSFORM)
async def greet(ctx: StageContext) -> Greeting:
    return Greeting(f"Hello, {ctx.input_text}")


@stage(kind=StageKind.TRANSFORM)
async def shout(ctx: StageContext, greeting: Greeting = use(greet)) -> str:
    return greeting.text.upper()


async def main() -> None:
    results = await Pipeline.from_stages(greet, shout).run(input_text="Ada")
    print(results.value(shout))


import asyncio

asyncio.run(main())
#> HELLO, ADA
```
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final, get_origin, get_type_hints, overload

from stageflow.context.frozen import freeze
from stageflow.errors import BuildProblem, ConfigurationError, MissingInputError, StageContractError
from stageflow.stages.annotations import accepts, assignable, shown, without
from stageflow.stages.output import NO_VALUE, StageOutput, form_of_value, output_of
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind, StageStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from stageflow.protocols import Executor
    from stageflow.stages.context import StageContext
    from stageflow.stages.effect import Effect
    from stageflow.stages.inputs import StageInputs
    from stageflow.stages.retry import RetryPolicy
    from stageflow.stages.stream_edge import StreamEdge

__all__ = ["StageDef", "stage", "use"]

_BY_NAME = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
D = TypeVar("D")


class _Use:
    """What ``use`` really returns: the default of a parameter, read off the signature."""

    __slots__ = ("default", "stage")

    def __init__(self, stage: StageDef[Any], default: Any) -> None:
        self.stage = stage
        self.default = default

    def __repr__(self) -> str:
        return f"use({self.stage.name})"


@overload
def use(stage: StageDef[T]) -> T: ...


@overload
def use(stage: StageDef[T], *, default: D) -> T | D: ...


def use(stage: StageDef[Any], *, default: Any = NO_VALUE) -> Any:
    """Declare, as the default of a parameter, that a stage needs the value of another.

    Args:
        stage: The stage whose value is wanted; it becomes a dependency.
        default: What to take when that stage has no value. Without a default, the consumer is skipped then.

    Raises:
        ConfigurationError: *stage* was not made with ``@stage``.
    """
    if not isinstance(stage, StageDef):  # pyright: ignore[reportUnnecessaryIsInstance]
        msg = f"use() takes a stage made with @stage, not {stage!r}"
        raise ConfigurationError(msg, fix="Decorate the function with @stage, or list the dependency by name")
    return _Use(stage, default)


@final
class StageDef(Generic[T_co]):
    """A stage made of an async function; ``@stage`` makes them.

    Attributes:
        function: The function.
        name: The stage's name: the function's, unless another was given.
        kind: What the stage is for.
        uses: The stages it needs, by parameter.

    ```python
    from stageflow import StageDef, StageKind, stage


    @stage(kind=StageKind.ENRICH)
    async def greet() -> str:
        return "hi"


    made: StageDef[str] = greet
    print(made.name, made.kind)
    #> greet enrich
    ```
    """

    __slots__ = (
        "_by_position",
        "_context",
        "_hints",
        "_options",
        "_returns",
        "function",
        "kind",
        "name",
        "uses",
    )

    def __init__(
        self, function: Callable[..., Awaitable[object]], name: str, kind: StageKind, options: dict[str, Any]
    ) -> None:
        self.name = name
        self.kind = kind
        self.function = function
        self._options = options
        self._hints: dict[str, Any] | None = None
        self._returns: Any = None  # the class that nearly all values have, if there is one
        parameters = inspect.signature(function).parameters
        self.uses: dict[str, _Use] = {
            key: parameter.default
            for key, parameter in parameters.items()
            if isinstance(parameter.default, _Use)
        }
        # The context is the first parameter without a default, if the function wants it at all.
        self._context = next(
            (key for key, one in parameters.items() if one.default is one.empty and one.kind in _BY_NAME),
            None,
        )
        self._by_position = (
            self._context is not None
            and next(iter(parameters)) == self._context
            and parameters[self._context].kind is not inspect.Parameter.KEYWORD_ONLY
        )

    @property
    def needs(self) -> tuple[frozenset[str], frozenset[str]]:
        """The stages without whose value it cannot run, and those it has a default for."""
        needed = {one.stage.name for one in self.uses.values() if one.default is NO_VALUE}
        return frozenset(needed), frozenset(one.stage.name for one in self.uses.values()) - needed

    def spec(self) -> StageSpec:
        """Return the stage as a pipeline describes it; its dependencies are those it uses."""
        options = dict(self._options)
        after: list[str] = options.pop("after")
        used = [one.stage.name for one in self.uses.values()]
        return StageSpec(
            self.name,
            self,
            self.kind,
            dict.fromkeys([*used, *after]),
            **options,
        )

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Call the function with the values it uses, and wrap up what it returns."""
        arguments = {
            key: used.stage.read(ctx.inputs.get_output(used.stage.name), used.default)
            for key, used in self.uses.items()
        }
        if self._by_position:
            return self._wrap(await self.function(ctx, **arguments))
        if self._context is not None:
            arguments[self._context] = ctx
        return self._wrap(await self.function(**arguments))

    def read(self, output: StageOutput | None, default: Any = NO_VALUE) -> T_co:
        """Return the typed value in *output*, or *default* if it holds none.

        Raises:
            MissingInputError: There is no value and no default.
        """
        if output is None or output.status is not StageStatus.OK:
            if default is NO_VALUE:
                raise MissingInputError(self.name, None)
            return cast("T_co", default)
        if output.value is not NO_VALUE:
            return cast("T_co", output.value)
        return self._from_data(output.data)

    def _wrap(self, value: object) -> StageOutput:
        if isinstance(value, StageOutput):
            return value
        wanted = self.hints().get("return", Any)
        if value.__class__ is not self._returns and not accepts(wanted, value):
            what = f"It returned {type(value).__name__}, but its signature promises {shown(wanted)}"
            raise StageContractError(
                self.name, what, fix="Return the promised type, or correct the annotation"
            )
        value = freeze(value)
        return output_of(form_of_value(value), _wire_form(value))

    def _from_data(self, data: Mapping[str, Any]) -> T_co:
        """Rebuild the typed value from plain data, as after a stage that returned a ``StageOutput``."""
        wanted = without(self.hints().get("return", Any), StageOutput)
        plain: object = data["value"] if set(data) == {"value"} and not _has_field(wanted, "value") else data
        if accepts(wanted, plain):
            return cast("T_co", plain)
        from pydantic import TypeAdapter, ValidationError

        try:
            return cast(
                "T_co", TypeAdapter[Any](wanted).validate_python(dict(data) if plain is data else plain)
            )
        except ValidationError as exc:
            what = f"Its data does not make a {shown(wanted)}: {exc}"
            raise StageContractError(self.name, what, fix="Correct what the stage returns") from exc

    def hints(self) -> dict[str, Any]:
        """Return the function's resolved annotations.

        Raises:
            NameError: An annotation names something that is not defined in the function's module.
        """
        if self._hints is None:
            self._hints = get_type_hints(self.function, include_extras=True)
            wanted = self._hints.get("return")
            self._returns = get_origin(wanted) or wanted
        return self._hints

    def problems(self, dependencies: Iterable[str]) -> list[BuildProblem]:
        """Return what is wrong with the function's signature, for the build to report.

        Args:
            dependencies: What the stage depends on in the pipeline.
        """
        missing = dict.fromkeys(
            used.stage.name for used in self.uses.values() if used.stage.name not in dependencies
        )
        if missing:
            names = ", ".join(map(repr, missing))
            message = f"Stage {self.name!r} uses {names}, but does not depend on it in this pipeline"
            fix = (
                f"Add dependencies=[{names}], or add the stage by Pipeline.from_stages, which reads them off"
            )
            return [BuildProblem("SF-BUILD-USE", message, fix=fix, stages=[self.name, *missing])]
        try:
            hints = self.hints()
        except (NameError, TypeError, AttributeError) as exc:
            message = f"The annotations of stage {self.name!r} do not resolve: {exc}"
            fix = "Correct the name, or import the type at module level (not under TYPE_CHECKING, not in a function)"
            return [BuildProblem("SF-BUILD-ANNOTATION", message, fix=fix, stages=[self.name])]
        found: list[BuildProblem] = []
        for key, parameter in inspect.signature(self.function).parameters.items():
            if key in self.uses:
                found += self._use_problems(key, hints)
            elif parameter.kind in _VARIADIC:
                continue
            elif key != self._context and parameter.default is inspect.Parameter.empty:
                message = f"Stage {self.name!r} has a parameter {key!r} that nothing fills"
                fix = f"Give it a default: {key} = use(some_stage)"
                found.append(BuildProblem("SF-BUILD-SIGNATURE", message, fix=fix, stages=[self.name]))
        return found

    def _use_problems(self, key: str, hints: Mapping[str, Any]) -> list[BuildProblem]:
        used = self.uses[key]
        wanted = hints.get(key, Any)
        try:
            given = used.stage.hints().get("return", Any)
        except (NameError, TypeError, AttributeError):
            return []  # reported once, for the stage that is used
        given = without(given, StageOutput)
        problems: list[BuildProblem] = []
        if given is not StageOutput and not assignable(given, wanted):
            message = f"Stage {self.name!r} wants {key}: {shown(wanted)}, but {used.stage.name!r} gives {shown(given)}"
            fix = f"Annotate {key!r} as {shown(given)}, or let {used.stage.name!r} return {shown(wanted)}"
            stages = [self.name, used.stage.name]
            problems.append(BuildProblem("SF-BUILD-TYPE", message, fix=fix, stages=stages))
        if used.default is not NO_VALUE and not accepts(wanted, used.default):
            message = f"Stage {self.name!r} wants {key}: {shown(wanted)}, but its default is {used.default!r}"
            fix = f"Annotate {key!r} as {shown(wanted)} | {shown(type(used.default))}, or change the default"
            problems.append(BuildProblem("SF-BUILD-TYPE", message, fix=fix, stages=[self.name]))
        return problems

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by reference, as functions do: the stage is in its function's place in the module."""
        function: Any = getattr(self.function, "func", self.function)  # a partial has no name of its own
        module, qualname = function.__module__, function.__qualname__
        if _found(module, qualname) is not self:
            from pickle import PicklingError

            msg = f"Can't pickle {self!r}: it's not found as {module}.{qualname}"
            raise PicklingError(msg)
        return _found, (module, qualname)

    def __repr__(self) -> str:
        return f"<stage {self.name!r} ({self.kind})>"


def _found(module: str, qualname: str) -> Any:
    """Return what stands at a place in a module; None if nothing does, as inside of functions."""
    found: Any = import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


@overload
def stage(function: Callable[..., Awaitable[T | StageOutput]], /) -> StageDef[T]: ...


@overload
def stage(
    *,
    kind: StageKind = ...,
    name: str | None = ...,
    conditional: bool = ...,
    when: Callable[[StageInputs], bool] | None = ...,
    timeout: float | None = ...,
    retry: RetryPolicy | None = ...,
    executor: Executor | str | None = ...,
    route: str | Iterable[str] = ...,
    after: Iterable[StageDef[Any] | str] = ...,
    limit: Any = ...,
    effect: Effect | None = ...,
    gates_effects: bool = ...,
    gated: bool = ...,
    streams: Iterable[StageDef[Any] | StreamEdge | str] = ...,
    restartable: bool = ...,
) -> Callable[[Callable[..., Awaitable[T | StageOutput]]], StageDef[T]]: ...


def stage(
    function: Callable[..., Awaitable[Any]] | None = None,
    /,
    *,
    kind: StageKind = StageKind.TRANSFORM,
    name: str | None = None,
    after: Iterable[StageDef[Any] | str] = (),
    conditional: bool = False,
    when: Callable[[StageInputs], bool] | None = None,
    timeout: float | None = None,
    retry: RetryPolicy | None = None,
    executor: Executor | str | None = None,
    route: str | Iterable[str] = (),
    limit: Any = None,
    effect: Effect | None = None,
    gates_effects: bool = False,
    gated: bool = True,
    streams: Iterable[StageDef[Any] | StreamEdge | str] = (),
    restartable: bool = False,
) -> Any:
    """Make a stage of an async function.

    The function takes the context (or nothing) and parameters that default to ``use(other_stage)``. What it
    returns is the stage's value: a model or a dataclass becomes data by its fields, a mapping as it is, anything
    else under the key ``"value"``. It may also return a ``StageOutput``.

    Args:
        function: The function, when the decorator is used bare.
        kind: What the stage is for.
        name: The stage's name; the function's by default.
        after: Stages to wait for without using their values; ``when`` and the context may read them.
        conditional: As ``StageSpec`` takes it, like all that follow.
        when: See there.
        timeout: See there.
        retry: See there.
        executor: See there.
        route: See there.
        limit: See there.
        effect: See there.
        gates_effects: See there.
        gated: See there.
        streams: See there; stages made with ``@stage`` stand for their names.
        restartable: See there.

    Raises:
        ConfigurationError: What is decorated is not an async function.
    """
    options: dict[str, Any] = {
        "after": [one if isinstance(one, str) else one.name for one in after],
        "conditional": conditional,
        "when": when,
        "timeout": timeout,
        "retry": retry,
        "executor": executor,
        "route": route,
        "limit": limit,
        "effect": effect,
        "gates_effects": gates_effects,
        "gated": gated,
        "streams": [one.name if isinstance(one, StageDef) else one for one in streams],
        "restartable": restartable,
    }

    def decorate(function: Callable[..., Awaitable[Any]]) -> StageDef[Any]:
        if not inspect.iscoroutinefunction(function):
            msg = f"@stage takes an async function, not {function!r}"
            raise ConfigurationError(
                msg, fix="Write 'async def', and await run_in_thread(...) for blocking work"
            )
        named = getattr(function, "func", function)  # a partial has no name of its own
        return StageDef(function, named.__name__ if name is None else name, kind, options)

    return decorate if function is None else decorate(function)


def _wire_form(value: Any) -> Mapping[str, Any]:
    """Return a value as the data that other stages, events and stores see."""
    if value is None:
        return {}
    plain = _plain(value)
    return cast("Mapping[str, Any]", plain) if isinstance(plain, Mapping) else {"value": plain}


def _plain(value: Any) -> Any:
    """Return models and dataclasses, also those within containers, by their fields; other values as they are."""
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    whole: Any = value  # not narrowed: what it holds may be anything
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in whole.items()} if any(map(_structured, whole.values())) else whole
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in whole] if any(map(_structured, whole)) else whole
    return whole


def _structured(value: object) -> bool:
    """Say whether a value might hold models or dataclasses; most are numbers and texts, and are left alone."""
    return not isinstance(value, (str, int, float, bytes, type(None)))


def _has_field(annotation: Any, name: str) -> bool:
    return name in getattr(annotation, "model_fields", ()) or name in getattr(
        annotation, "__dataclass_fields__", ()
    )
