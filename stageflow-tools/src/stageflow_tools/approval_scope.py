"""``ApprovalScope``: which calls an approval covers, and how many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, final

from stageflow.context.checks import check_count, check_name, wrong_type, wrong_value

__all__ = ["ApprovalScope", "pattern_matches"]

_OWNER: Final = "ApprovalScope"
_TENANT: Final = "tenant:"
_MOST_USES: Final = 1_000  # each use is kept in the request, as part of its audit record
_ANYTHING: Final = "**"


@final
@dataclass(frozen=True, slots=True)
class ApprovalScope:
    """Which calls an approval covers. By default the one call that was asked for, once.

    All of it is about one tool. The arguments must be exactly those that were approved, whatever the scope; those that
    ``arguments`` names may be others, as far as they match.

    In a pattern, ``*`` is any text without ``/``, and ``**`` as a whole segment is one or more segments. No wildcard
    matches the segments ``.`` and ``..``, so that ``docs/**`` leads nowhere else. A pattern is for text; ``**`` alone
    is any value of any type, or none.

    Args:
        of: ``"once"``; ``"run"``: calls in the same run; or ``"tenant:PATTERN"``: calls of the tenants that the pattern
            matches, as ``"tenant:acme/*"``. Those are the request's own tenant and what lies below it.
        max_uses: How many calls, at most 1000.
        arguments: Patterns, by argument.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: There is no such scope, ``"once"`` is to be used more than once, or ``max_uses`` is out of
            its range.

    ```python
    from stageflow_tools.approval_scope import ApprovalScope

    scope = ApprovalScope("tenant:acme/*", max_uses=5, arguments={"path": "docs/**"})
    print(scope.allows_tenant("acme/eu", of="acme"), scope.allows_tenant("globex", of="acme"))
    #> True False
    approved = {"path": "docs/index.md", "mode": "append"}
    print(scope.allows_arguments({"path": "docs/guides/a.md", "mode": "append"}, approved))
    #> True
    print(scope.allows_arguments({"path": "docs/../secrets", "mode": "append"}, approved))
    #> False
    print(scope.allows_arguments({"path": "docs/a.md", "mode": "overwrite"}, approved))
    #> False
    ```
    """

    of: str = "once"
    max_uses: int = 1
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        check_name(_OWNER, "of", self.of)
        if self.of not in {"once", "run"} and not (self.of.startswith(_TENANT) and self.of != _TENANT):
            raise wrong_value(
                _OWNER, "of", "must be 'once', 'run', or 'tenant:' and a pattern of tenants", self.of
            )
        check_count(_OWNER, "max_uses", self.max_uses, least=1)
        if self.max_uses > _MOST_USES:
            raise wrong_value(_OWNER, "max_uses", f"must be at most {_MOST_USES}", self.max_uses)
        if self.of == "once" and self.max_uses > 1:
            raise wrong_value(_OWNER, "max_uses", "must be 1 for the scope 'once'", self.max_uses)
        if not isinstance(self.arguments, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - it comes from an approver
            raise wrong_type(_OWNER, "arguments", "a mapping of patterns", self.arguments)
        for name, pattern in self.arguments.items():
            check_name(_OWNER, "arguments", name)
            check_name(_OWNER, f"arguments[{name!r}]", pattern)
        object.__setattr__(self, "arguments", MappingProxyType(dict(self.arguments)))

    def __hash__(self) -> int:
        return hash((self.of, self.max_uses, frozenset(self.arguments.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.of, self.max_uses, dict(self.arguments))

    @property
    def tenants(self) -> str | None:
        """The pattern of tenants, if that is what the scope is about."""
        return self.of.removeprefix(_TENANT) if self.of.startswith(_TENANT) else None

    def check_grant(self, tenant: str | None) -> None:
        """Raise unless *tenant* may grant this: its own calls, and those of tenants below it.

        Args:
            tenant: Whose request it is.

        Raises:
            ArgumentValueError: The pattern reaches beyond the tenant.
        """
        pattern = self.tenants
        if pattern is None or (tenant and (pattern == tenant or pattern.startswith(f"{tenant}/"))):
            return
        problem = f"must be 'tenant:{tenant}' or start with 'tenant:{tenant}/'"
        if not tenant:
            problem = "is about tenants, and the request is of none"
        raise wrong_value(_OWNER, "of", problem, self.of)

    def allows_tenant(self, tenant: str | None, *, of: str | None) -> bool:
        """Say whether a call of *tenant* is covered.

        Args:
            tenant: Who calls.
            of: Whose request it is.
        """
        if self.tenants is None:
            return tenant == of
        return tenant is not None and pattern_matches(self.tenants, tenant)

    def allows_arguments(self, arguments: Mapping[str, Any], approved: Mapping[str, Any]) -> bool:
        """Say whether arguments are covered.

        Args:
            arguments: Those of the call.
            approved: Those that were approved.
        """
        from stageflow_tools.canonical_json import canonical_json

        patterns = self.arguments
        for name in {*arguments, *approved, *patterns}:
            pattern = patterns.get(name)
            if pattern == _ANYTHING:
                continue
            if name not in arguments:
                return False
            if pattern is not None:
                value = arguments[name]
                if not isinstance(value, str) or not pattern_matches(pattern, value):
                    return False
            elif (
                name not in approved
                or len(
                    {canonical_json(one[name], owner=_OWNER, argument=name) for one in (arguments, approved)}
                )
                != 1
            ):
                return False
        return True


def pattern_matches(pattern: str, text: str) -> bool:
    """Say whether a text matches a pattern of an ``ApprovalScope``, in time that does not depend on luck.

    ```python
    from stageflow_tools.approval_scope import pattern_matches

    print(pattern_matches("*@acme.com", "ada@acme.com"), pattern_matches("docs/*", "docs/a/b"))
    #> True False
    print(pattern_matches("docs/**", "docs/a/b"), pattern_matches("docs/**", "docs/a/../../b"))
    #> True False
    ```
    """
    if pattern == _ANYTHING:
        return True
    segments = text.split("/")
    # Which beginnings of the text are matched by the pattern so far, by their number of segments.
    reached = {0}
    for part in pattern.split("/"):
        if part == _ANYTHING:
            longer: set[int] = set()
            for at, segment in enumerate(segments):
                if (at in reached or at in longer) and _is_free(segment):
                    longer.add(at + 1)
            reached = longer
        else:
            reached = {
                end + 1 for end in reached if end < len(segments) and _segment_matches(part, segments[end])
            }
    return len(segments) in reached


def _is_free(segment: str) -> bool:
    """Say whether a wildcard may stand for a segment: not for nothing, and not for a way up."""
    return bool(segment) and not {".", ".."} & set(segment.split("\\"))


def _segment_matches(pattern: str, segment: str) -> bool:
    head, *rest = pattern.split("*")
    if not rest:
        return pattern == segment
    *middle, tail = rest
    end = len(segment) - len(tail)
    if end < len(head) or not (segment.startswith(head) and segment.endswith(tail) and _is_free(segment)):
        return False
    at = len(head)
    for part in middle:
        at = segment.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
