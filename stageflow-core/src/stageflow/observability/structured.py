"""``StructuredLog``: a line with fields, through structlog where it is configured and through ``logging`` elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StructuredLog"]

_METHODS: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}
# ``logging`` raises KeyError for an extra field that is named like an attribute of its records, such as "name".
_TAKEN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime"})
_TAKEN_BY_STRUCTLOG: Final = frozenset({"event", "exc_info", "stack_info", "self"})


@final
class StructuredLog:
    """A logger whose lines carry fields. It never raises: what is logged must not break what is done.

    structlog is used once the application has configured it, and never imported for that. A field whose name the
    logging library keeps for itself gets an underscore at its end.

    Args:
        name: The logger's name.
        quiet: Print nothing where nobody has set up logging; for what reaches the caller in another way as well.

    ```python
    import logging

    from stageflow.observability.structured import StructuredLog

    log = StructuredLog("acme.calls")
    log.write(logging.INFO, "Called", {"operation": "llm", "name": "no clash with the record's own name"})
    ```
    """

    __slots__ = ("_logger", "name")

    def __init__(self, name: str, *, quiet: bool = False) -> None:
        self.name = name
        self._logger = logging.getLogger(name)
        if quiet:
            self._logger.addHandler(logging.NullHandler())

    def enabled(self, level: int) -> bool:
        """Say whether a line of that level may be wanted; whoever collects fields asks this first."""
        return _structlog() is not None or self._logger.isEnabledFor(level)

    def write(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        """Write one line."""
        structlog = _structlog()
        try:
            if structlog is not None:
                method = getattr(structlog.get_logger(self.name), _METHODS[level])
                method(message, **_renamed(fields, _TAKEN_BY_STRUCTLOG))
            elif self._logger.isEnabledFor(level):
                self._logger.log(level, "%s", message, extra=_renamed(fields, _TAKEN))
        except Exception:  # a processor, filter or handler of somebody else
            logging.getLogger("stageflow.observability").warning(
                "Logging %r to %r failed", message, self.name, exc_info=True
            )


def _structlog() -> Any:
    """Return structlog if the application has configured it."""
    structlog: Any = sys.modules.get("structlog")
    return structlog if structlog is not None and structlog.is_configured() else None


def _renamed(fields: Mapping[str, Any], taken: frozenset[str]) -> dict[str, Any]:
    return {f"{name}_" if name in taken else name: value for name, value in fields.items()}
