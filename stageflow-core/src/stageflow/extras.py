"""Extras: the optional parts of ``stageflow-core``, and the error that names the one that is missing."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["extra_of_plugin", "require_extra"]

_CORE: Final = "stageflow-core"
# As build backends write it: "stageflow-tools<0.2,>=0.1; extra == 'tools'".
_SIBLING: Final = re.compile(r"stageflow-([a-z0-9-]+)\b[^;]*;.*\bextra == [\"']([\w-]+)[\"']")


def require_extra(extra: str, *modules: str, feature: str) -> None:
    """Look for the modules that an extra brings, without importing them.

    Args:
        extra: The extra of ``stageflow-core``.
        *modules: What it brings, each a top-level module.
        feature: What is asked for, for the message.

    Raises:
        MissingExtraError: One of the modules is not there.

    ```python
    from stageflow.errors import MissingExtraError
    from stageflow.extras import require_extra

    try:
        require_extra("cli", "click", "a_module_of_nobody", feature="The stageflow command")
    except MissingExtraError as error:
        print(error.what)
        #> The stageflow command (which needs 'a_module_of_nobody') needs the extra 'cli', which is not installed
        print(error.fix)
        #> Run: pip install 'stageflow-core[cli]'
    ```
    """
    from importlib.util import find_spec

    for name in modules:
        try:
            found = find_spec(name) is not None
        except ValueError:  # what sys.modules holds under this name is no module
            found = False
        if not found:
            from stageflow.errors import MissingExtraError

            msg = f"{feature} (which needs {name!r})"
            raise MissingExtraError(msg, extra=extra)


def extra_of_plugin(plugin: str) -> str | None:
    """Return the extra of ``stageflow-core`` that installs a plugin; None for a plugin that no extra installs.

    The core names its siblings in its metadata, and nowhere else: that is what is read here.

    Args:
        plugin: The plugin's name.

    ```python
    from stageflow.extras import extra_of_plugin

    print(extra_of_plugin("tools"), extra_of_plugin("acme"))
    #> tools None
    ```
    """
    return _siblings().get(plugin)


@cache
def _siblings() -> Mapping[str, str]:
    from importlib.metadata import PackageNotFoundError, requires

    try:
        needs = requires(_CORE) or []
    except PackageNotFoundError:  # on the path without being installed
        return {}
    found = [match for need in needs if (match := _SIBLING.match(need)) is not None]
    return {match[1]: match[2] for match in found if match[1] != "core"}
