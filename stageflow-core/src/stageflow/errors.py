"""Every error that Stageflow raises, as one tree.

Branches are drawn by who has to act on the error, not by the module that raises it::

    StageflowError
    ├── ConfigurationError             whoever configures: settings, targets, installs
    │   ├── MissingExtraError          (also an ImportError) an optional package is not installed
    │   └── LazyImportError            (also an ImportError) a "module:attr" target does not resolve
    ├── PluginError                    whoever installs or writes a plugin
    │   ├── PluginLoadError            import or registration failed
    │   ├── PluginApiError             written for another hook API version
    │   ├── ContributionInvalidError   a hook returned something that breaks its contract
    │   ├── ContributionConflictError  two plugins want the same name
    │   └── ContributionNotFoundError  (also a LookupError) nobody contributes that name
    ├── PipelineError                  whoever writes the pipeline, before it runs
    │   └── PipelineValidationError    (also a ValueError) everything wrong with a pipeline, at once
    │       └── CycleDetectedError     the only problem is a cycle
    └── RunError                       whoever operates the run
        ├── StageError                 something went wrong in one stage
        │   └── StageExecutionError    that stage failed the run; carries the partial results
        ├── StageTimeoutError          (also a TimeoutError) a stage was over its time limit
        ├── StageContractError         (also a TypeError) a stage returned or received the wrong thing
        ├── OverloadError              too much runs or waits already; worth another attempt later
        ├── UndeclaredDependencyError  a stage reads a stage it does not depend on
        ├── AmbiguousKeyError          (also a LookupError) two dependencies could answer ``get(key)``
        ├── MissingInputError          (also a KeyError) a required output or key is not there
        ├── RunStateError              (also a RuntimeError) something was used before or after its time
        ├── ReadOnlyDataError          (also a TypeError) somebody tried to change a stage's output
        ├── CriticalInterceptorError   an interceptor ends the stage
        ├── CircuitBreakerOpenError    a dependency has failed too often and is not called for a while
        ├── TransientError             the same may work in a moment; for stages to raise, as are the next four
        │   ├── RateLimitError         called too often; knows when to come back
        │   └── ServiceUnavailableError  a dependency does not answer
        ├── PermanentError             the same input will fail again
        ├── LogicError                 the program is wrong
        ├── SystemicError              the surroundings are broken, for every input
        ├── PolicyError                a rule forbids it
        │   └── EffectGateClosed       a gate has closed: the effect must not happen
        ├── EffectGateDeadlock         an effect would wait for a gate that waits for it
        └── PipelineCancelled          the run was cancelled; carries the partial results
            └── RunTimeoutError        (also a TimeoutError) the run's deadline passed

What only one room raises is defined there, under branches from above::

    stageflow.config.problems
    └── SettingsError(ConfigurationError, ValueError)  everything wrong with a configuration, at once
    stageflow.context.bags
    ├── DataConflictError(RunError)                 a key of a ContextBag is written twice
    └── OutputConflictError(RunError)               a stage's output is already in the OutputBag
    stageflow.context.checks
    ├── ArgumentTypeError(RunError, TypeError)      an argument has a type that its parameter does not take
    └── ArgumentValueError(RunError, ValueError)    an argument has a value that makes no sense
    stageflow.context.frozen
    └── CyclicDataError(RunError, ValueError)       a value contains itself
    stageflow.context.record
    └── ReadOnlyFieldError(ReadOnlyDataError, AttributeError)  somebody tried to set a field of a record
    stageflow.deprecations
    └── RemovedError(ConfigurationError)            something is used whose time has come
    stageflow.events.backpressure
    └── EventSinkClosedError(RunError, RuntimeError)  somebody waits for room in a stopped sink
    stageflow.executors.unpicklable
    └── UnpicklableError(RunError, TypeError)       a value cannot go to another process
    stageflow.executors.worker_errors
    ├── RemoteError(RunError)                       stands for an exception that cannot come back from there
    ├── WorkerLostError(SystemicError)              the process of a stage has ended before the stage
    └── WorkerStartError(SystemicError)             an executor cannot start a thread or a process
    stageflow.interceptors.hardening
    └── DataChangedError(ReadOnlyDataError)         a stage changed data in place that others see
    stageflow.interceptors.idempotency
    └── IdempotencyParamMismatch(RunError)          an idempotency key came again, with other parameters
    stageflow.pipeline.child_errors
    ├── MaxDepthExceededError(RunError)             a run as deep as runs may be wants a child
    └── SpawnRefusedError(PipelineCancelled)        a run that is ending wants a child
    stageflow.pipeline.conditions
    └── MissingLibraryError(ConfigurationError, ImportError)  a library for one feature is not installed
    stageflow.pipeline.file_pipelines
    ├── PipelineFileError(ConfigurationError, ImportError)  a file is no Python, or raises
    └── PipelineFileNotFoundError(ConfigurationError, FileNotFoundError)  there is no such file
    stageflow.pipeline.registry
    ├── PipelineNameTakenError(ConfigurationError, ValueError)  another pipeline has that name
    └── PipelineNotFoundError(ConfigurationError, KeyError)  no pipeline has that name
    stageflow.runtime.channels
    ├── StreamBrokenError(RunError)                 a stream has come to an end before its time
    └── StreamClosedError(RunError, RuntimeError)   somebody publishes into a stream that takes no more

Each class has a stable ``code``. A message says what happened, where, and what to do, and names the
page of the code in ``docs/reference/errors/``. Errors pickle with all their attributes.

Across the branches, each class also has an ``error_class``: whether to try again, and whom to tell. What an error of
somebody else's is, ``stageflow.observability.classify`` says.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "AmbiguousKeyError",
    "BuildProblem",
    "CircuitBreakerOpenError",
    "ConfigurationError",
    "ContributionConflictError",
    "ContributionInvalidError",
    "ContributionNotFoundError",
    "CriticalInterceptorError",
    "CycleDetectedError",
    "EffectGateClosed",
    "EffectGateDeadlock",
    "ErrorClass",
    "LazyImportError",
    "LogicError",
    "MissingExtraError",
    "MissingInputError",
    "OverloadError",
    "PermanentError",
    "PipelineCancelled",
    "PipelineError",
    "PipelineValidationError",
    "PluginApiError",
    "PluginError",
    "PluginLoadError",
    "PolicyError",
    "RateLimitError",
    "ReadOnlyDataError",
    "RunError",
    "RunStateError",
    "RunTimeoutError",
    "ServiceUnavailableError",
    "StageContractError",
    "StageError",
    "StageExecutionError",
    "StageTimeoutError",
    "StageflowError",
    "SystemicError",
    "TransientError",
    "UndeclaredDependencyError",
    "close_matches",
    "shown",
]


def close_matches(name: str, known: Iterable[str]) -> str:
    """Return a hint for a misspelt *name*, or an empty string when nothing known is near.

    ```python
    from stageflow.errors import close_matches

    print(close_matches("gret", ["greet", "shout"]))
    #> Did you mean 'greet'?
    ```
    """
    from difflib import get_close_matches  # only for messages about errors

    def is_comparable(one: object) -> bool:
        return isinstance(one, str) and len(one) <= _MOST_COMPARED

    if not is_comparable(name):
        return ""
    found = get_close_matches(name, list(filter(is_comparable, known)), n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(map(shown, found))}?" if found else ""


_MOST_COMPARED = 200
_MOST_SHOWN = 80
_MOST_LISTED = 20
_MOST_SAID = 4_000
_FOR_EVER = 1e300  # seconds; no int of that size has a float


def shown(value: object) -> str:
    """Return the ``repr`` of *value* for a message: at most 80 characters, whatever it is. Never raises.

    ```python
    from stageflow.errors import shown

    print(shown("greet"), len(shown("x" * 1_000_000)))
    #> 'greet' 80
    ```
    """
    try:
        if isinstance(value, (str, bytes)) and type(value) in {str, bytes}:
            text = repr(value[:_MOST_SHOWN])
        else:
            from reprlib import Repr  # looks into containers only so far, as they may be very deep

            short = Repr()
            short.maxlist = short.maxtuple = short.maxset = short.maxfrozenset = short.maxdict = _MOST_LISTED
            short.maxstring = short.maxlong = short.maxother = 2 * _MOST_SHOWN
            text = short.repr(value)
    except Exception:  # noqa: BLE001 - what is shown is somebody else's, and so is its __repr__
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


def _listed(values: Iterable[object]) -> str:
    every = list(values)
    more = [f"{len(every) - _MOST_LISTED} more"] if len(every) > _MOST_LISTED else []
    return ", ".join([*map(shown, every[:_MOST_LISTED]), *more]) or "nothing"


def _said(value: object) -> str:
    """Return a text as it is, but bounded, and anything else as the text that it stands for. Never raises."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - an exception of somebody else's, for example
        text = shown(value)
    return text if len(text) <= _MOST_SAID else f"{text[: _MOST_SAID - 3]}..."


