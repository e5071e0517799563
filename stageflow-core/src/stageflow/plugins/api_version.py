"""The hook API version, and the verdict about a plugin that states one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stageflow.errors import PluginApiError, shown

if TYPE_CHECKING:
    from stageflow.plugins.provenance import Provenance

__all__ = ["API_ATTRIBUTE", "HOOK_API", "OLDEST_HOOK_API", "check_api_version"]

HOOK_API: Final = 1
"""The hook API that this core speaks. It rises only when something changes incompatibly."""

OLDEST_HOOK_API: Final = 1
"""The oldest hook API that this core still understands."""

API_ATTRIBUTE: Final = "stageflow_api_version"
"""The attribute of a plugin module that states the hook API it was written for."""


def check_api_version(
    stated: object, provenance: Provenance, *, oldest: int = OLDEST_HOOK_API, newest: int = HOOK_API
) -> int:
    """Return the hook API that a plugin was written for.

    Args:
        stated: The value of the module's ``stageflow_api_version``, or None where it has none.
        provenance: The plugin, for the message.
        oldest: The oldest hook API understood.
        newest: The newest hook API understood.

    Raises:
        PluginApiError: The version is not understood, or not a whole number.
    """
    if stated is None:
        # Version 1 had no predecessor, so a plugin that states nothing can only mean 1.
        return 1
    # The exact type: a bool is no version, and a subclass may compare and print as it likes.
    if type(stated) is not int:
        what = f"{API_ATTRIBUTE} is {shown(stated)}, where a whole number is expected"
        fix = f"Write {API_ATTRIBUTE} = {newest} in {provenance.module}"
    elif stated > newest:
        what = f"It is written for hook API {stated}; this core speaks {_range(oldest, newest)}"
        fix = (
            f"Install a stageflow-core that speaks hook API {stated} (pip install --upgrade stageflow-core), "
            f"or a release of {provenance.distribution} written for {_range(oldest, newest)}"
        )
    elif stated < oldest:
        what = f"It is written for hook API {stated}; this core speaks {_range(oldest, newest)}"
        fix = (
            f"Install a release of {provenance.distribution} written for hook API {_range(oldest, newest)}: "
            f"pip install --upgrade {provenance.distribution}"
        )
    else:
        return stated
    raise PluginApiError(what, plugin=provenance.plugin, distribution=provenance.release, fix=fix)


def _range(oldest: int, newest: int) -> str:
    return str(newest) if oldest == newest else f"{oldest} to {newest}"
