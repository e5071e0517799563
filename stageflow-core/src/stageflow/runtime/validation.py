"""Everything that can be known to be wrong with a pipeline before it runs, all at once, in linear time."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from stageflow.errors import BuildProblem, CycleDetectedError, PipelineValidationError, close_matches, shown
from stageflow.stages.effect import Effect
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stageflow.stages.spec import StageSpec

__all__ = ["find_cycles", "find_problems", "raise_problems", "validate"]

_MOST_HINTS = 10
_TOO_LONG = 1e300  # seconds; no int beyond has a float


def validate(specs: Sequence[StageSpec], *, pipeline: str, more: Iterable[BuildProblem] = ()) -> None:
    """Raise if anything is wrong.

    Args:
        specs: The stages.
        pipeline: The pipeline's name, for the message.
        more: Problems that the caller has found already.

    Raises:
        CycleDetectedError: The only problem is one cycle.
        PipelineValidationError: Anything else; ``problems`` lists it all.
    """
    raise_problems([*find_problems(specs), *more], pipeline=pipeline)


def raise_problems(problems: Sequence[BuildProblem], *, pipeline: str) -> None:
    """Raise what ``validate`` raises, if there are any *problems*."""
    if not problems:
        return
    if len(problems) == 1 and problems[0].code == "SF-BUILD-CYCLE":
        stages = problems[0].stages
        raise CycleDetectedError((*stages, stages[0]), problems=problems, pipeline=pipeline)
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    message = f"The pipeline does not build: {count}"
    raise PipelineValidationError(message, problems=problems, pipeline=pipeline)


def find_problems(specs: Sequence[StageSpec]) -> list[BuildProblem]:
    """Return everything that is wrong with *specs*."""
    if not specs:
        fix = "Add one: pipeline = pipeline.with_stage('name', runner, StageKind.TRANSFORM)"
        return [BuildProblem("SF-BUILD-EMPTY", "The pipeline has no stages", fix=fix)]
    problems: list[BuildProblem] = []
    by_name: dict[str, StageSpec] = {}
    in_order = True  # every stage comes after those that it depends on: so nobody waits in a circle
    for spec in specs:
        problems += _own_problems(spec)
        in_order = in_order and all(one in by_name for one in filter(_is_text, spec.dependencies))
        if not isinstance(spec.name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            continue
        if spec.name in by_name:
            message = f"Two stages are called {shown(spec.name)}"
            problems.append(
                BuildProblem("SF-BUILD-DUPLICATE", message, fix="Rename one of them", stages=[spec.name])
            )
        by_name.setdefault(spec.name, spec)
    hints = _hints(by_name)
    for spec in by_name.values():
        problems += _dependency_problems(spec, by_name, hints)
        if spec.streams:
            problems += _stream_problems(spec, by_name, hints)
        if spec.route and all(map(_is_text, spec.route)):
            problems += _route_problems(spec, by_name)
    for cycle in [] if in_order else find_cycles(_edges(by_name)):
        message = f"Stages wait for each other: {' -> '.join([*cycle, cycle[0]])}"
        fix = f"Remove one of these dependencies, for example {cycle[1]!r} from {cycle[0]!r}"
        problems.append(BuildProblem("SF-BUILD-CYCLE", message, fix=fix, stages=cycle))
    return problems


def _edges(known: Mapping[str, StageSpec]) -> dict[str, list[str]]:
    """Return, for every stage, which others it depends on, as far as these are known."""
    return {
        name: [one for one in filter(_is_text, spec.dependencies) if one in known and one != name]
        for name, spec in known.items()
    }


def _route_problems(spec: StageSpec, known: Mapping[str, StageSpec]) -> Iterator[BuildProblem]:
    routers = [
        name
        for name in dict.fromkeys(spec.dependencies)
        if name in known and known[name].kind is StageKind.ROUTE
    ]
    if not routers:
        message = f"Stage {shown(spec.name)} has route={shown(', '.join(spec.route))}, but depends on no ROUTE stage"
        fix = "Add the router to its dependencies, and declare it with StageKind.ROUTE"
    elif len(named := {text.partition(":")[0] for text in spec.route} & set(routers)) > 1 or (
        len(routers) > 1 and not all(text.partition(":")[0] in routers for text in spec.route)
    ):
        which = ", ".join(sorted(named or routers))
        message = (
            f"Stage {shown(spec.name)} has a route, and more than one router could decide about it: {which}"
        )
        fix = f"Say which one: route='{routers[0]}:{spec.route[0].rpartition(':')[2]}'"
    else:
        return
    yield BuildProblem("SF-BUILD-ROUTE", message, fix=fix, stages=[spec.name])


def _own_problems(spec: StageSpec) -> Iterator[BuildProblem]:
    name: Any = spec.name
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        message = f"{shown(name)} is not a name for a stage"
        name = name if isinstance(name, str) else shown(name)
        fix = "Use a printable text that is not empty"
        yield BuildProblem("SF-BUILD-NAME", message, fix=fix, stages=[name])
    if not isinstance(spec.kind, StageKind):  # pyright: ignore[reportUnnecessaryIsInstance]
        kinds = ", ".join(f"StageKind.{kind.name}" for kind in StageKind)
        message = f"Stage {shown(name)} has the kind {shown(spec.kind)}"
        yield BuildProblem("SF-BUILD-KIND", message, fix=f"Use one of {kinds}", stages=[name])
    yield from _option_problems(spec, name)
    if spec.when is not None and (not callable(spec.when) or inspect.iscoroutinefunction(spec.when)):
        message = f"when= of stage {shown(name)} is {shown(spec.when)}, which is not a plain function"
        fix = "Pass a function of the stage's inputs that returns True or False; decide slower things in a ROUTE stage"
        yield BuildProblem("SF-BUILD-WHEN", message, fix=fix, stages=[name])
    yield from _runner_problems(spec, name)


def _option_problems(spec: StageSpec, name: str) -> Iterator[BuildProblem]:
    """Yield what no type checker was there to refuse."""
    timeout: Any = spec.timeout
    config: Any = spec.config
    if timeout is not None and not (
        isinstance(timeout, (int, float)) and (0 < timeout < _TOO_LONG or timeout == inf)  # refuses NaN too
    ):
        message = f"Stage {shown(name)} has a time limit of {shown(timeout)} seconds"
        yield BuildProblem("SF-BUILD-TIMEOUT", message, fix="Use a positive number of seconds", stages=[name])
    for option, value, fits, fix in (
        ("retry", spec.retry, hasattr(spec.retry, "max_attempts"), "Pass RetryPolicy(...)"),
        (
            "executor",
            spec.executor,
            isinstance(spec.executor, str) or hasattr(spec.executor, "execute"),
            "Pass an executor, or the name of one",
        ),
        (
            "limit",
            spec.limit,
            hasattr(spec.limit, "enter") or (type(spec.limit) is int and spec.limit > 0),
            "Pass a positive number, or ConcurrencyLimit(...)",
        ),
        (
            "config",
            config,
            isinstance(spec.config, Mapping) and all(map(_is_text, config)),  # pyright: ignore[reportUnnecessaryIsInstance]
            "Pass a dict",
        ),
        (
            "dependencies",
            spec.dependencies,
            all(map(_is_text, spec.dependencies)),
            "Pass the names of stages",
        ),
        ("route", spec.route, all(map(_is_text, spec.route)), "Pass a label, or several"),
        ("effect", spec.effect, isinstance(spec.effect, Effect), "Pass one of Effect"),  # pyright: ignore[reportUnnecessaryIsInstance]
        ("gates_effects", spec.gates_effects, type(spec.gates_effects) is bool, "Pass True or False"),
        ("gated", spec.gated, type(spec.gated) is bool, "Pass True or False"),
        ("restartable", spec.restartable, type(spec.restartable) is bool, "Pass True or False"),
    ):
        if value is not None and not fits:
            message = f"{option}= of stage {shown(name)} is {shown(value)}, which is none"
            yield BuildProblem("SF-BUILD-OPTION", message, fix=fix, stages=[name])


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _runner_problems(spec: StageSpec, name: str) -> Iterator[BuildProblem]:
    runner = spec.runner
    if spec.config and not isinstance(runner, (type, str)):
        message = f"Stage {shown(name)} has a config, but its runner is not a class that could take it"
        fix = "Pass the class instead of an instance of it, or drop config="
        yield BuildProblem("SF-BUILD-CONFIG", message, fix=fix, stages=[name])
    if isinstance(runner, str):
        return
    problems = getattr(runner, "problems", None)
    if callable(problems) and hasattr(runner, "uses"):  # a stage made with @stage checks its own signature
        found: Any = problems(spec.dependencies)
        yield from found
        return
    method = getattr(runner, "execute", None)
    called = method if method is not None else runner
    if isinstance(runner, type) and method is not None:
        yield from _config_problems(spec, runner, name)
    if isinstance(runner, type) and method is None:
        message = f"The class {runner.__qualname__}, the runner of stage {shown(name)}, has no execute()"
        yield BuildProblem(
            "SF-BUILD-RUNNER", message, fix="Give it: async def execute(self, ctx)", stages=[name]
        )
    elif not callable(called):
        message = f"The runner of stage {shown(name)} is {shown(runner)}, which nothing can call"
        fix = "Use a class with execute, an instance of one, an async function, or a stage made with @stage"
        yield BuildProblem("SF-BUILD-RUNNER", message, fix=fix, stages=[name])
    elif _is_plain_function(called):
        message = f"The runner of stage {shown(name)} is not async: {called.__qualname__}()"
        fix = "Write 'async def', and await run_in_thread(...) of stageflow.executors for blocking work"
        yield BuildProblem("SF-BUILD-NOT-ASYNC", message, fix=fix, stages=[name])


def _config_problems(spec: StageSpec, runner: type, name: str) -> Iterator[BuildProblem]:
    """Yield whether the runner's constructor does not take the config, before a run finds out."""
    try:
        signature = inspect.signature(runner)
    except (ValueError, TypeError):  # some classes do not say what they take
        return
    try:
        signature.bind(**spec.config)
    except TypeError as exc:
        message = f"The config of stage {shown(name)} does not fit {runner.__qualname__}{signature}: {exc}"
        fix = "Pass what the constructor takes by config={...}, or pass an instance as the runner"
        yield BuildProblem("SF-BUILD-CONFIG", message, fix=fix, stages=[name])