class ErrorClass(StrEnum):
    """What kind of trouble an error is: whether to try again, and whom to tell.

    Attributes:
        TRANSIENT: The same may work in a moment: time-outs, lost connections, rate limits. Try again.
        PERMANENT: The same input will fail again. Tell whoever sent it.
        LOGIC: The program is wrong. Tell whoever wrote it.
        SYSTEMIC: The surroundings are broken, for every input: memory, disk, installation. Tell whoever operates it.
        POLICY: A rule forbids it. Tell whoever asked, and the audit trail.

    ```python
    from stageflow.errors import ErrorClass, RateLimitError

    error = RateLimitError("429 from the model", retry_after=2.0)
    print(error.error_class, error.retryable, ErrorClass("policy").name)
    #> transient True POLICY
    ```
    """

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    LOGIC = "logic"
    SYSTEMIC = "systemic"
    POLICY = "policy"


def _rebuild(cls: type[StageflowError], args: tuple[object, ...]) -> StageflowError:
    """Unpickle without the constructor, whose arguments are gone; the attributes follow as state."""
    error = cls.__new__(cls, *args)
    error.args = args  # an OSError, and so a TimeoutError, only sets them in its constructor
    return error


class StageflowError(Exception):
    """The root of every error that Stageflow raises on purpose.

    Args:
        what: What happened, in one sentence without the final full stop.
        where: Where it happened (stage, run, plugin), or nothing.
        fix: What the reader can do about it, or nothing.
        code: Overrides the class's code where one class covers several cases.

    Attributes:
        error_class: Whether to try again, and whom to tell.

    ```python
    from stageflow.errors import ConfigurationError, StageflowError

    error = ConfigurationError("No such file: 'x.py'", where="stageflow run", fix="Check the path.")
    print(error.code, isinstance(error, StageflowError))
    #> SF-CONFIG True
    print(error.fix)
    #> Check the path.
    ```
    """

    code: str = "SF-ERROR"
    error_class: ErrorClass = ErrorClass.PERMANENT
    what: str
    where: str
    fix: str

    def __init__(self, what: str, *, where: str = "", fix: str = "", code: str | None = None) -> None:
        self.what = _said(what)
        self.where = _said(where)
        self.fix = _said(fix)
        if code is not None:
            self.code = code
        super().__init__(self.what)

    @property
    def retryable(self) -> bool:
        """Whether the same may work if it is tried again."""
        return self.error_class is ErrorClass.TRANSIENT

    @property
    def docs(self) -> str:
        """The page about this error's code, relative to the repository; codes of other projects have none here."""
        return f"docs/reference/errors/{self.code}.md" if self.code.startswith("SF-") else ""

    def __str__(self) -> str:
        parts = [f"[{self.code}] {_sentence(self.what)}"]
        if self.where:
            parts.append(f"Where: {_sentence(self.where)}")
        if self.fix:
            parts.append(f"What to do: {_sentence(self.fix)}")
        if self.docs:
            parts.append(f"Docs: {self.docs}")
        return " ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args), self.__dict__


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else f"{text}."


