"""``ConditionalDependency``: runs a stage only if one of its dependencies left the right thing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, final

from stageflow.context.checks import check_name, check_type, wrong_type, wrong_value
from stageflow.context.frozen import thaw
from stageflow.context.record import Record
from stageflow.errors import ConfigurationError, shown
from stageflow.stages.output import StageOutput
from stageflow.stages.stage import StageStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from stageflow.stages.inputs import StageInputs

    Predicate: TypeAlias = str | Callable[[Mapping[str, Any]], object]

__all__ = ["ConditionalDependency", "MissingLibraryError"]

_OWNER = "ConditionalDependency"
_LONGEST = 10_000  # the library takes quadratic time for long names
# JMESPath has colons too, in slices; a path has no character that only an expression has.
_PATH = re.compile(r"([^\[\](){}|&=<>!?*@'\"`,:]+):([^\[\](){}|&=<>!?*@'\"`,:]+)")


@final
class MissingLibraryError(ConfigurationError, ImportError):
    """Something needs a library that Stageflow does not depend on, and that is not installed.

    Args:
        feature: What was asked for.
        library: What has to be installed for it.

    ```python
    from stageflow.pipeline.conditions import MissingLibraryError

    print(MissingLibraryError("A JMESPath predicate", library="jmespath").fix)
    #> Run: pip install jmespath
    ```
    """

    code = "SF-CONFIG-MISSING-LIBRARY"

    def __init__(self, feature: str, *, library: str) -> None:
        self.feature = feature
        self.library = library
        super().__init__(
            f"{feature} needs the library {library!r}, which is not installed",
            fix=f"Run: pip install {library}",
        )


@final
class ConditionalDependency(Record):
    """A condition on what a dependency left, for ``when=``. Immutable; equal ones are equal.

    Args:
        stage: The dependency that it is about; the stage that has the condition must also declare it.
        predicate: ``"stage:key"``, which holds if that key of that stage's data is there and true; or a function of
            the data of *stage*; or a JMESPath expression over the data of all dependencies by stage, as
            ``"router.score > `0.5`"``, for which the library ``jmespath`` must be installed.
        skip_on_false: Skip the branch if it does not hold. False lets the stage run all the same: then the condition
            only tells, by ``evaluate``.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: *stage* or *predicate* is empty, or the expression is no JMESPath.
        MissingLibraryError: It takes ``jmespath``, which is not installed.

    ```python
    import asyncio

    from stageflow import Pipeline, StageKind
    from stageflow.pipeline.conditions import ConditionalDependency


    async def classify(ctx):
        return {"risky": "!" in ctx.input_text}


    async def review(ctx):
        return {"reviewed": True}


    pipeline = (
        Pipeline()
        .with_stage("classify", classify, StageKind.TRANSFORM)
        .with_stage(
            "review",
            review,
            StageKind.GUARD,
            dependencies=["classify"],
            when=ConditionalDependency("classify", "classify:risky"),
        )
    )
    print(asyncio.run(pipeline.run(input_text="hi"))["review"].status)
    #> skip
    print(asyncio.run(pipeline.run(input_text="hi!"))["review"].status)
    #> ok
    ```
    """

    __slots__ = ("_holds", "predicate", "skip_on_false", "stage")
    __match_args__ = ("stage", "predicate", "skip_on_false")
    stage: str
    predicate: Predicate
    skip_on_false: bool
    _holds: Callable[[Callable[[str], Mapping[str, Any] | None], Mapping[str, StageOutput]], object]

    def __init__(self, stage: str, predicate: Predicate, skip_on_false: bool = True) -> None:  # noqa: FBT001, FBT002 - the published signature is positional
        check_name(_OWNER, "stage", stage)
        put = object.__setattr__
        put(self, "stage", stage)
        put(self, "predicate", predicate)
        put(self, "skip_on_false", bool(skip_on_false))
        put(self, "_holds", self._compiled(predicate))

    @property
    def stages(self) -> tuple[str, ...]:
        """The dependencies that it certainly reads."""
        path = _PATH.fullmatch(self.predicate) if isinstance(self.predicate, str) else None
        return tuple(dict.fromkeys((self.stage, *([path[1]] if path else []))))

    def evaluate(self, outputs: Mapping[str, StageOutput]) -> bool:
        """Say whether it holds for *outputs* by stage. A key that is not there is false, and so is a skipped stage.

        Whatever a function raises is raised: a condition that cannot be told lets nothing through.

        Raises:
            ArgumentTypeError: *outputs* is no mapping of stages to outputs.
        """
        owner = f"{_OWNER}.evaluate"
        check_type(owner, "outputs", outputs, Mapping, "a mapping of stages to outputs")
        return bool(self._holds(lambda name: _data(outputs.get(name)), outputs))

    def __call__(self, inputs: StageInputs) -> bool:
        """Decide as ``when=``.

        Raises:
            UndeclaredDependencyError: It reads a stage that the one with the condition does not depend on.
        """
        for name in self.stages:
            inputs.has_output(name)
        return self.evaluate(inputs.prior_outputs) or not self.skip_on_false

    def _compiled(
        self, predicate: Any
    ) -> Callable[[Callable[[str], Mapping[str, Any] | None], Mapping[str, StageOutput]], object]:
        if callable(predicate):
            return lambda read, _: (data := read(self.stage)) is not None and predicate(data)
        if not isinstance(predicate, str):
            raise wrong_type(_OWNER, "predicate", "a str or a function of the data", predicate)
        check_name(_OWNER, "predicate", predicate)
        path = _PATH.fullmatch(predicate)
        if path is not None:
            name, key = path.groups()
            return lambda read, _: (read(name) or {}).get(key)
        search = _jmespath(predicate)
        # Its functions go by the name of a value's type: a FrozenList would be nothing to them.
        return lambda _, outputs: search({name: thaw(_data(output)) for name, output in outputs.items()})


def _data(output: StageOutput | None) -> Mapping[str, Any] | None:
    """Return what a stage left; of one that was skipped, whose data is only the reason, nothing."""
    if output is None:
        return None
    check_type(f"{_OWNER}.evaluate", "outputs", output, StageOutput, "a StageOutput for each stage")
    return output.data if output.status is StageStatus.OK else None


def _jmespath(expression: str) -> Callable[[Any], object]:
    if len(expression) > _LONGEST:
        raise wrong_value(_OWNER, "predicate", f"has more than {_LONGEST} characters", expression)
    try:
        jmespath: Any = __import__("jmespath")
    except ImportError as exc:
        feature = f"The predicate {shown(expression)}, which is no 'stage:key',"
        raise MissingLibraryError(feature, library="jmespath") from exc
    try:
        search: Callable[[Any], object] = jmespath.compile(expression).search
    except ValueError as exc:  # the library's errors are ValueErrors
        fix = "Correct it, or pass 'stage:key' or a function of the data"
        raise wrong_value(_OWNER, "predicate", "is no JMESPath expression", expression, fix=fix) from exc
    return search
