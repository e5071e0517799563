"""``PluginConformance``: what every plugin promises as a whole, as tests."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import importlib_metadata
import pytest
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from stageflow.plugins.api_version import API_ATTRIBUTE, HOOK_API, check_api_version
from stageflow.plugins.context import PluginContext
from stageflow.plugins.contributions import CheckContribution, InterceptorContribution, StageContribution
from stageflow.plugins.discovery import CORE_DISTRIBUTION
from stageflow.plugins.hookspecs import HOOKS
from stageflow.plugins.names import canonical
from stageflow.testing.conformance.dependencies import required_by, root_folder, undeclared
from stageflow.testing.conformance.installed import contributions_of, packages_of, plugin_at
from stageflow.testing.conformance.suite import Suite
from stageflow.testing.conformance.watched_import import WatchedImport, watched_import

if TYPE_CHECKING:
    from types import ModuleType

    from stageflow.plugins.contributions import Contribution
    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.registry import Entry

__all__ = ["PluginConformance"]

_LIGHT: Final = ("stageflow.plugins.contributions", "stageflow.plugins.context", "stageflow.plugins.markers")
"""What every plugin module needs: its import is nobody's cost."""

_CORE: Final = (
    "asyncio",
    "stageflow.app",
    "stageflow.events.backpressure",
    "stageflow.interceptors.defaults",
    "stageflow.pipeline",
    "stageflow.plugins.host",
    "stageflow.runtime.graph",
    "stageflow.stages.typed",
)
"""The parts of the core that somebody might patch; imported first, so that it shows."""

_HEAVY: Final = {"asyncio", "multiprocessing", "sqlite3", "tkinter", "unittest", "xml"}
_OURS: Final = {"stageflow", "typing_extensions"}
_GRAVE: Final = (
    "added ",
    "changed the environment",
    "changed the handler",
    "removed ",
    "replaced ",
    "started ",
)
"""How effects begin that no import may have, also none of a target, which may bring a library with habits."""


