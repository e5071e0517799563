"""What nobody is to read: which values are secrets, and how texts are rid of them."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Final, cast

from stageflow.config.fields import is_model
from stageflow.config.layers import table_of
from stageflow.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MASK", "looks_secret", "masked", "scrubbed", "texts_in"]

MASK: Final = "**********"
"""What stands in the place of a secret, as long for every one of them; pydantic's own is the same."""

_WORDS: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")
_SECRET: Final = frozenset(
    (
        *(
            "apikey",
            "authorization",
            "cookie",
            "credential",
            "credentials",
            "passphrase",
            "passwd",
            "password",
        ),
        *("passwords", "pwd", "secret", "secrets", "token"),
    )
)
_AMOUNTS: Final = frozenset(
    ("budget", "cost", "count", "length", "limit", "price", "ratio", "seconds", "size", "timeout", "ttl")
)
# A key is a secret if it opens something; "sort_key" and "idempotency_key" do not.
_OPENING: Final = frozenset(
    ("access", "account", "api", "auth", "encryption", "master", "private", "secret", "shared", "signing")
)
_KEYS: Final = frozenset(("key", "keys"))
_USERINFO: Final = re.compile(r"(?<=://)([^/\s:@]*):[^/\s]+@")
_DEEPEST: Final = 20
_SHORTEST: Final = 4  # letters: to take out every "on" would leave a text that nobody understands


def looks_secret(key: str) -> bool:
    """Say whether a key's name says that its text is a secret.

    ```python
    from stageflow.config.secrets import looks_secret

    print([key for key in ("api_key", "max_tokens", "dbPassword", "sort_key", "token") if looks_secret(key)])
    #> ['api_key', 'dbPassword', 'token']
    ```
    """
    words = [word.lower() for word in _WORDS.findall(key)]
    if words and words[-1] in _AMOUNTS:  # such as a token_limit
        return False
    opening = any(first in _OPENING and then in _KEYS for first, then in itertools.pairwise(words))
    return opening or not _SECRET.isdisjoint(words)


def masked(value: object, *, secret: bool) -> object:
    """Return a value as it may be shown: the same, but for what nobody is to read.

    Args:
        value: The value.
        secret: Whether nobody is to read it. Truth values and None are shown all the same.

    ```python
    from stageflow.config.secrets import masked

    print(masked({"url": "db://ada:lovelace@host", "login": {"name": "ada", "password": "x"}}, secret=False))
    #> {'url': 'db://ada:**********@host', 'login': {'name': 'ada', 'password': '**********'}}
    ```
    """
    return _masked(value, secret, _DEEPEST)


def _masked(value: Any, secret: bool, deeper: int) -> object:  # noqa: FBT001 - a helper of one caller
    if value is None or isinstance(value, bool):
        return value
    if secret or hasattr(value, "get_secret_value") or not deeper:
        return MASK
    model = cast("Any", type(value))
    if is_model(model):
        value = {name: getattr(value, name) for name in model.model_fields}
    table = table_of(value)
    if table is not None:
        return {key: _masked(one, looks_secret(str(key)), deeper - 1) for key, one in table.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        parts: Iterable[Any] = value  # pyright: ignore[reportUnknownVariableType] - any value
        return [_masked(one, secret=False, deeper=deeper - 1) for one in parts]  # pyright: ignore[reportUnknownVariableType] - as above
    return value if isinstance(value, (int, float)) else _USERINFO.sub(rf"\1:{MASK}@", _text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - somebody else's
        return shown(value)


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """Return a text of somebody else's without the secrets that it may repeat.

    ```python
    from stageflow.config.secrets import scrubbed

    print(scrubbed("'swordfish' is no key for db://ada:lovelace@host", ["swordfish"]))
    #> '**********' is no key for db://ada:**********@host
    ```
    """
    for secret in sorted(set(secrets), key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK).replace(repr(secret)[1:-1], MASK)
    return _USERINFO.sub(rf"\1:{MASK}@", text)


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a value, at any depth."""
    stack = [value]
    while stack:
        one = stack.pop()
        reveal = getattr(one, "get_secret_value", None)
        table = table_of(one)
        if table is not None:
            stack.extend(table.values())
        elif isinstance(one, (list, tuple, set, frozenset)):
            stack.extend(one)  # pyright: ignore[reportUnknownArgumentType] - any value
        elif isinstance(one, (str, int, float)):
            yield str(one)
        elif isinstance(one, bytes):
            yield one.decode(errors="replace")
        elif callable(reveal):
            stack.append(reveal())
