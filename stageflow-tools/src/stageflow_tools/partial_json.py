"""JSON that is still arriving: what can be said of it already."""

from __future__ import annotations

import re
from typing import Any, Final

__all__ = ["parse_partial_json"]

# The possessive quantifiers keep both linear in the length of the text, whatever it is.
_OUTSIDE_STRINGS: Final = re.compile(r'[^"]*+(?:"(?:[^"\\]++|\\.)*+"[^"]*+)*+', re.DOTALL)
_DIGITS: Final = frozenset("0123456789")
_OF_NUMBERS: Final = "0123456789+-.eE"


def parse_partial_json(text: str) -> Any:
    """Return as much of a JSON document as its beginning says. Never raises.

    A string shows as far as it has come; escapes and surrogate pairs show once they are complete. A key without a
    value does not show. Nor does a number at the very end, which may go on, unless it is all there is. So whatever
    shows stays, and only grows.

    Args:
        text: The document, or its beginning.

    Returns:
        The value so far; None if there is nothing yet, or if the text is not the beginning of JSON. It is for showing
        and for early decisions: only a complete document, checked as ``parse_and_resolve`` checks it, is to be
        acted upon.

    ```python
    from stageflow_tools.partial_json import parse_partial_json

    text = '{"city": "Paris", "days": 12}'
    for end in (1, 12, 16, 26, 29):
        print(parse_partial_json(text[:end]))
    #> {}
    #> {'city': 'Pa'}
    #> {'city': 'Paris'}
    #> {'city': 'Paris'}
    #> {'city': 'Paris', 'days': 12}
    ```
    """
    from pydantic_core import from_json  # importing it costs more than this room

    try:
        if text[-1:] in _DIGITS and _OUTSIDE_STRINGS.fullmatch(text):
            text = text.rstrip(_OF_NUMBERS) or text
        return from_json(text, allow_partial="trailing-strings", allow_inf_nan=False)
    except (ValueError, TypeError, AttributeError):  # no JSON; lone surrogates; no text at all
        return None
