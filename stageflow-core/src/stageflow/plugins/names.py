"""The grammar of names: ``owner.thing`` for what a plugin brings, bare words for what the core brings."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["CORE", "CORE_SECTIONS", "GRAMMAR", "canonical", "is_bare", "is_name", "is_scheme", "owner_of"]

CORE: Final = "core"
"""The name of the built-in plugin, which alone may contribute bare names."""

CORE_SECTIONS: Final = ("events", "interceptors", "plugins")
"""The sections of the configuration that belong to the core, so that no plugin can have one of that name."""

GRAMMAR: Final = "lower-case letters, digits, '-' and '_', starting with a letter"
"""What one part of a name may look like, for messages."""

_WORD: Final = r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*"
_BARE: Final = re.compile(_WORD)
_NAME: Final = re.compile(rf"{_WORD}(?:\.{_WORD})?")
# RFC 3986, section 3.1, but lower-case only: schemes are compared as they are written.
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


def is_bare(name: str) -> bool:
    """Tell whether *name* is one word, as a plugin's name is.

    ```python
    from stageflow.plugins.names import is_bare

    print(is_bare("voice"), is_bare("voice.stt"), is_bare("Voice"))
    #> True False False
    ```
    """
    return _BARE.fullmatch(name) is not None


def is_name(name: str) -> bool:
    """Tell whether *name* is a bare word or ``owner.thing``."""
    return _NAME.fullmatch(name) is not None


def is_scheme(scheme: str) -> bool:
    """Tell whether *scheme* can stand in front of ``://``, in lower case."""
    return _SCHEME.fullmatch(scheme) is not None


def owner_of(name: str) -> str:
    """Return the plugin that *name* belongs to.

    ```python
    from stageflow.plugins.names import owner_of

    print(owner_of("voice.stt"), owner_of("timeout"))
    #> voice core
    ```
    """
    owner, dot, _ = name.partition(".")
    return owner if dot else CORE


def canonical(name: str) -> str:
    """Return the form in which names of plugins and distributions are compared, as PEP 503 has it.

    ```python
    from stageflow.plugins.names import canonical

    print(canonical(" Stageflow_Voice"))
    #> stageflow-voice
    ```
    """
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