def _is_plain_function(called: Any) -> bool:
    """Say whether a function or a method is not async, and gives no awaitable either, as far as one can tell."""
    function = getattr(called, "__func__", called)
    return (
        inspect.isfunction(function)
        and not inspect.iscoroutinefunction(function)
        and _returns_plainly(function)
    )


def _returns_plainly(function: Any) -> bool:
    """Say whether a plain function gives a plain value, as far as its annotation tells; it may give an awaitable."""
    annotation = str(function.__annotations__.get("return", ""))
    return function.__name__ != "<lambda>" and not any(
        word in annotation for word in ("Awaitable", "Coroutine", "Future", "Task", "Any")
    )


def _hints(known: Mapping[str, StageSpec]) -> Callable[[str], str]:
    """Return what suggests known names; to compare with all of them takes its time, so only the first few times."""
    asked: dict[str, str] = {}

    def hint(name: str) -> str:
        if name not in asked:
            asked[name] = close_matches(name, known) if len(asked) < _MOST_HINTS else ""
        return asked[name]

    return hint


def _dependency_problems(
    spec: StageSpec, known: Mapping[str, StageSpec], hints: Callable[[str], str]
) -> Iterator[BuildProblem]:
    for dependency in dict.fromkeys(filter(_is_text, spec.dependencies)):
        if dependency == spec.name:
            message = f"Stage {shown(spec.name)} depends on itself"
            fix = f"Remove {shown(spec.name)} from its dependencies"
            yield BuildProblem("SF-BUILD-SELF-DEPENDENCY", message, fix=fix, stages=[spec.name])
        elif dependency not in known:
            message = f"Stage {shown(spec.name)} depends on {shown(dependency)}, which is not in the pipeline"
            fix = hints(dependency) or f"Add a stage {shown(dependency)}, or remove the dependency"
            code = "SF-BUILD-UNKNOWN-DEPENDENCY"
            yield BuildProblem(code, message, fix=fix, stages=[spec.name], unknown=dependency)


