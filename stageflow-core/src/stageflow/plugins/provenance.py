"""``Provenance``: who brought a contribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Provenance"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Provenance:
    """The plugin, distribution and version that a contribution comes from.

    ```python
    from stageflow.plugins.provenance import Provenance

    print(Provenance(plugin="acme", distribution="stageflow-acme", version="1.2", module="acme.plugin"))
    #> plugin 'acme' (stageflow-acme 1.2)
    ```
    """

    plugin: str
    """The plugin's name: the name of its entry point."""

    distribution: str
    """The name of the distribution that registers the entry point."""

    version: str | None
    """The distribution's version, or None where its metadata states none."""

    module: str
    """The plugin module that the entry point names."""

    file: str = ""
    """The file of a project's own plugin, which no distribution brings; else empty."""

    @property
    def release(self) -> str:
        """The distribution with its version, as ``stageflow-acme 1.2``; of a project's own plugin, its file."""
        if self.file:
            return f"project file {self.file}"
        return f"{self.distribution} {self.version or '(version unknown)'}"

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.release})"
