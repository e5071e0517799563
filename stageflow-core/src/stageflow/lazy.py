"""``LazyRef``: an import string that is resolved once, when it is first needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any, final

from stageflow.errors import LazyImportError

__all__ = ["LazyRef"]

_UNRESOLVED: Any = object()


@final
class LazyRef:
    """A reference to ``module:attr`` that costs nothing until it is resolved.

    Args:
        target: ``"package.module:attribute"``; the attribute may have dots.
        asked_by: Who names the target, so that a failure points at them.

    Raises:
        LazyImportError: The string has another form.

    ```python
    from stageflow.lazy import LazyRef

    print(LazyRef("math:sqrt", asked_by="this example").resolve()(9.0))
    #> 3.0
    ```
    """

    __slots__ = ("_value", "asked_by", "target")

    def __init__(self, target: str, *, asked_by: str) -> None:
        module, colon, attribute = target.partition(":")
        names = [*module.split("."), *attribute.split(".")]
        if not colon or not all(name.isidentifier() for name in names):
            raise LazyImportError(
                target, asked_by=asked_by, reason="it does not have the form 'module:attribute'"
            )
        self.target = target
        self.asked_by = asked_by
        self._value: Any = _UNRESOLVED

    def resolve(self) -> Any:
        """Import the module and return the attribute.

        Raises:
            LazyImportError: The module or the attribute is not there, or the import itself raised.
        """
        if self._value is _UNRESOLVED:
            self._value = self._import()
        return self._value

    def _import(self) -> Any:
        module_name, _, attribute = self.target.partition(":")
        try:
            value: Any = import_module(module_name)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            reason = f"the import raised {type(exc).__name__}: {exc}"
            raise LazyImportError(self.target, asked_by=self.asked_by, reason=reason) from exc
        for name in attribute.split("."):
            try:
                value = getattr(value, name)
            except AttributeError as exc:
                reason = f"{module_name!r} has no attribute {attribute!r}"
                raise LazyImportError(self.target, asked_by=self.asked_by, reason=reason) from exc
        return value

    def __repr__(self) -> str:
        return f"LazyRef({self.target!r})"