def _stream_problems(
    spec: StageSpec, known: Mapping[str, StageSpec], hints: Callable[[str], str]
) -> Iterator[BuildProblem]:
    producers = [edge.producer for edge in spec.streams]
    for producer in dict.fromkeys(producers):
        if producer == spec.name:
            message, fix = f"Stage {shown(spec.name)} reads its own stream", "Remove it from streams="
        elif producer not in known:
            message = f"Stage {shown(spec.name)} reads the stream of {shown(producer)}, which is not in the pipeline"
            fix = hints(producer) or f"Add a stage {shown(producer)}, or remove it from streams="
        elif producer in spec.dependencies:
            message = f"Stage {shown(spec.name)} reads the stream of {shown(producer)} and waits for its end as well"
            fix = "Keep one of the two: streams= to read while it runs, dependencies= to have its output"
        elif producers.count(producer) > 1:
            message = f"Stage {shown(spec.name)} reads the stream of {shown(producer)} over two edges"
            fix = "Keep one of them"
        else:
            continue
        yield BuildProblem("SF-BUILD-STREAM", message, fix=fix, stages=[spec.name, producer])


def find_cycles(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Return one cycle for every knot of stages that wait for each other, in the order of waiting.

    Args:
        edges: For every stage, the stages that it waits for.

    The knots are the strongly connected components (Tarjan, 1972), found without recursion.

    ```python
    from stageflow.runtime.validation import find_cycles

    print(find_cycles({"a": ["b"], "b": ["a"], "c": ["a"]}))
    #> [['a', 'b']]
    ```
    """
    # Kahn's algorithm first: on a sound graph it leaves nothing, and then there is nothing to look for.
    waits = {name: len(dict.fromkeys(wanted)) for name, wanted in edges.items()}
    waiters: dict[str, list[str]] = {name: [] for name in edges}
    for name, wanted in edges.items():
        for dependency in dict.fromkeys(wanted):
            waiters[dependency].append(name)
    free = [name for name, count in waits.items() if not count]
    for name in free:  # grows while it is read
        for waiter in waiters[name]:
            waits[waiter] -= 1
            if not waits[waiter]:
                free.append(waiter)
    stuck = {name: [one for one in edges[name] if waits[one]] for name in edges if waits[name]}
    return [_walk_cycle(knot, stuck) for knot in _knots(stuck) if len(knot) > 1]


def _walk_cycle(knot: list[str], edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Follow waits within a knot until a stage comes round again."""
    inside = set(knot)
    path: dict[str, None] = {}
    name = knot[-1]  # the first that the search came to, so the first one declared
    while name not in path:
        path[name] = None
        name = next(one for one in edges[name] if one in inside)
    walked = list(path)
    return walked[walked.index(name) :]


def _knots(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:  # noqa: C901 - Tarjan's, in one piece
    """Yield the strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    for root in edges:
        if root in index:
            continue
        work: list[tuple[str, Iterator[str]]] = [(root, iter(edges[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            name, rest = work[-1]
            for wanted in rest:
                if wanted not in index:
                    index[wanted] = low[wanted] = len(index)
                    stack.append(wanted)
                    on_stack.add(wanted)
                    work.append((wanted, iter(edges[wanted])))
                    break
                if wanted in on_stack:
                    low[name] = min(low[name], index[wanted])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[name])
                if low[name] == index[name]:
                    knot: list[str] = []
                    while True:
                        member = stack.pop()
                        on_stack.discard(member)
                        knot.append(member)
                        if member == name:
                            break
                    yield knot
