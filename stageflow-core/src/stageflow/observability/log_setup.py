"""Logging for a program: lines for people, or JSON for machines."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.checks import check_type, wrong_value

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["JsonLogFormatter", "setup_logging"]

_OWN: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
_MARK: Final = "_stageflow_setup"
_LINE: Final = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"


@final
class JsonLogFormatter(logging.Formatter):
    """Formats a record as one line of JSON: time, level, logger, message, extra fields, and the exception.

    Never raises: a value that JSON does not know is written as its text.

    ```python
    import json
    import logging

    from stageflow.observability.log_setup import JsonLogFormatter

    record = logging.makeLogRecord({"name": "chat", "levelname": "INFO", "msg": "hi", "stage": "greet"})
    line = json.loads(JsonLogFormatter().format(record))
    print(line["level"], line["message"], line["stage"])
    #> INFO hi greet
    ```
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a record whose arguments do not fit its text
            message = str(record.msg)
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return json.dumps(line, default=_text)
        except (
            TypeError,
            ValueError,
            RecursionError,
        ):  # keys that are no texts, or a value that contains itself
            return json.dumps({name: _text(value) for name, value in line.items()})


def setup_logging(
    level: int | str = logging.INFO,
    *,
    json_format: bool = False,
    stream: TextIO | None = None,
    logger: str | None = None,
) -> logging.Handler:
    """Let a logger write to a stream. To call it again replaces what it has set up, and nothing of anybody else's.

    For programs; a library leaves logging to those who use it.

    Args:
        level: The level, by number or by name.
        json_format: Write JSON instead of lines for people.
        stream: Where to; standard error by default.
        logger: Which logger; the root by default.

    Returns:
        The handler, so that it can be taken away again: ``logging.getLogger(logger).removeHandler(handler)``.

    Raises:
        ArgumentTypeError: *level* is neither a number nor a name, or *logger* is no name.
        ArgumentValueError: There is no such level.

    ```python
    import logging
    import sys

    from stageflow.observability.log_setup import setup_logging

    handler = setup_logging("INFO", json_format=True, stream=sys.stdout, logger="chat")
    logging.getLogger("chat").removeHandler(handler)
    ```
    """
    check_type("setup_logging", "level", level, (int, str), "an int or a str")
    check_type("setup_logging", "logger", logger, (str, type(None)), "a str or None")
    known = logging.getLevelNamesMapping()
    number = known.get(level.upper()) if isinstance(level, str) else level
    if number is None:
        raise wrong_value("setup_logging", "level", f"is none of {', '.join(known)}", level)
    target = logging.getLogger(logger)
    for old in [one for one in target.handlers if getattr(one, _MARK, False)]:
        target.removeHandler(old)
    handler = logging.StreamHandler(stream)
    setattr(handler, _MARK, True)
    handler.setFormatter(JsonLogFormatter() if json_format else logging.Formatter(_LINE))
    target.addHandler(handler)
    target.setLevel(number)
    return handler


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody else's __str__
        return f"<{type(value).__name__}>"