# --- configuration -----------------------------------------------------------------------------------


class ConfigurationError(StageflowError):
    """A setting, a target or the installation is not usable as it is."""

    code = "SF-CONFIG"
    error_class = ErrorClass.SYSTEMIC


class MissingExtraError(ConfigurationError, ImportError):
    """Something needs an optional package that is not installed.

    Args:
        feature: What was asked for.
        extra: The extra of ``stageflow-core`` that brings it.
    """

    code = "SF-CONFIG-MISSING-EXTRA"

    def __init__(self, feature: str, *, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(
            f"{feature} needs the extra '{extra}', which is not installed",
            fix=f"Run: pip install 'stageflow-core[{extra}]'",
        )


class LazyImportError(ConfigurationError, ImportError):
    """A ``module:attr`` target does not resolve.

    Args:
        target: The import string.
        asked_by: Who named the target, for the message.
        reason: Why it does not resolve.
    """

    code = "SF-CONFIG-TARGET"

    def __init__(self, target: str, *, asked_by: str, reason: str) -> None:
        self.target = target
        self.asked_by = asked_by
        self.reason = reason
        super().__init__(
            f"Cannot import {target!r}: {reason}",
            where=asked_by,
            fix="Install the package that holds the module, or correct the import string",
        )


# --- plugins -----------------------------------------------------------------------------------------


class PluginError(StageflowError):
    """A plugin cannot be used.

    Args:
        what: What happened.
        plugin: The plugin's name.
        distribution: The distribution it comes from, with its version, as ``acme 1.2``.
        fix: What to do.
    """

    code = "SF-PLUGIN"
    error_class = ErrorClass.SYSTEMIC

    def __init__(self, what: str, *, plugin: str = "", distribution: str = "", fix: str = "") -> None:
        self.plugin = plugin
        self.distribution = distribution
        where = f"plugin {plugin!r}" if plugin else ""
        if where and distribution:
            where += f" ({distribution})"
        super().__init__(what, where=where, fix=fix)


class PluginLoadError(PluginError):
    """A plugin's module raised while it was imported or registered."""

    code = "SF-PLUGIN-LOAD"


class PluginApiError(PluginError):
    """A plugin was written for a hook API that this core does not speak."""

    code = "SF-PLUGIN-API"


class ContributionInvalidError(PluginError):
    """A hook returned something that breaks the hook's contract."""

    code = "SF-PLUGIN-CONTRIBUTION"


class ContributionConflictError(PluginError):
    """Two plugins contribute the same name; neither is used."""

    code = "SF-PLUGIN-CONFLICT"


class ContributionNotFoundError(PluginError, LookupError):
    """Nobody contributes what was asked for by name."""

    code = "SF-PLUGIN-NOT-FOUND"


# --- pipelines, before they run ----------------------------------------------------------------------


class PipelineError(StageflowError):
    """A pipeline is wrong as it is written."""

    code = "SF-BUILD"
    error_class = ErrorClass.LOGIC


class BuildProblem:
    """One thing that is wrong with a pipeline.

    Attributes:
        code: The stable code, such as ``SF-BUILD-CYCLE``.
        message: What is wrong, in one sentence.
        fix: What to do about it.
        stages: The stages concerned, the one to look at first in front.
        unknown: What is named, but is no stage of the pipeline.
    """

    __slots__ = ("code", "fix", "message", "stages", "unknown")

    code: str
    message: str
    fix: str
    stages: tuple[str, ...]
    unknown: str | None

    def __init__(
        self, code: str, message: str, *, fix: str, stages: Sequence[str] = (), unknown: str | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.fix = fix
        self.stages = tuple(stages)
        self.unknown = unknown

    def __repr__(self) -> str:
        return f"BuildProblem({self.code!r}, {self.message!r}, stages={self.stages!r})"

    def __str__(self) -> str:
        return f"[{self.code}] {_sentence(self.message)} What to do: {_sentence(self.fix)}"


class PipelineValidationError(PipelineError, ValueError):
    """A pipeline does not build; ``problems`` lists everything that is wrong with it.

    Args:
        message: What happened.
        stages: The stages concerned.
        problems: Every problem found.
        pipeline: The pipeline's name.

    ```python
    from stageflow import Pipeline, PipelineValidationError, StageKind


    async def step(ctx): ...


    try:
        Pipeline().with_stage("a", step, StageKind.WORK, ["x"]).with_stage("b", step, StageKind.WORK, ["y"]).build()
    except PipelineValidationError as error:
        for problem in error.problems:
            print(problem.message)
    #> Stage 'a' depends on 'x', which is not in the pipeline
    #> Stage 'b' depends on 'y', which is not in the pipeline
    ```
    """

    code = "SF-BUILD-INVALID"

    def __init__(
        self,
        message: str,
        stages: Sequence[str] | None = None,
        *,
        problems: Sequence[BuildProblem] = (),
        pipeline: str = "",
    ) -> None:
        self.problems = tuple(problems)
        self.stages = tuple(stages) if stages is not None else _stages_of(self.problems)
        self.pipeline = pipeline
        only = self.problems[0].code if len({p.code for p in self.problems}) == 1 else None
        super().__init__(message, where=f"pipeline {shown(pipeline)}" if pipeline else "", code=only)

    def __str__(self) -> str:
        if not self.problems:
            return super().__str__()
        head = f"[{self.code}] {self.what}" + (f" ({self.where})" if self.where else "") + ":"
        lines = [f"  {number}. {problem}" for number, problem in enumerate(self.problems, 1)]
        pages = sorted({f"docs/reference/errors/{problem.code}.md" for problem in self.problems})
        return "\n".join([head, *lines, f"  Docs: {', '.join(pages)}"])

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain data, for a machine or a log."""
        return {
            "code": self.code,
            "message": self.what,
            "pipeline": self.pipeline,
            "stages": list(self.stages),
            "problems": [
                {"code": p.code, "message": p.message, "fix": p.fix, "stages": list(p.stages)}
                for p in self.problems
            ],
        }


class CycleDetectedError(PipelineValidationError):
    """The only thing wrong with the pipeline is that stages wait for each other in a circle.

    Args:
        cycle_path: The stages of one cycle, the first repeated at the end.
        stages: Every stage that is on a cycle.

    ```python
    from stageflow import CycleDetectedError, Pipeline, StageKind


    async def step(ctx): ...


    try:
        Pipeline().with_stage("a", step, StageKind.WORK, ["b"]).with_stage("b", step, StageKind.WORK, ["a"]).build()
    except CycleDetectedError as error:
        print(error.cycle_path)
        #> ('a', 'b', 'a')
    ```
    """

    code = "SF-BUILD-CYCLE"

    def __init__(
        self,
        cycle_path: Sequence[str],
        stages: Sequence[str] | None = None,
        *,
        problems: Sequence[BuildProblem] = (),
        pipeline: str = "",
    ) -> None:
        self.cycle_path = tuple(cycle_path)
        super().__init__(
            f"Pipeline contains a cycle: {' -> '.join(self.cycle_path)}",
            stages if stages is not None else self.cycle_path[:-1],
            problems=problems,
            pipeline=pipeline,
        )


def _stages_of(problems: Iterable[BuildProblem]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(stage for problem in problems for stage in problem.stages))


# --- runs --------------------------------------------------------------------------------------------


class RunError(StageflowError):
    """A run did not end as its pipeline wanted."""

    code = "SF-RUN"


class StageError(RunError):
    """Something went wrong in one stage.

    Args:
        stage: The stage's name.
        original: The exception behind it.

    ```python
    from stageflow import StageError

    print(StageError("llm", ConnectionError("no answer")).what)
    #> Stage 'llm' failed: ConnectionError: no answer
    ```
    """

    code = "SF-RUN-STAGE-FAILED"
    stage: str
    original: BaseException

    def __init__(self, stage: str, original: BaseException, *, where: str = "", fix: str = "") -> None:
        self.stage = stage
        self.original = original
        if isinstance(original, StageflowError):
            self.error_class = original.error_class
        super().__init__(
            f"Stage {shown(stage)} failed: {_describe(original)}",
            where=where or f"stage {shown(stage)}",
            fix=fix,
        )


class StageExecutionError(StageError):
    """A stage failed the run.

    Args:
        stage: The stage that failed.
        original: The exception behind it.
        recoverable: Whether another run of the same input may succeed.
        results: The outputs of every stage that settled before the run ended, by stage.
        run_id: The run, if it has an id.
        attempts: How often the stage was attempted.

    ```python
    import asyncio

    from stageflow import Pipeline, StageExecutionError, StageKind


    async def find(ctx):
        return {"pages": 3}


    async def read(ctx):
        raise ConnectionError("no answer")


    pipeline = Pipeline().with_stage("find", find, StageKind.WORK).with_stage("read", read, StageKind.WORK, ["find"])
    try:
        asyncio.run(pipeline.run())
    except StageExecutionError as error:
        print(error.stage, error.recoverable, error.results["find"].data)
        #> read True {'pages': 3}
    ```
    """

    recoverable: bool
    results: Mapping[str, Any]

    def __init__(
        self,
        stage: str,
        original: BaseException,
        recoverable: bool = False,  # noqa: FBT001, FBT002 - the published signature is positional
        results: Mapping[str, Any] | None = None,
        *,
        run_id: object = None,
        attempts: int = 1,
    ) -> None:
        self.recoverable = recoverable
        self.results = results if results is not None else {}
        self.run_id = run_id
        self.attempts = attempts
        where = f"stage {shown(stage)}"
        if run_id is not None:
            where += f", run {_said(run_id)}"
        if isinstance(attempts, int) and attempts > 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            where += f", after {attempts} attempts"
        fix = (
            getattr(original, "fix", "")
            or "Look at the original error; what had settled is in the error's results"
        )
        super().__init__(stage, original, where=where, fix=fix)

    @property
    def retryable(self) -> bool:
        """The same as ``recoverable``."""
        return self.recoverable


class StageTimeoutError(RunError, TimeoutError):
    """A stage was over its time limit and was cancelled.

    Args:
        stage: The stage's name.
        timeout: Its limit, in seconds.
    """

    code = "SF-RUN-STAGE-TIMEOUT"
    error_class = ErrorClass.TRANSIENT

    def __init__(self, stage: str, timeout: float) -> None:
        self.stage = stage
        self.timeout = timeout
        super().__init__(
            f"Stage timed out after {timeout * 1000:.0f}ms",
            where=f"stage {shown(stage)}",
            fix="Raise the stage's timeout=, or make the stage quicker",
        )


class StageContractError(RunError, TypeError):
    """A stage returned, or would receive, something that its contract rules out.

    Args:
        stage: The stage's name.
        what: What is wrong.
        fix: What to do.
    """

    code = "SF-RUN-STAGE-CONTRACT"
    error_class = ErrorClass.LOGIC

    def __init__(self, stage: str, what: str, *, fix: str) -> None:
        self.stage = stage
        super().__init__(what, where=f"stage {shown(stage)}", fix=fix)


class OverloadError(RunError):
    """A stage or a run found its limit reached and the line of those who wait full.

    Args:
        what: The stage or the pipeline, as ``stage 'embed'``.
        active: How many run at once.
        queued: How many wait.

    Attributes:
        results: Nothing yet, if it is a run that was refused: none of its stages has started.
    """

    code = "SF-RUN-OVERLOAD"
    error_class = ErrorClass.TRANSIENT

    def __init__(self, what: str, *, active: int, queued: int) -> None:
        self.active = active
        self.queued = queued
        self.results: Mapping[str, Any] = {}
        super().__init__(
            f"Too much at once: {active} run and {queued} wait already",
            where=what,
            fix="Try again later, or raise max_active or max_queued of its ConcurrencyLimit",
        )


class UndeclaredDependencyError(RunError):
    """A stage reads the output of a stage that it does not depend on.

    Args:
        stage_name: The stage that is read.
        declared_deps: What the reading stage declares.
        accessing_stage: The reading stage.

    ```python
    from stageflow import ContextSnapshot, StageInputs, StageOutput, UndeclaredDependencyError

    inputs = StageInputs(ContextSnapshot(), {"greet": StageOutput.ok(text="hi")})
    try:
        inputs.get_from("gret", "text")
    except UndeclaredDependencyError as error:
        print(error.fix)
        #> Did you mean 'greet'?
    ```
    """

    code = "SF-RUN-UNDECLARED-DEPENDENCY"
    error_class = ErrorClass.LOGIC

    def __init__(
        self, stage_name: str, declared_deps: Iterable[str] = (), accessing_stage: str | None = None
    ) -> None:
        self.stage_name = stage_name
        # Whatever it is given: an error is the last place to raise another one.
        declared = (
            (declared_deps,) if isinstance(declared_deps, str) else declared_deps
        )  # one name, not its letters
        declared = declared if hasattr(declared, "__iter__") else ()
        self.declared_deps = tuple(sorted(declared, key=_said))
        self.accessing_stage = accessing_stage
        hint = close_matches(stage_name, self.declared_deps)
        super().__init__(
            f"{shown(stage_name)} is not a declared dependency (declared: {_listed(self.declared_deps)})",
            where=f"stage {shown(accessing_stage)}" if accessing_stage else "",
            fix=hint or f"Add {shown(stage_name)} to the stage's dependencies",
        )


class AmbiguousKeyError(RunError, LookupError):
    """Two dependencies hold the key that a stage asked for without saying from whom.

    Args:
        key: The key.
        stages: The dependencies that hold it.
        accessing_stage: The stage that asks.
    """

    code = "SF-RUN-AMBIGUOUS-KEY"
    error_class = ErrorClass.LOGIC

    def __init__(self, key: str, stages: Sequence[str], accessing_stage: str | None = None) -> None:
        self.key = key
        self.stages = tuple(stages)
        self.accessing_stage = accessing_stage
        super().__init__(
            f"{shown(key)} is in the outputs of {' and '.join(map(shown, self.stages))}",
            where=f"stage {shown(accessing_stage)}" if accessing_stage else "",
            fix=f"Say which one: get_from({shown(self.stages[0])}, {shown(key)})",
        )


class MissingInputError(RunError, KeyError):
    """A stage requires an output or a key that is not there.

    Args:
        stage_name: The dependency that was asked.
        key: The key that is missing, or None when the dependency has no output.
        known: The keys that are there.
        accessing_stage: The stage that asks.
    """

    code = "SF-RUN-MISSING-INPUT"
    error_class = ErrorClass.LOGIC

    def __init__(
        self, stage_name: str, key: str | None, known: Iterable[str] = (), accessing_stage: str | None = None
    ) -> None:
        self.stage_name = stage_name
        self.key = key
        self.known = tuple(known)
        self.accessing_stage = accessing_stage
        if key is None:
            what = f"Stage {shown(stage_name)} has no output"
            fix = "Read it with get_from(..., default=...) if the stage may be skipped"
        else:
            what = f"The output of {shown(stage_name)} has no key {shown(key)} (it has {_listed(self.known)})"
            fix = (
                close_matches(key, self.known)
                or "Read it with get_from(..., default=...) if it may be missing"
            )
        super().__init__(what, where=f"stage {shown(accessing_stage)}" if accessing_stage else "", fix=fix)


class ReadOnlyDataError(RunError, TypeError):
    """Somebody tried to change data that a stage has already handed over."""

    code = "SF-RUN-READ-ONLY"
    error_class = ErrorClass.LOGIC

    def __init__(self, operation: str) -> None:
        self.operation = operation
        super().__init__(
            f"Stage outputs are read-only; {operation} would change one that other stages see",
            fix="Work on a copy: thaw(value) gives plain dicts and lists",
        )


class RunStateError(RunError, RuntimeError):
    """Something of a run was used before or after its time, or outside of any run.

    ```python
    from stageflow.errors import RunStateError
    from stageflow.testing import create_test_stage_context

    try:
        create_test_stage_context().register_cleanup(print)
    except RunStateError as error:
        print(error.what)
        #> Cannot register 'print': this context belongs to no run, so nothing would call it
    ```
    """

    code = "SF-RUN-STATE"
    error_class = ErrorClass.LOGIC


class CriticalInterceptorError(RunError):
    """An interceptor ends the stage, which fails.

    Whatever an interceptor raises does that, unless it only watches (``fail_closed = False``); this one always does.

    Args:
        message: What is wrong.
        interceptor_name: The interceptor.

    ```python
    from stageflow.errors import CriticalInterceptorError

    error = CriticalInterceptorError("The audit trail is full", "audit")
    print(error.what, "-", error.where)
    #> The audit trail is full - interceptor 'audit'
    ```
    """

    code = "SF-RUN-INTERCEPTOR"

    def __init__(self, message: str, interceptor_name: str) -> None:
        self.interceptor_name = interceptor_name
        super().__init__(
            message,
            where=f"interceptor {shown(interceptor_name)}",
            fix="See what the interceptor asks for, or build the pipeline without it",
        )


class CircuitBreakerOpenError(RunError):
    """A dependency has failed too often; it is not called until it had time to recover.

    Args:
        operation: What would have been called: a stage, or an operation such as ``"llm.complete"``.
        provider: Who provides it.
        retry_after: When a call may be let through, in seconds from now, if that is known.

    ```python
    from stageflow import CircuitBreakerOpenError

    print(CircuitBreakerOpenError("llm.complete", "acme", retry_after=12).fix)
    #> Try again in 12 s; what opened it are the errors before this one
    ```
    """

    code = "SF-RUN-CIRCUIT-OPEN"
    error_class = (
        ErrorClass.SYSTEMIC
    )  # not TRANSIENT: a retry within the run is what the breaker is there to prevent

    def __init__(self, operation: str, provider: str, retry_after: float | None = None) -> None:
        self.operation = operation
        self.provider = provider
        self.retry_after = retry_after
        known = isinstance(retry_after, (int, float)) and abs(retry_after) < _FOR_EVER
        when = f"in {retry_after:.3g} s" if known else "in a moment"
        super().__init__(
            f"Circuit breaker open for {_said(operation)}/{_said(provider)}",
            fix=f"Try again {when}; what opened it are the errors before this one",
        )


class TransientError(RunError):
    """The same may work in a moment.

    ```python
    from stageflow.errors import TransientError

    print(TransientError("The replica is not there yet").retryable)
    #> True
    ```
    """

    code = "SF-RUN-TRANSIENT"
    error_class = ErrorClass.TRANSIENT


class RateLimitError(TransientError):
    """A dependency was called too often.

    Args:
        what: What happened.
        retry_after: When to come back, in seconds from now; a retry waits at least that long.
        where: Where it happened.
        fix: What to do about it.

    ```python
    from stageflow.errors import RateLimitError

    error = RateLimitError("429 from the model", retry_after=2.0)
    print(error.retryable, error.retry_after)
    #> True 2.0
    ```
    """

    code = "SF-RUN-RATE-LIMIT"

    def __init__(
        self, what: str, retry_after: float | None = None, *, where: str = "", fix: str = ""
    ) -> None:
        self.retry_after = retry_after
        super().__init__(what, where=where, fix=fix)


class ServiceUnavailableError(TransientError):
    """A dependency does not answer, or says that it cannot.

    ```python
    from stageflow.errors import ServiceUnavailableError, TransientError

    print(isinstance(ServiceUnavailableError("503 from the model"), TransientError))
    #> True
    ```
    """

    code = "SF-RUN-SERVICE-UNAVAILABLE"


class PermanentError(RunError):
    """The same input will fail again, such as a document that cannot be read.

    ```python
    from stageflow.errors import PermanentError

    error = PermanentError("The document has no pages", fix="Upload another one")
    print(error.retryable, error.error_class)
    #> False permanent
    ```
    """

    code = "SF-RUN-PERMANENT"


class LogicError(RunError):
    """The program is wrong: something happened that it rules out.

    ```python
    from stageflow.errors import LogicError

    print(LogicError("The answer has no mark, though it was graded").error_class)
    #> logic
    ```
    """

    code = "SF-RUN-LOGIC"
    error_class = ErrorClass.LOGIC


class SystemicError(RunError):
    """The surroundings are broken, for every input: the disk is full, a credential has expired.

    ```python
    from stageflow.errors import SystemicError

    print(SystemicError("The key of the model provider has expired").error_class)
    #> systemic
    ```
    """

    code = "SF-RUN-SYSTEMIC"
    error_class = ErrorClass.SYSTEMIC


class PolicyError(RunError):
    """A rule forbids it: a permission, a quota, a guardrail.

    ```python
    from stageflow.errors import PolicyError

    print(PolicyError("This account may not export data").error_class)
    #> policy
    ```
    """

    code = "SF-RUN-POLICY"
    error_class = ErrorClass.POLICY


class EffectGateClosed(PolicyError):  # noqa: N818 - what a gate has come to is an outcome
    """A gate has closed, so the effect must not happen. A stage that lets this pass ends as skipped.

    Args:
        stage: The stage whose effect it is.
        gate: The stage that closed the gate.
        reason: What became of that one.
    """

    code = "SF-RUN-GATE-CLOSED"

    def __init__(self, stage: str, *, gate: str, reason: str) -> None:
        self.stage = stage
        self.gate = gate
        self.reason = reason
        super().__init__(
            f"The gate {shown(gate)} has closed: {_said(reason)}",
            where=f"stage {shown(stage)}",
            fix="Nothing is wrong with the effect; see in the gate's output why it did not pass",
        )


class EffectGateDeadlock(RunError):  # noqa: N818 - named for the situation, as the field does
    """An effect would wait for a gate, and the gate waits for the stage that performs it.

    Args:
        stage: The stage that performs the effect, or has started the run that would.
        gates: The gates.
        pipeline: The run below that would perform it, if it is not the stage itself.

    Attributes:
        results: Nothing yet, if it is a run that was refused: none of its stages has started.
    """

    code = "SF-RUN-GATE-DEADLOCK"
    error_class = ErrorClass.LOGIC

    def __init__(self, stage: str, gates: Iterable[str], *, pipeline: str | None = None) -> None:
        self.stage = stage
        self.gates = tuple(gates)
        self.pipeline = pipeline
        self.results: Mapping[str, Any] = {}
        who = (
            "its effect" if pipeline is None else f"the effects of pipeline {shown(pipeline)}, which it runs,"
        )
        names = " and ".join(map(shown, self.gates))
        super().__init__(
            f"The gate {names} waits for this stage, so {who} would wait for ever",
            where=f"stage {shown(stage)}",
            fix="Perform the effect in a stage that the gate does not wait for; or, if it must come first, "
            "say gated=False on this stage",
        )


class PipelineCancelled(RunError):  # noqa: N818 - a cancellation is an outcome; the name is published
    """The run was cancelled: by a stage, a token, a signal or its caller.

    Args:
        stage: The stage that cancelled the run, or ``"<external>"``.
        reason: Why.
        results: The outputs of every stage that settled before the run ended, by stage.
        run_id: The run, if it has an id.

    ```python
    import asyncio

    from stageflow import Pipeline, PipelineCancelled, StageKind, StageOutput


    async def guard(ctx):
        return StageOutput.cancel("the user hung up")


    try:
        asyncio.run(Pipeline().with_stage("guard", guard, StageKind.GUARD).run())
    except PipelineCancelled as cancelled:
        print(cancelled.stage, cancelled.reason)
        #> guard the user hung up
    ```
    """

    code = "SF-RUN-CANCELLED"

    EXTERNAL: ClassVar[str] = "<external>"

    def __init__(
        self,
        stage: str,
        reason: str,
        results: Mapping[str, Any] | None = None,
        *,
        run_id: object = None,
        fix: str = "",
    ) -> None:
        self.stage = stage
        self.reason = reason
        self.results: Mapping[str, Any] = results if results is not None else {}
        self.run_id = run_id
        by = "from outside" if stage == self.EXTERNAL else f"by stage {shown(stage)}"
        super().__init__(
            f"Pipeline cancelled {by}: {_said(reason or 'no reason given')}",
            where=f"run {_said(run_id)}" if run_id is not None else "",
            fix=fix or "Nothing is left running; what had settled is in the error's results",
        )


class RunTimeoutError(PipelineCancelled, TimeoutError):
    """The run's deadline passed before the pipeline was done.

    Args:
        timeout: The limit, in seconds.
        results: The outputs of every stage that settled in time.
        run_id: The run, if it has an id.
    """

    code = "SF-RUN-TIMEOUT"
    error_class = ErrorClass.TRANSIENT

    def __init__(
        self, timeout: float, results: Mapping[str, Any] | None = None, *, run_id: object = None
    ) -> None:
        self.timeout = timeout
        super().__init__(
            self.EXTERNAL,
            f"the run's limit of {timeout:g} s has passed",
            results,
            run_id=run_id,
            fix="Raise timeout=, or give the slow stages limits of their own",
        )


def _describe(error: BaseException) -> str:
    """Name an exception and what it says, without repeating the codes of ours."""
    if isinstance(error, StageflowError):
        return error.what
    text = _said(error).strip()
    name = type(error).__name__
    return f"{name}: {text}" if text else name
