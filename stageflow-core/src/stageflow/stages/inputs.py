"""``StageInputs``: what a stage may read of the stages that it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import items_of, wrong_type, wrong_value
from stageflow.context.record import Record
from stageflow.errors import AmbiguousKeyError, MissingInputError, UndeclaredDependencyError
from stageflow.stages.output import StageOutput
from stageflow.stages.ports import StagePorts, create_stage_ports

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stageflow.context.snapshot import ContextSnapshot

__all__ = [
    "StageInputs",
    "StagePorts",
    "UndeclaredDependencyError",
    "create_stage_inputs",
    "create_stage_ports",
    "inputs_in_run",
]


@final
class StageInputs(Record):
    """The snapshot of the run, and the outputs of the declared dependencies, in the order of their declaration.

    Read-only.

    Args:
        snapshot: What the run was started with.
        prior_outputs: Outputs by stage.
        ports: What the run injects into its stages, such as database handles: ``StagePorts``, or anything else.
        declared_deps: The stages that may be read; by default those in *prior_outputs*.
        stage_name: The reading stage, for errors.
        strict: False lets a test read any stage in *prior_outputs*.

    Raises:
        ArgumentTypeError: *prior_outputs* is no mapping of stages to outputs, or *declared_deps* no list of names.

    ```python
    from stageflow import ContextSnapshot, StageInputs, StageOutput

    inputs = StageInputs(ContextSnapshot(), {"greet": StageOutput.ok(text="hi")})
    print(inputs.get_from("greet", "text"), inputs.get_from("greet", "tone", default="calm"))
    #> hi calm
    ```
    """

    __match_args__ = ("snapshot", "prior_outputs", "ports", "declared_deps", "stage_name", "strict")
    __slots__ = __match_args__
    snapshot: ContextSnapshot
    prior_outputs: Mapping[str, StageOutput]
    ports: Any
    declared_deps: frozenset[str]
    stage_name: str | None
    strict: bool

    def __init__(
        self,
        snapshot: ContextSnapshot,
        prior_outputs: Mapping[str, StageOutput] | None = None,
        ports: Any = None,
        declared_deps: Iterable[str] | None = None,
        stage_name: str | None = None,
        strict: bool = True,  # noqa: FBT001, FBT002 - the published signature is positional
    ) -> None:
        if prior_outputs is None:
            prior_outputs = {}
        elif not isinstance(prior_outputs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("StageInputs", "prior_outputs", "a mapping of stages to outputs", prior_outputs)
        for output in prior_outputs.values():
            if not isinstance(output, StageOutput):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise wrong_type("StageInputs", "prior_outputs", "a StageOutput for each stage", output)
        names = frozenset(prior_outputs) if declared_deps is None else _names(declared_deps)
        _set_snapshot(self, snapshot)
        _set_prior_outputs(self, prior_outputs)
        _set_ports(self, ports)
        _set_declared_deps(self, names)
        _set_stage_name(self, stage_name)
        _set_strict(self, strict)

    def get(self, key: str, default: Any = None) -> Any:
        """Return *key* from whichever dependency has it.

        Raises:
            AmbiguousKeyError: Two dependencies have it.
        """
        _check_key(key)
        found = [
            name
            for name, output in self.prior_outputs.items()
            if key in output.data and (not self.strict or name in self.declared_deps)
        ]
        if not found:
            return default
        if len(found) > 1:
            raise AmbiguousKeyError(key, found, self.stage_name)
        return self.prior_outputs[found[0]].data[key]

    def get_from(self, stage_name: str, key: str, default: Any = None) -> Any:
        """Return *key* from the output of *stage_name*, or *default* when it is not there.

        Raises:
            UndeclaredDependencyError: The stage does not declare that dependency.
        """
        _check_key(key)
        output = self.get_output(stage_name)
        return default if output is None else output.data.get(key, default)

    def require_from(self, stage_name: str, key: str) -> Any:
        """Return *key* from the output of *stage_name*.

        Raises:
            MissingInputError: There is no such output, or no such key in it; also a ``KeyError``.
            UndeclaredDependencyError: The stage does not declare that dependency.
        """
        _check_key(key)
        output = self.get_output(stage_name)
        if output is None:
            raise MissingInputError(stage_name, None, accessing_stage=self.stage_name)
        if key not in output.data:
            raise MissingInputError(stage_name, key, output.data, self.stage_name)
        return output.data[key]

    def has_output(self, stage_name: str) -> bool:
        """Say whether *stage_name* left an output (a skipped dependency may have none).

        Raises:
            UndeclaredDependencyError: The stage does not declare that dependency.
        """
        return self.get_output(stage_name) is not None

    def get_output(self, stage_name: str, default: StageOutput | None = None) -> StageOutput | None:
        """Return the whole output of *stage_name*, or *default*.

        Raises:
            UndeclaredDependencyError: The stage does not declare that dependency.
        """
        if not isinstance(stage_name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise wrong_type("StageInputs", "stage_name", "a str", stage_name)
        if self.strict and stage_name not in self.declared_deps:
            raise UndeclaredDependencyError(stage_name, self.declared_deps, self.stage_name)
        return self.prior_outputs.get(stage_name, default)

    def __repr__(self) -> str:
        return f"StageInputs(stage_name={self.stage_name!r}, outputs={list(self.prior_outputs)})"


# Through the slots' descriptors, past the guard in ``Record.__setattr__``: most stages have their inputs made.
_slots: Mapping[str, Any] = vars(StageInputs)
_set_snapshot = _slots["snapshot"].__set__
_set_prior_outputs = _slots["prior_outputs"].__set__
_set_ports = _slots["ports"].__set__
_set_declared_deps = _slots["declared_deps"].__set__
_set_stage_name = _slots["stage_name"].__set__
_set_strict = _slots["strict"].__set__
_new = object.__new__


def inputs_in_run(
    snapshot: ContextSnapshot,
    outputs: Mapping[str, StageOutput],
    ports: Any,
    declared: frozenset[str],
    stage: str,
) -> StageInputs:
    """Make the inputs of a stage in a run, unchecked."""
    inputs = _new(StageInputs)
    _set_snapshot(inputs, snapshot)
    _set_prior_outputs(inputs, outputs)
    _set_ports(inputs, ports)
    _set_declared_deps(inputs, declared)
    _set_stage_name(inputs, stage)
    _set_strict(inputs, True)
    return inputs


def _names(declared: Any) -> frozenset[str]:
    """Return the names in *declared*: a lone text is one name and not its letters, of a mapping it is the keys."""
    if isinstance(declared, str):
        return frozenset((declared,))
    whole: Any = declared  # not narrowed: what it holds is checked one by one
    names = items_of("StageInputs", "declared_deps", list(whole) if isinstance(declared, Mapping) else whole)
    for name in names:
        if not isinstance(name, str):
            raise wrong_type("StageInputs", "declared_deps", "names of stages", name)
    return frozenset(names)


def create_stage_inputs(
    snapshot: ContextSnapshot,
    *,
    prior_outputs: Mapping[str, StageOutput] | None = None,
    ports: Any = None,
    declared_deps: Iterable[str] | None = None,
    stage_name: str | None = None,
    strict: bool = True,
) -> StageInputs:
    """Make ``StageInputs`` by keyword; see the class.

    ```python
    from stageflow import ContextSnapshot, StageOutput
    from stageflow.stages.inputs import create_stage_inputs, create_stage_ports

    inputs = create_stage_inputs(
        ContextSnapshot(),
        prior_outputs={"greet": StageOutput.ok(text="hi")},
        ports=create_stage_ports(db="a session"),
    )
    print(inputs.require_from("greet", "text"), inputs.ports.db)
    #> hi a session
    ```
    """
    return StageInputs(snapshot, prior_outputs, ports, declared_deps, stage_name, strict)


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise wrong_type("StageInputs", "key", "a str", key)
    if not key:
        raise wrong_value("StageInputs", "key", "must not be empty", key)
