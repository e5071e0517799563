"""``hookimpl`` and ``hookspec``: the marks that pluggy reads, written without importing pluggy.

A plugin module is imported in every process that composes an app, so the author's one import must stay
cheap. The marks are those of ``pluggy.HookimplMarker("stageflow")``, which works in a plugin as well; a
test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stageflow.deprecations import Deprecation

__all__ = ["PROJECT", "deprecation_of", "hookimpl", "hookspec"]

PROJECT: Final = "stageflow"
"""The entry-point group, and the prefix of every hook and mark."""

F = TypeVar("F", bound="Callable[..., object]")


@overload
def hookimpl(function: F, /) -> F: ...
@overload
def hookimpl(*, specname: str | None = None, optionalhook: bool = False) -> Callable[[F], F]: ...
def hookimpl(
    function: F | None = None, /, *, specname: str | None = None, optionalhook: bool = False
) -> F | Callable[[F], F]:
    """Mark a function of a plugin module as the implementation of a hook.

    Args:
        function: The function, when the mark is used without parentheses.
        specname: The hook, when the function has another name.
        optionalhook: Accept that this core does not know the hook: it is of a newer hook API.

    Wrappers, ``tryfirst`` and ``trylast`` are not offered: they order calls, and nobody should depend on the
    order in which plugins are asked.

    ```python
    from stageflow.plugins import SinkContribution, hookimpl


    @hookimpl
    def stageflow_sinks(context):
        return [SinkContribution(name="acme.kafka", target="acme.kafka:KafkaSink")]
    ```
    """

    def mark(marked: F) -> F:
        options = {
            "wrapper": False,
            "hookwrapper": False,
            "optionalhook": optionalhook,
            "tryfirst": False,
            "trylast": False,
            "specname": specname,
        }
        setattr(marked, f"{PROJECT}_impl", options)
        return marked

    return mark if function is None else mark(function)


@overload
def hookspec(function: F, /) -> F: ...
@overload
def hookspec(*, deprecated: Deprecation) -> Callable[[F], F]: ...
def hookspec(function: F | None = None, /, *, deprecated: Deprecation | None = None) -> F | Callable[[F], F]:
    """Mark a function as the specification of a hook; only ``hookspecs`` uses it.

    Args:
        function: The function, when the mark is used without parentheses.
        deprecated: Why nobody should implement the hook any more. A plugin that does is warned about while it is
            registered; once the removal is due, it is refused.
    """

    def mark(marked: F) -> F:
        options = {
            "firstresult": False,
            "historic": False,
            "warn_on_impl": None if deprecated is None else deprecated.warning(),
            "warn_on_impl_args": None,
        }
        setattr(marked, f"{PROJECT}_spec", options)
        return marked

    return mark if function is None else mark(function)


def deprecation_of(hook: Callable[..., object]) -> Deprecation | None:
    """Return why a hook is deprecated, as its specification says it; None where it is not.

    Args:
        hook: The specification.
    """
    options: Mapping[str, Any] = getattr(hook, f"{PROJECT}_spec", {})
    return getattr(options.get("warn_on_impl"), "deprecation", None)