class PluginConformance(Suite):
    """Derive from it in a module of tests, name the plugin's module, and inherit the tests.

    The plugin must be installed, as an editable install for instance. Its imports are watched in interpreters of their
    own.

    Attributes:
        module: The module that the entry point of the plugin names.
        import_budget: How many modules its import may add to those that every plugin needs.

    ```python
    from stageflow.testing.conformance import PluginConformance


    class TestPlugin(PluginConformance):
        module = "stageflow_acme.plugin"
    ```
    """

    contract: ClassVar[str] = "plugin"
    module: ClassVar[str]
    import_budget: ClassVar[int] = 20

    # --- what its metadata says -------------------------------------------------------------------------

    def test_it_is_registered(self) -> None:
        """An entry point of the group ``stageflow`` names the module, and its distribution has a version."""
        plugin = self._plugin()
        assert plugin.version, f"{plugin.distribution} has no version"
        try:
            Version(plugin.version)
        except InvalidVersion:
            pytest.fail(f"{plugin.version!r} is no version (PEP 440)")

    def test_its_metadata_is_complete(self) -> None:
        """The distribution says in a line what it is, and which versions of Python it runs on."""
        metadata: Any = self._distribution().metadata
        assert metadata.get("Summary"), "pyproject.toml has no 'description'"
        assert metadata.get("Requires-Python"), "pyproject.toml has no 'requires-python'"

    def test_it_requires_a_range_of_the_core(self) -> None:
        """It requires ``stageflow-core`` with a lower and an upper bound: namesakes and what may break it stay out."""
        if canonical(self._plugin().distribution) == CORE_DISTRIBUTION:
            pytest.skip("it is the core")
        line = required_by(self._distribution()).get(CORE_DISTRIBUTION)
        assert line is not None, f"it does not require {CORE_DISTRIBUTION}"
        operators = {one.operator for one in Requirement(line).specifier}
        assert operators & {">=", ">", "==", "~="}, f"{line!r} has no lower bound"
        assert operators & {"<", "<=", "==", "~="}, f"{line!r} has no upper bound"

    def test_it_requires_what_it_imports(self) -> None:
        """Whatever its files import is its own, Python's, or of a distribution that it requires, if in an extra."""
        problems = undeclared(self._distribution(), packages_of(self._plugin()))
        assert not problems, "\n".join(problems)

    def test_it_is_typed(self) -> None:
        """Its packages have a ``py.typed``, so that checkers see the types of what it brings."""
        roots = {package: root_folder(package) for package in packages_of(self._plugin())}
        untyped = [
            package
            for package, root in sorted(roots.items())
            if root is not None and root.is_dir() and not (root / "py.typed").exists()
        ]
        assert not untyped, f"these have no py.typed: {', '.join(untyped)}"

    # --- its import -------------------------------------------------------------------------------------

    def test_its_import_goes_well(self) -> None:
        """The module imports in a new interpreter: it does not raise, exit or hang."""
        done = _imported(self.module)
        assert not done.error, f"importing {self.module}: {done.error}"

    def test_its_import_is_light(self) -> None:
        """The module imports no library, nothing heavy of Python's, and few modules: every program pays for it."""
        done = _imported(self.module)
        own = packages_of(self._plugin())
        roots = {name.partition(".")[0] for name in done.modules}
        foreign = sorted(
            root
            for root in roots - own - _OURS
            if root not in sys.stdlib_module_names and not root.startswith("_")
        )
        assert not foreign, (
            f"importing {self.module} imports {', '.join(foreign)}: import that where it is used"
        )
        heavy = sorted(roots & _HEAVY)
        assert not heavy, f"importing {self.module} imports {', '.join(heavy)}: import that where it is used"
        count = len(done.modules)
        assert count <= self.import_budget, (
            f"importing {self.module} imports {count} modules, more than {self.import_budget}: {' '.join(done.modules)}"
        )

    def test_its_import_has_no_effects(self) -> None:
        """Its import, and its hooks, start no thread or process, open no file or socket, and change nothing.

        Not the environment, not signal handlers, not logging, not Python's own modules, and nothing of Stageflow's.
        """
        done = watched_import(self.module, before=_CORE, calls=sorted(HOOKS))
        assert not done.error, f"importing {self.module}: {done.error}"
        assert not done.effects, f"importing {self.module}: it {'; it '.join(done.effects)}"

    def test_its_targets_have_no_effects(self) -> None:
        """Nor do the modules of what it contributes patch, start or re-define anything when they are imported."""
        modules = sorted(
            {
                entry.contribution.source.partition(":")[0]
                for entry in self._contributions()
                if isinstance(entry.contribution.source, str)
            }
        )
        if not modules:
            pytest.skip("it contributes nothing by an import string")
        done = watched_import(*modules, before=_CORE)
        assert not done.error, f"importing {', '.join(modules)}: {done.error}"
        grave = [effect for effect in done.effects if effect.startswith(_GRAVE)]
        assert not grave, f"importing {', '.join(modules)}: it {'; it '.join(grave)}"

    # --- its hooks --------------------------------------------------------------------------------------

    def test_it_states_its_hook_api(self) -> None:
        """The module has ``stageflow_api_version``, a whole number that this core understands."""
        stated = vars(self._imported_module()).get(API_ATTRIBUTE)
        assert stated is not None, f"{self.module} has no {API_ATTRIBUTE}: write {API_ATTRIBUTE} = {HOOK_API}"
        check_api_version(stated, self._plugin().provenance)

    def test_its_hooks_are_well_formed(self) -> None:
        """The host takes it in strict mode: every hook is known and plain, and returns records that are its own."""
        contributions_of(self._plugin())

    def test_its_hooks_are_declarative(self) -> None:
        """A hook that is asked twice says the same."""
        module = self._imported_module()
        plugin = self._plugin()
        context = PluginContext(api_version=HOOK_API, plugin=plugin.name, core_version="2.0.0")
        for name in self._hooks():
            hook: Any = getattr(module, name)
            arguments = (context,) if hook.__code__.co_argcount else ()
            assert list(hook(*arguments)) == list(hook(*arguments)), f"{name} says something else each time"

    def test_everything_has_a_summary(self) -> None:
        """Every contribution that can have a summary has one, of one line, for lists and help."""
        silent = [
            entry.contribution.key
            for entry in self._contributions()
            if not _is_line(getattr(entry.contribution, "summary", "none is taken"))
        ]
        assert not silent, f"these have no summary of one line: {', '.join(silent)}"

    # --- its targets ------------------------------------------------------------------------------------

    def test_every_target_is_there(self) -> None:
        """Every import string leads to something."""
        for entry in self._contributions():
            entry.resolve()

    def test_targets_are_what_they_are_contributed_as(self) -> None:
        """The kind of a stage, and the priority of an interceptor, are the same in the record and in the target."""
        for entry in self._contributions():
            record, target = entry.contribution, entry.resolve()
            if isinstance(record, StageContribution):
                kind = getattr(target, "kind", record.kind)
                assert str(getattr(kind, "value", kind)) == record.kind, f"{entry} is of kind {kind}"
            elif isinstance(record, InterceptorContribution):
                priority = getattr(target, "priority", record.priority)
                assert priority == record.priority, f"{entry} has priority {priority}"
                name = getattr(target, "name", record.name)
                assert name == record.name, f"{entry} is called {name!r}"

    def test_its_checks_answer(self) -> None:
        """A check for ``stageflow doctor`` returns None or a sentence; it does not raise."""
        checks = [
            entry for entry in self._contributions() if isinstance(entry.contribution, CheckContribution)
        ]
        if not checks:
            pytest.skip("it contributes no checks")
        for entry in checks:
            answer: object = self._bounded(entry.resolve())
            assert answer is None or isinstance(answer, str), f"{entry} returned {answer!r}"

    # --- how it is proved -------------------------------------------------------------------------------

    def _plugin(self) -> Candidate:
        plugin = plugin_at(self.module)
        assert plugin is not None, (
            f"no installed distribution has an entry point of the group 'stageflow' that names {self.module!r}"
        )
        return plugin

    def _distribution(self) -> Any:
        return importlib_metadata.distribution(self._plugin().distribution)

    def _imported_module(self) -> ModuleType:
        return importlib.import_module(self.module)

    def _hooks(self) -> list[str]:
        return [name for name in HOOKS if callable(vars(self._imported_module()).get(name))]

    def _contributions(self) -> list[Entry[Contribution]]:
        return contributions_of(self._plugin())


@cache
def _imported(module: str) -> WatchedImport:
    return watched_import(module, before=_LIGHT)


def _is_line(summary: object) -> bool:
    return isinstance(summary, str) and bool(summary.strip()) and "\n" not in summary
