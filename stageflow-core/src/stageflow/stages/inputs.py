"""``StageInputs``: what a stage may read of the stages that it depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import wrong_type, wrong_value
from stageflow.errors import AmbiguousKeyError, MissingInputError, UndeclaredDependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.context.snapshot import ContextSnapshot
    from stageflow.stages.output import StageOutput

__all__ = ["StageInputs", "UndeclaredDependencyError", "create_stage_inputs"]


@final
class StageInputs:
    """The snapshot of the run, and the outputs of the declared dependencies, in the order of their declaration.

    Args:
        snapshot: What the run was started with.
        prior_outputs: Outputs by stage.
        ports: What the run injects into its stages, such as database handles.
        declared_deps: The stages that may be read; by default those in *prior_outputs*.
        stage_name: The reading stage, for errors.
        strict: False lets a test read any stage in *prior_outputs*.

    ```python
    from stageflow import ContextSnapshot, StageInputs, StageOutput

    inputs = StageInputs(ContextSnapshot(), {"greet": StageOutput.ok(text="hi")})
    print(inputs.get_from("greet", "text"), inputs.get_from("greet", "tone", default="calm"))
    #> hi calm
    ```
    """

    __slots__ = ("declared_deps", "ports", "prior_outputs", "snapshot", "stage_name", "strict")

    def __init__(
        self,
        snapshot: ContextSnapshot,
        prior_outputs: Mapping[str, StageOutput] | None = None,
        ports: Any = None,
        declared_deps: Iterable[str] | None = None,
        stage_name: str | None = None,
        strict: bool = True,  # noqa: FBT001, FBT002 - the published signature is positional
    ) -> None:
        self.snapshot = snapshot
        self.prior_outputs: Mapping[str, StageOutput] = prior_outputs if prior_outputs is not None else {}
        self.ports = ports
        if isinstance(declared_deps, str):  # one name, not its letters
            declared_deps = (declared_deps,)
        self.declared_deps: frozenset[str] = frozenset(
            self.prior_outputs if declared_deps is None else declared_deps
        )
        self.stage_name = stage_name
        self.strict = strict

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


def create_stage_inputs(
    snapshot: ContextSnapshot,
    *,
    prior_outputs: Mapping[str, StageOutput] | None = None,
    ports: Any = None,
    declared_deps: Iterable[str] | None = None,
    stage_name: str | None = None,
    strict: bool = True,
) -> StageInputs:
    """Make ``StageInputs`` by keyword; see the class."""
    return StageInputs(snapshot, prior_outputs, ports, declared_deps, stage_name, strict)


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise wrong_type("StageInputs", "key", "a str", key)
    if not key:
        raise wrong_value("StageInputs", "key", "must not be empty", key)
