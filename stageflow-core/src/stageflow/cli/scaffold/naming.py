"""``PluginName``: one word, and how the distribution, the package, the plugin and its classes are called after it."""

from __future__ import annotations

import keyword
import re
import unicodedata
from dataclasses import dataclass
from typing import Final, final

import click

from stageflow.extras import extra_of_plugin
from stageflow.plugins.names import CORE, CORE_SECTIONS, canonical, is_bare

__all__ = ["LONGEST", "PluginName"]

LONGEST: Final = 32
"""How many characters a plugin's name may have: so that the lines in which it stands stay within their width."""

_FAMILY: Final = "stageflow"
_PREFIX: Final = f"{_FAMILY}-"


@final
@dataclass(frozen=True, slots=True)
class PluginName:
    """How everything about a new plugin is called.

    Make one with ``parse``.

    ```python
    from stageflow.cli.scaffold.naming import PluginName

    name = PluginName.parse("Demo_X")
    print(name.distribution, name.package, name.plugin, name.prefix)
    #> stageflow-demo-x stageflow_demo_x demo_x DemoX
    print(PluginName.parse("stageflow-demo-x") == name)
    #> True
    ```
    """

    plugin: str
    """The plugin, and what stands before the dot of everything that it contributes: ``demo_x``."""

    @classmethod
    def parse(cls, name: str) -> PluginName:
        """Return the names that are made of one, in any spelling, with ``stageflow-`` before it or without.

        Args:
            name: As it was typed: ``demo``, ``stageflow-demo``, ``Demo_X``.

        Raises:
            click.BadParameter: It breaks the grammar of names, or belongs to somebody or something else.
        """
        word = canonical(name).removeprefix(_PREFIX).replace("-", "_")
        if not is_bare(word):
            why = "a name is of the letters a to z, digits, '-' and '_', and begins with a letter"
            raise _refusal(name, why, _near(word))
        if len(word) > LONGEST:
            why = f"it has {len(word)} characters, and {LONGEST} are the most"
            raise _refusal(name, why, f"Take a shorter one, as {word[:LONGEST].rstrip('_')!r}.")
        why = _taken(word)
        if why:
            raise _refusal(name, why, f"Take another one, as {_PREFIX + 'acme'!r}.")
        return cls(word)

    @property
    def distribution(self) -> str:
        """What is installed: ``stageflow-demo-x``."""
        return canonical(_PREFIX + self.plugin)

    @property
    def package(self) -> str:
        """What is imported: ``stageflow_demo_x``."""
        return self.distribution.replace("-", "_")

    @property
    def prefix(self) -> str:
        """What its own classes begin with: ``DemoX``."""
        return "".join(part.capitalize() for part in self.plugin.split("_"))

    @property
    def scheme(self) -> str:
        """What stands before ``://`` in the URL of its run store: ``demo-x+sqlite``."""
        return f"{self.plugin.replace('_', '-')}+sqlite"


def _refusal(name: str, why: str, fix: str) -> click.BadParameter:
    return click.BadParameter(f"A plugin cannot be called {name!r}: {why}. {fix}")


def _taken(word: str) -> str:
    """Say to whom or what a name belongs; an empty string if it is free."""
    if word == CORE:
        return "it is the name of the core itself"
    if word == _FAMILY or word.startswith(f"{_FAMILY}_"):
        return f"{_PREFIX!r} is put before it anyway"
    if extra_of_plugin(word.replace("_", "-")) is not None:
        return f"stageflow-{word} is a part of Stageflow"
    if word in CORE_SECTIONS:
        return f"[{word}] is a section of Stageflow's own configuration"
    if keyword.iskeyword(word):
        return "it is a keyword of Python"
    return ""


def _near(word: str) -> str:
    """Return the sentence that names what is nearest to a name and is one."""
    plain = (
        unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode("ascii")
    )  # é is e and an accent
    rest = re.sub(r"[^a-z0-9]+", "_", plain).strip("_").lstrip("0123456789_")[:LONGEST].rstrip("_")
    return f"Did you mean {rest!r}?" if is_bare(rest) and not _taken(rest) else "Take one as 'acme'."
