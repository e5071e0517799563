"""The core's own sections: which plugins, which interceptors in which order, and where events go."""

from __future__ import annotations

from typing import final

from pydantic import BaseModel, ConfigDict, Field  # noqa: TID253 - this module is imported when a section is read

__all__ = ["EventsSettings", "InterceptorsSettings", "NoSettings", "PluginsSettings"]


@final
class PluginsSettings(BaseModel):
    """``[plugins]``: which plugins are loaded. It is read before any of them is imported.

    ```python
    from stageflow.config.sections import PluginsSettings

    print(PluginsSettings(disabled=["acme"]))
    #> enabled=None disabled=['acme'] strict=False local='project'
    ```
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: list[str] | None = Field(
        None, description="The only plugins to load; without it, all that are installed."
    )
    disabled: list[str] = Field([], description="Plugins not to load; '*' for all.")
    strict: bool = Field(False, description="Whether what is wrong with any plugin stops the program.")
    local: str = Field(
        "project", description="The name of the plugin in stageflow_plugin.py, beside stageflow.toml."
    )


@final
class InterceptorsSettings(BaseModel):
    """``[interceptors]``: what is in the chain around every stage that nobody spelled out, and in which order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: list[str] = Field(
        [], description="Interceptors that are in the chain, in this order, outermost first."
    )
    disabled: list[str] = Field([], description="Interceptors that are not in the chain.")


@final
class EventsSettings(BaseModel):
    """``[events]``: where the events of every run go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sinks: list[str] = Field([], description="The sinks, by name.")


@final
class NoSettings(BaseModel):
    """A section without keys: that of a plugin which has sections within it only, as ``[acme.cache]``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
