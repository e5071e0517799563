"""``PipelineBuilder``, which checks every step, and ``PipelineSpec``, what it is built of."""

from __future__ import annotations

import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, final

from stageflow.context.checks import check_name, items_of, require_mapping, wrong_type, wrong_value
from stageflow.context.record import Record
from stageflow.errors import BuildProblem, close_matches
from stageflow.pipeline.builder import Pipeline
from stageflow.runtime.validation import find_problems, raise_problems
from stageflow.stages.spec import StageSpec
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.events.wide import WideEventEmitter
    from stageflow.runtime.graph import StageGraph

__all__ = ["PipelineBuilder", "PipelineSpec", "kind_of"]

_UNKNOWN = "SF-BUILD-UNKNOWN-DEPENDENCY"
_SOUND_ALONE = frozenset({"SF-BUILD-NAME", "SF-BUILD-SELF-DEPENDENCY"})
_NONE: Mapping[str, Any] = MappingProxyType({})
_growing = threading.Lock()


def kind_of(runner: object) -> StageKind:
    """Return what a runner says it is for, or else ``StageKind.TRANSFORM``.

    ```python
    from stageflow import StageKind
    from stageflow.pipeline.builders import kind_of


    class Check:
        kind = StageKind.GUARD


    print(kind_of(Check), kind_of(Check()), kind_of(print))
    #> guard guard transform
    ```
    """
    kind = getattr(runner, "kind", None)
    return kind if isinstance(kind, StageKind) else StageKind.TRANSFORM


