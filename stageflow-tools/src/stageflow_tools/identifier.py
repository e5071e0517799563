"""Identifiers: what names an action, a run or a person, in memory and in a database."""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID

from stageflow.context.checks import wrong_type, wrong_value

__all__ = ["Identifier", "read_identifier"]

Identifier: TypeAlias = UUID | str
"""A UUID, or text such as the id that a model gives to a call."""


def read_identifier(owner: str, argument: str, value: object) -> Identifier:
    """Return an identifier: the text of a UUID is the UUID, and other text stays as it is.

    So it does not matter whether one was text for a while, in a URL or in a database.

    Args:
        owner: Who asks, for the message.
        argument: What it is called there.
        value: The UUID or the text.

    Raises:
        ArgumentTypeError: It is neither.
        ArgumentValueError: It is empty, or no text that can be stored.

    ```python
    from stageflow_tools.identifier import read_identifier

    print(repr(read_identifier("example", "id", "00000000-0000-0000-0000-000000000007")))
    #> UUID('00000000-0000-0000-0000-000000000007')
    print(repr(read_identifier("example", "id", "call-7")))
    #> 'call-7'
    ```
    """
    if isinstance(value, UUID):
        return value
    if not isinstance(value, str):
        raise wrong_type(owner, argument, "a UUID or a str", value)
    if not value:
        raise wrong_value(owner, argument, "must not be empty", value)
    if not value.isprintable():  # a lone surrogate has no UTF-8, and SQLite ends text at NUL
        raise wrong_value(owner, argument, "must be printable text", value)
    try:
        made = UUID(value)
    except ValueError:
        return value
    return made if str(made) == value else value
