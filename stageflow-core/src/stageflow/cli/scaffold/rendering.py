"""``render``: the files of a new plugin, made of the templates that belong to what it contributes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Final, final

from stageflow.cli.scaffold.imports import import_block, listed
from stageflow.config.environment import variable_of
from stageflow.plugins.api_version import HOOK_API

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from stageflow.cli.scaffold.kinds import Kind
    from stageflow.cli.scaffold.naming import PluginName

__all__ = ["NewPlugin", "core_range", "render"]

_SUFFIX: Final = ".tmpl"
_RENAMED: Final = {"github": ".github", "gitignore": ".gitignore"}
"""How files are called whose own names would be taken for this repository's."""

_SETTINGS: Final = "settings"
_SETTING: Final = {"stage": "keywords", "sink": "waiting"}
"""A whole number among the settings of each kind that has some."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class NewPlugin:
    """What there is to know before a plugin can be written."""

    name: PluginName
    kinds: tuple[Kind, ...]
    """What it contributes, in the order of ``KINDS``."""

    description: str
    author: str
    year: int
    core_version: str
    """The version of ``stageflow-core`` that it is written for."""

    @property
    def configured(self) -> tuple[str, ...]:
        """The kinds that take settings, if it has settings."""
        chosen = [kind.name for kind in self.kinds]
        return tuple(name for name in chosen if name in _SETTING) if _SETTINGS in chosen else ()


def core_range(version: str) -> str:
    """Return the versions of the core that a plugin written for *version* works with, as a requirement has it.

    That is this one and those that may not break it. Of a release the patch does not count; of a pre-release all does.

    Args:
        version: The version of ``stageflow-core``.

    ```python
    from stageflow.cli.scaffold.rendering import core_range

    print(core_range("2.0.0a1"), core_range("2.3.1"))
    #> >=2.0.0a1,<3 >=2.3,<3
    ```
    """
    from packaging.version import Version

    parsed = Version(version)
    lowest = parsed.public if parsed.is_prerelease else f"{parsed.major}.{parsed.minor}"
    return f">={lowest},<{parsed.major + 1}"


def render(new: NewPlugin) -> dict[str, str]:
    """Return the text of every file of a new plugin, by its path within the folder of the distribution.

    Args:
        new: The plugin.

    ```python
    from stageflow.cli.scaffold.kinds import KINDS
    from stageflow.cli.scaffold.naming import PluginName
    from stageflow.cli.scaffold.rendering import NewPlugin, render

    new = NewPlugin(
        name=PluginName.parse("demo"),
        kinds=(KINDS["tool"],),
        description="A tool.",
        author="Ada",
        year=2026,
        core_version="2.0.0",
    )
    print([path for path in render(new) if path.endswith("tool.py")])
    #> ['src/stageflow_demo/tool.py', 'tests/test_tool.py']
    ```
    """
    values = _Values(new).all()
    texts: dict[str, str] = {}
    for folder in _folders(new):
        for path, template in _tree(_templates() / folder):
            texts[_placed(path, new.name.package)] = Template(template).substitute(values)
    return dict(sorted(texts.items()))


def _templates() -> Traversable:
    return files("stageflow.cli.scaffold") / "templates"


def _folders(new: NewPlugin) -> list[str]:
    """Return the folders of templates; what a later one has takes the place of the same in an earlier one."""
    shared = dict.fromkeys(share for kind in new.kinds for share in kind.shares)
    named = [*shared, *(kind.name for kind in new.kinds), *(f"{name}+{_SETTINGS}" for name in new.configured)]
    return ["project", *(f"{name}/tree" for name in named)]


def _tree(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every file below a folder, with its path and its text."""
    for one in folder.iterdir():
        if one.is_dir():
            yield from _tree(one, f"{prefix}{one.name}/")
        else:
            yield f"{prefix}{one.name}", one.read_text("utf-8")


def _placed(path: str, package: str) -> str:
    parts = path.removesuffix(_SUFFIX).split("/")
    return "/".join(package if part == "package" else _RENAMED.get(part, part) for part in parts)


