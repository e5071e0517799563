"""Guard retry: a GUARD that fails sends the stage that it guards back for another try."""

from __future__ import annotations

from asyncio import get_running_loop
from typing import TYPE_CHECKING, Any, final

from stageflow.context.checks import (
    check_count,
    check_name,
    check_type,
    items_of,
    number_of,
    require_mapping,
    shown,
)
from stageflow.errors import BuildProblem
from stageflow.stages.stage import StageKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stageflow.stages.output import StageOutput
    from stageflow.stages.spec import StageSpec

__all__ = ["GuardLoop", "GuardRetryPolicy", "GuardRetryStrategy", "GuardRounds"]


@final
class GuardRetryPolicy:
    """How a guard sends a stage back.

    Args:
        retry_stage: The stage to run again, a dependency of the guard.
        max_attempts: How many rounds there may be in all, the first included.
        stagnation_limit: Give up when the stage has produced the same output that often in a row.
        hash_fields: The keys of the output that count for that; all of them by default.
        timeout_seconds: Start no further round after that time since the first rejection.

    Raises:
        ArgumentTypeError, ArgumentValueError: A limit below 1, a time that is not positive, or another type.

    ```python
    from stageflow.pipeline import GuardRetryPolicy

    policy = GuardRetryPolicy("llm", max_attempts=3)
    print(policy.retry_stage, policy.max_attempts, policy.stagnation_limit)
    #> llm 3 2
    ```
    """

    __slots__ = ("hash_fields", "max_attempts", "retry_stage", "stagnation_limit", "timeout_seconds")

    def __init__(
        self,
        retry_stage: str,
        max_attempts: int = 2,
        stagnation_limit: int = 2,
        hash_fields: Sequence[str] | None = None,
        timeout_seconds: float | None = None,
    ) -> None:
        owner = "GuardRetryPolicy"
        check_name(owner, "retry_stage", retry_stage)
        check_count(owner, "max_attempts", max_attempts, least=1)
        check_count(owner, "stagnation_limit", stagnation_limit, least=1)
        if timeout_seconds is not None:
            expects, problem = "a number of seconds or None", "must be positive and finite"
            timeout_seconds = number_of(
                owner, "timeout_seconds", timeout_seconds, expects=expects, problem=problem, positive=True
            )
        self.retry_stage = retry_stage
        self.max_attempts = max_attempts
        self.stagnation_limit = stagnation_limit
        self.hash_fields = (
            None if hash_fields is None else tuple(items_of(owner, "hash_fields", hash_fields, str))
        )
        self.timeout_seconds = timeout_seconds


@final
class GuardRetryStrategy:
    """The policies of a pipeline, by guard.

    Args:
        policies: For each guard, how it sends a stage back.

    Raises:
        ArgumentTypeError: *policies* is no mapping of names to policies.

    ```python
    from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy

    strategy = GuardRetryStrategy({"check": GuardRetryPolicy("write", max_attempts=3)})
    print(strategy.policies["check"].retry_stage)
    #> write
    ```
    """

    __slots__ = ("policies",)

    def __init__(self, policies: Mapping[str, GuardRetryPolicy]) -> None:
        self.policies = dict(require_mapping("GuardRetryStrategy", "policies", policies))
        for guard, policy in self.policies.items():
            check_type("GuardRetryStrategy", "policies", guard, str, "names of guards")
            check_type(
                "GuardRetryStrategy", "policies", policy, GuardRetryPolicy, "a GuardRetryPolicy for each"
            )

    def problems(self, specs: Mapping[str, StageSpec]) -> Iterator[BuildProblem]:
        """Yield what does not fit the stages."""
        for guard, policy in self.policies.items():
            spec = specs.get(guard)
            target = policy.retry_stage
            if spec is None:
                message, fix = (
                    f"Guard retry names {shown(guard)}, which is not in the pipeline",
                    "Correct the name",
                )
            elif spec.kind is not StageKind.GUARD:
                message = f"Guard retry names {shown(guard)}, whose kind is {spec.kind}"
                fix = "Declare it as StageKind.GUARD"
            elif target == guard:
                message, fix = f"Guard {shown(guard)} would send itself back", "Name the stage that it guards"
            elif target not in specs:
                message = (
                    f"Guard {shown(guard)} would send back {shown(target)}, which is not in the pipeline"
                )
                fix = "Correct retry_stage="
            elif target not in spec.dependencies:
                message = f"Guard {shown(guard)} would send back {shown(target)}, on which it does not depend"
                fix = f"Add {shown(target)} to the guard's dependencies"
            else:
                continue
            yield BuildProblem("SF-BUILD-GUARD-RETRY", message, fix=fix, stages=[guard])


@final
class GuardLoop:
    """What a guard sends back, compiled.

    Attributes:
        policy: When to give up.
        target: The stage to run again.
        members: Every stage between the target and the guard, both included: all of them run again.
    """

    __slots__ = ("members", "policy", "target")

    def __init__(self, policy: GuardRetryPolicy, target: int, members: frozenset[int]) -> None:
        self.policy = policy
        self.target = target
        self.members = members

    @classmethod
    def between(
        cls,
        policy: GuardRetryPolicy,
        target: int,
        guard: int,
        dependencies: Sequence[Sequence[int]],
        dependants: Sequence[Sequence[int]],
    ) -> GuardLoop:
        """Compile: the members are those ancestors of the guard that descend from the target."""
        ancestors = {guard}
        pending = [guard]
        for number in pending:  # grows while it is read
            for dependency in dependencies[number]:
                if dependency not in ancestors:
                    ancestors.add(dependency)
                    pending.append(dependency)
        members = {target}
        pending = [target]
        for number in pending:  # grows while it is read
            for dependant in dependants[number]:
                if dependant in ancestors and dependant not in members:
                    members.add(dependant)
                    pending.append(dependant)
        return cls(policy, target, frozenset(members))


@final
class GuardRounds:
    """How often a guard has rejected in one run, and whether to go on. Time is the event loop's."""

    __slots__ = ("_alike", "_last", "_since", "rounds")

    def __init__(self) -> None:
        self.rounds = 1
        self._since = get_running_loop().time()
        self._last: int | None = None
        self._alike = 0

    def exhausted(self, policy: GuardRetryPolicy, rejected: StageOutput | None) -> str | None:
        """Note a rejection; returns why there is no further round, or None."""
        fingerprint = _fingerprint(rejected, policy.hash_fields)
        self._alike = self._alike + 1 if fingerprint == self._last else 1
        self._last = fingerprint
        if self.rounds >= policy.max_attempts:
            return "max_attempts"
        if self._alike > 1 and self._alike >= policy.stagnation_limit:
            return "stagnation"
        spent = get_running_loop().time() - self._since
        if policy.timeout_seconds is not None and spent >= policy.timeout_seconds:
            return "timeout"
        self.rounds += 1
        return None


def _fingerprint(output: StageOutput | None, fields: Sequence[str] | None) -> int:
    data: Any = {} if output is None else output.data
    chosen = data if fields is None else {field: data.get(field) for field in fields}
    try:
        return hash(repr(sorted(chosen.items(), key=lambda item: str(item[0]))))
    except Exception:  # noqa: BLE001 - what a stage hands over has a __repr__ of its own, or is very deep
        return id(output)
