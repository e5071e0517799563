"""The configuration: files, environment and code, merged key by key, each value with where it came from.

From strongest to weakest: what the program says itself, ``STAGEFLOW_<SECTION>__<KEY>`` of the environment,
``stageflow.toml``, the table ``[tool.stageflow]`` of ``pyproject.toml``, and the defaults of a section's pydantic
model.

```python
from pydantic import BaseModel
from stageflow.config import Configuration


class AcmeSettings(BaseModel):
    retries: int = 3


config = Configuration({"acme": {"retries": 5}})
print(config.read("acme", AcmeSettings).retries)
#> 5
```

Nothing is read before somebody asks, and pydantic is imported with the first section that has a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.config.configuration import Configuration
    from stageflow.config.origin import Origin, OriginKind
    from stageflow.config.problems import SettingsError, SettingsProblem
    from stageflow.config.secrets import MASK
    from stageflow.config.section import Section, Setting

__all__ = [
    "MASK",
    "Configuration",
    "Origin",
    "OriginKind",
    "Section",
    "Setting",
    "SettingsError",
    "SettingsProblem",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "configuration": ("Configuration",),
            "origin": ("Origin", "OriginKind"),
            "problems": ("SettingsError", "SettingsProblem"),
            "section": ("Section", "Setting"),
            "secrets": ("MASK",),
        },
    )