@final
class _Values:
    """What stands in the templates: names, and what several kinds contribute to one file."""

    def __init__(self, new: NewPlugin) -> None:
        self._new = new
        name = new.name
        setting = next((_SETTING[kind] for kind in new.configured), "timeout")
        self._names = {
            "plugin": name.plugin,
            "distribution": name.distribution,
            "package": name.package,
            "prefix": name.prefix,
            "scheme": name.scheme,
            "description": new.description,
            "description_toml": _toml(new.description),
            "author": new.author,
            "author_toml": _toml(new.author),
            "year": str(new.year),
            "hook_api": str(HOOK_API),
            "core_range": core_range(new.core_version),
            "setting": setting,
            "variable": variable_of((name.plugin, setting)),
        }
        self._names["setting_examples"] = self._of_settings("example")

    def all(self) -> dict[str, str]:
        """Return the value of every placeholder."""
        suites = self._parts("suite")
        return {
            **self._names,
            "dependencies": self._dependencies(),
            "plugin_imports": self._plugin_imports(),
            "plugin_all": self._plugin_all(),
            "hooks": "\n\n\n".join(self._hooks()),
            "conformance_imports": self._conformance_imports(),
            "conformance_all": self._conformance_all(),
            "suites": f"\n{suites}" if suites else "",
            "keys": "\n".join(f'        "{key}",' for key in sorted(set(map(self._key, self._new.kinds)))),
            "contributions": "\n".join(self._contributions()),
            "usage": self._parts("usage"),
            "files": "\n".join(self._files()),
            "changes": "\n".join(f"- Add {kind.phrase} that {kind.does}." for kind in self._new.kinds),
            "fields": self._of_settings("field"),
            "settings_imports": self._settings_imports(),
        }

    def _dependencies(self) -> str:
        core = f"stageflow-core{self._names['core_range']}"
        others = sorted({one for kind in self._new.kinds for one in kind.requires})
        return "\n".join(f'  "{one}",' for one in (core, *others))

    # --- plugin.py --------------------------------------------------------------------------------

    def _by_hook(self) -> dict[str, list[Kind]]:
        hooks: dict[str, list[Kind]] = {}
        for kind in self._new.kinds:
            hooks.setdefault(kind.hook, []).append(kind)
        return hooks

    def _plugin_imports(self) -> str:
        names = [kind.record for kind in self._new.kinds]
        wanted = [f"stageflow.plugins:{name}" for name in (*names, "hookimpl")]
        return import_block(wanted, self._new.name.package)

    def _plugin_all(self) -> str:
        names = sorted(["stageflow_api_version", *self._by_hook()])
        return listed("__all__ = [", (f'"{name}"' for name in names), "]")

    def _hooks(self) -> Iterator[str]:
        for hook, kinds in self._by_hook().items():
            records = " | ".join(kind.record for kind in kinds)
            what = " and ".join(kind.phrase for kind in kinds)
            lines = [
                "@hookimpl",
                f"def {hook}() -> list[{records}]:",
                f'    """Contribute {what}."""',
                "    return [",
                *(self._part(kind, "record").rstrip("\n") for kind in kinds),
                "    ]",
            ]
            yield "\n".join(lines)

    # --- conformance.py ---------------------------------------------------------------------------

    def _conformance_imports(self) -> str:
        suites = [f"stageflow.testing.conformance:{kind.suite}" for kind in self._new.kinds if kind.suite]
        others = [self._fill(one) for kind in self._new.kinds for one in kind.suite_imports]
        wanted = ["stageflow.testing.conformance:PluginConformance", *suites, *others]
        return import_block(wanted, self._new.name.package)

    def _conformance_all(self) -> str:
        classes = [f"Test{kind.name.title().replace('-', '')}" for kind in self._new.kinds if kind.suite]
        return listed("__all__ = [", (f'"{name}"' for name in sorted(["TestPlugin", *classes])), "]")

    # --- README.md --------------------------------------------------------------------------------

    def _contributions(self) -> Iterator[str]:
        for kind in self._new.kinds:
            yield f"| `{self._key(kind)}` | {kind.phrase} that {kind.does} |"

    def _files(self) -> Iterator[str]:
        folder = f"src/{self._new.name.package}"
        shared = dict.fromkeys(share for kind in self._new.kinds for share in kind.shares)
        for module in shared:
            yield f"| `{folder}/{module}.py` | what the package is about, without a word of Stageflow |"
        for kind in self._new.kinds:
            yield f"| `{folder}/{kind.module}.py`, `tests/test_{kind.module}.py` | {kind.phrase}, and its tests |"

    # --- settings.py ------------------------------------------------------------------------------

    def _of_settings(self, part: str) -> str:
        """Return a part of each kind that takes settings, or the part that settings have without them."""
        folders = [f"{name}+{_SETTINGS}" for name in self._new.configured] or [_SETTINGS]
        return "".join(self._read(f"{folder}/{part}") for folder in folders).rstrip("\n")

    def _settings_imports(self) -> str:
        paths = ["pathlib:Path"] if "sink" in self._new.configured else []
        wanted = [
            *paths,
            "typing:final",
            *(f"pydantic:{name}" for name in ("BaseModel", "ConfigDict", "Field")),
        ]
        return import_block(wanted, self._new.name.package)

    # --- parts ------------------------------------------------------------------------------------

    def _key(self, kind: Kind) -> str:
        return self._fill(kind.key)

    def _parts(self, part: str) -> str:
        return "".join(self._part(kind, part) for kind in self._new.kinds).rstrip("\n")

    def _part(self, kind: Kind, part: str) -> str:
        if part == "suite" and not kind.suite:
            return ""
        return self._read(f"{kind.name}/{part}")

    def _read(self, path: str) -> str:
        return self._fill((_templates() / f"{path}{_SUFFIX}").read_text("utf-8"))

    def _fill(self, template: str) -> str:
        return Template(template).substitute(self._names)


def _toml(text: str) -> str:
    """Return a line of printable text as a string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)