@final
class PipelineSpec(Record):
    """One stage as ``PipelineBuilder`` describes it. Immutable.

    Args:
        name: The stage's name.
        runner: A class with ``execute``, an instance of one, or an async callable.
        dependencies: The stages it waits for and may read.
        inputs: The keys it reads; for readers, nothing checks them.
        outputs: The keys it leaves; for readers, nothing checks them.
        conditional: Skip the stage when one of its dependencies was skipped.
        args: Keyword arguments for the runner's constructor.

    Raises:
        PipelineValidationError: The name is blank, or the stage depends on itself. Also a ``ValueError``.
        ArgumentTypeError: A collection is none.

    ```python
    from stageflow.pipeline.builders import PipelineSpec

    print(PipelineSpec("shout", print, dependencies=["greet"]).dependencies)
    #> ('greet',)
    ```
    """

    __slots__ = ("args", "conditional", "dependencies", "inputs", "name", "outputs", "runner")
    __match_args__ = ("name", "runner", "dependencies", "inputs", "outputs", "conditional", "args")
    name: str
    runner: Any
    dependencies: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    conditional: bool
    args: Mapping[str, Any]

    def __init__(
        self,
        name: str,
        runner: Any,
        dependencies: Iterable[str] = (),
        inputs: Iterable[str] = (),
        outputs: Iterable[str] = (),
        conditional: bool = False,  # noqa: FBT001, FBT002 - the published signature is positional
        args: Mapping[str, Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "name", name)
        put(self, "runner", runner)
        put(self, "dependencies", _names("dependencies", dependencies))
        put(self, "inputs", _names("inputs", inputs))
        put(self, "outputs", _names("outputs", outputs))
        put(self, "conditional", bool(conditional))
        put(self, "args", dict(require_mapping("PipelineSpec", "args", args)) if args else _NONE)
        problems = [one for one in find_problems([self.stage_spec()]) if one.code in _SOUND_ALONE]
        raise_problems(problems, pipeline="")

    def stage_spec(self, **options: Any) -> StageSpec:
        """Return the same stage as a ``Pipeline`` describes it; *options* are further arguments of ``StageSpec``."""
        options.setdefault("kind", kind_of(self.runner))
        return StageSpec(
            self.name,
            self.runner,
            dependencies=self.dependencies,
            conditional=self.conditional,
            config=self.args,
            **options,
        )

    def __hash__(self) -> int:
        return hash((self.name, self.dependencies))


class _Entry(NamedTuple):
    number: int
    spec: PipelineSpec
    stage: StageSpec


@final
class PipelineBuilder:
    """A pipeline that is checked at every step, so stages are added after those they depend on. Immutable.

    ``Pipeline`` does the same, and reports everything at once when it is built.

    Args:
        name: What the pipeline is called in events and errors.
        stages: Stages to begin with, by name, in any order.

    Raises:
        CycleDetectedError: Stages to begin with wait for each other in a circle.
        PipelineValidationError: Anything else is wrong with them.

    ```python
    import asyncio

    from stageflow.errors import PipelineValidationError
    from stageflow.pipeline.builders import PipelineBuilder


    async def greet(ctx):
        return {"text": f"Hello, {ctx.input_text}"}


    async def shout(ctx):
        return {"text": ctx.inputs.require_from("greet", "text").upper()}


    builder = PipelineBuilder("greeting").with_stage("greet", greet)
    try:
        builder.with_stage("shout", shout, dependencies=["gret"])
    except PipelineValidationError as error:
        print(error.problems[0].fix)
        #> Did you mean 'greet'?
    graph = builder.with_stage("shout", shout, dependencies=["greet"]).build()
    print(asyncio.run(graph.run(input_text="Ada")).value("shout")["text"])
    #> HELLO, ADA
    ```
    """

    __slots__ = ("_count", "_entries", "name")

    def __init__(self, name: str = "pipeline", stages: Mapping[str, PipelineSpec] | None = None) -> None:
        check_name("PipelineBuilder", "name", name)
        self.name = name
        # As in Pipeline, builders that grew out of each other share what they have in common.
        self._entries: dict[str, _Entry] = {}
        for key, spec in require_mapping("PipelineBuilder", "stages", stages or {}).items():
            if not isinstance(spec, PipelineSpec):
                raise wrong_type("PipelineBuilder", "stages", "PipelineSpecs by name", spec)
            if key != spec.name:
                problem = f"has {spec.name!r} under another name"
                raise wrong_value("PipelineBuilder", "stages", problem, key)
            self._entries[key] = _Entry(len(self._entries), spec, spec.stage_spec())
        self._count = len(self._entries)
        if self._count:
            raise_problems(find_problems([entry.stage for entry in self._entries.values()]), pipeline=name)

    @property
    def stages(self) -> Mapping[str, PipelineSpec]:
        """The stages by name, in the order in which they were added."""
        return MappingProxyType({entry.spec.name: entry.spec for entry in self._seen()})

    def with_stage(
        self,
        name: str,
        runner: Any,
        dependencies: Iterable[str] | None = None,
        inputs: Iterable[str] | None = None,
        outputs: Iterable[str] | None = None,
        conditional: bool = False,  # noqa: FBT001, FBT002 - the published signature is positional
        args: Mapping[str, Any] | None = None,
        *,
        kind: StageKind | None = None,
        **options: Any,
    ) -> PipelineBuilder:
        """Return a builder with one more stage.

        Args:
            name: The stage's name.
            runner: See ``PipelineSpec``.
            dependencies: Stages that have been added before.
            inputs: See ``PipelineSpec``.
            outputs: See ``PipelineSpec``.
            conditional: Skip the stage when one of its dependencies was skipped.
            args: Keyword arguments for the runner's constructor.
            kind: What the stage is for; by default what the runner says, or TRANSFORM.
            **options: ``when``, ``timeout``, ``retry``, ``executor``, ``route``, ``limit``, ``effect``,
                ``gates_effects``, ``gated``, ``streams`` and ``restartable``, as for ``Pipeline``.

        Raises:
            PipelineValidationError: Something is wrong with the stage; ``problems`` lists all of it.
        """
        spec = PipelineSpec(name, runner, dependencies or (), inputs or (), outputs or (), conditional, args)
        if kind is not None:
            options["kind"] = kind
        return self._grown(spec, spec.stage_spec(**options))

    def compose(self, other: PipelineBuilder) -> PipelineBuilder:
        """Return a builder with the stages of both, called ``a+b``. Equal stages are taken once.

        Raises:
            PipelineValidationError: Different stages have the same name.
        """
        if not isinstance(other, PipelineBuilder):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("PipelineBuilder.compose", "other", "a PipelineBuilder", other)
        both = PipelineBuilder(f"{self.name}+{other.name}")
        entries = both._entries = {entry.spec.name: entry for entry in self._seen()}
        problems: list[BuildProblem] = []
        # Both are closed under their dependencies, so together they can neither miss a stage nor have a circle.
        for _, spec, stage in other._seen():
            known = entries.setdefault(spec.name, _Entry(len(entries), spec, stage))
            if (known.spec, known.stage) != (spec, stage):
                message = f"Both {self.name!r} and {other.name!r} have a stage {spec.name!r}, and they differ"
                fix = "Rename one of them"
                problems.append(BuildProblem("SF-BUILD-DUPLICATE", message, fix=fix, stages=[spec.name]))
        raise_problems(problems, pipeline=both.name)
        both._count = len(entries)
        return both

    def pipeline(self) -> Pipeline:
        """Return the same stages as a ``Pipeline``."""
        return Pipeline(self.name, {entry.stage.name: entry.stage for entry in self._seen()})

    def build(
        self,
        *,
        emit_stage_wide_events: bool = False,
        emit_pipeline_wide_event: bool = False,
        wide_event_emitter: WideEventEmitter | None = None,
        **options: Any,
    ) -> StageGraph:
        """Compile.

        Args:
            emit_stage_wide_events: Emit a ``stage.wide`` event for every stage.
            emit_pipeline_wide_event: Emit a ``pipeline.wide`` event for every run.
            wide_event_emitter: Makes these events.
            **options: What ``Pipeline.build`` takes.

        Raises:
            PipelineValidationError: There are no stages, or the options do not fit them.
        """
        if emit_stage_wide_events:
            options["emit_stage_wide_events"] = True
        if emit_pipeline_wide_event:
            options["emit_pipeline_wide_event"] = True
        if wide_event_emitter is not None:
            options["wide_event_emitter"] = wide_event_emitter
        return self.pipeline().build(**options)

    def get_stage(self, name: str) -> PipelineSpec | None:
        """Return a stage by its name, or None."""
        return self._entries[name].spec if self.has_stage(name) else None

    def has_stage(self, name: str) -> bool:
        """Say whether there is a stage of that name."""
        if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("PipelineBuilder", "name", "a str", name)
        entry = self._entries.get(name)
        return entry is not None and entry.number < self._count

    def stage_names(self) -> list[str]:
        """Return the names in an order in which every stage comes after those it depends on."""
        entries = self._seen()
        left = {one.spec.name: len(set(one.spec.dependencies)) for one in entries}
        dependants: dict[str, list[str]] = {name: [] for name in left}
        for one in entries:
            for dependency in set(one.spec.dependencies):
                dependants[dependency].append(one.spec.name)
        names = [name for name, count in left.items() if not count]
        for name in names:  # grows while it is read
            for dependant in dependants[name]:
                left[dependant] -= 1
                if not left[dependant]:
                    names.append(dependant)
        return names

    def _seen(self) -> list[_Entry]:
        return list(self._entries.values())[: self._count]

    def _grown(self, spec: PipelineSpec, stage: StageSpec) -> PipelineBuilder:
        raise_problems(self._problems(stage), pipeline=self.name)
        grown = PipelineBuilder(self.name)
        with _growing:
            entries = self._entries
            if len(entries) != self._count:  # somebody else has gone on from here
                entries = {entry.spec.name: entry for entry in self._seen()}
            entries[spec.name] = _Entry(self._count, spec, stage)
        grown._entries = entries
        grown._count = self._count + 1
        return grown

    def _problems(self, stage: StageSpec) -> list[BuildProblem]:
        """Return what is wrong with a stage that is to come next."""
        names = dict.fromkeys(stage.dependencies)
        # What it depends on is sound already: only what that is, not what it depends on in turn, matters here.
        known = [self._entries[name].stage for name in names if self.has_stage(name)]
        around = [StageSpec(one.name, one.runner, one.kind) for one in known if one.name != stage.name]
        found = find_problems([*around, stage])
        problems = [one for one in found if stage.name in one.stages and one.code != _UNKNOWN]
        if self.has_stage(stage.name):
            message, fix = f"There is a stage {stage.name!r} already", "Give this one another name"
            problems.append(BuildProblem("SF-BUILD-DUPLICATE", message, fix=fix, stages=[stage.name]))
        for name in names:
            if not self.has_stage(name):
                message = f"Stage {stage.name!r} depends on {name!r}, which has not been added"
                hint = close_matches(name, (one.spec.name for one in self._seen()))
                fix = hint or f"Add {name!r} first, then {stage.name!r}"
                problems.append(BuildProblem(_UNKNOWN, message, fix=fix, stages=[stage.name]))
        return problems

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<PipelineBuilder {self.name!r}: {self._count} stages>"


def _names(argument: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(items_of("PipelineSpec", argument, value, str))
