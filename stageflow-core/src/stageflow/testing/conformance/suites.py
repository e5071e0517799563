"""``suites_of``: the classes of tests for an installed distribution, those of its authors and those made for it."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import importlib_metadata
import pytest

from stageflow.config import Configuration
from stageflow.plugins.contributions import (
    CommandContribution,
    Contribution,
    ExecutorContribution,
    InterceptorContribution,
    RunStoreContribution,
    SettingsContribution,
    SinkContribution,
    StageContribution,
    ToolContribution,
)
from stageflow.plugins.loading import describe
from stageflow.plugins.sections import Sections
from stageflow.testing.conformance.installed import contributions_of, host_of, plugins_of
from stageflow.testing.conformance.interceptor import InterceptorConformance
from stageflow.testing.conformance.plugin import PluginConformance
from stageflow.testing.conformance.run_store import RunStoreConformance
from stageflow.testing.conformance.sink import EventSinkConformance
from stageflow.testing.conformance.stage import StageConformance
from stageflow.testing.conformance.suite import Suite
from stageflow.testing.conformance.tool import ToolConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from stageflow.plugins.discovery import Candidate
    from stageflow.plugins.registry import Entry

__all__ = ["GROUP", "Unmade", "suites_of"]

GROUP: Final = "stageflow.conformance"
"""The entry-point group by which a distribution names its module of suites."""


class Unmade(Suite):
    """Stands for a part that could not be made: its one test fails, and says why.

    Attributes:
        reason: Why, and what to do.
    """

    reason: ClassVar[str] = ""

    def test_it_can_be_made(self) -> None:
        """The part can be made without arguments, or the distribution's module of suites says how."""
        pytest.fail(self.reason, pytrace=False)


def suites_of(name: str) -> dict[str, type[Suite]]:
    """Return the classes of tests for a distribution, by names under which pytest collects them.

    These are the classes of the module that the distribution names in the entry-point group ``stageflow.conformance``;
    for each contribution that none of them is about, the plain suite of its kind; and ``PluginConformance`` for each
    of its plugins.

    Args:
        name: The distribution, or one of its plugins.

    Raises:
        ContributionNotFoundError: None of that name brings plugins.

    ```python
    from stageflow.testing.conformance.suites import suites_of

    suites = suites_of("stageflow-core")
    print(suites["TestPlugin_core"].module)
    #> stageflow.plugins.builtin
    ```
    """
    distribution, plugins = plugins_of(name)
    found: list[type[Suite]] = list(_written(distribution))
    said = {(suite.contract, suite.contribution) for suite in found}
    for plugin in plugins:
        for entry in _contributed(plugin):
            record = entry.contribution
            if type(record) in _PLAIN and (record.noun, record.key) not in said:
                found.append(_plain(entry, plugin))
        modules = {getattr(suite, "module", "") for suite in found if issubclass(suite, PluginConformance)}
        if plugin.module not in modules:
            found.append(_made(PluginConformance, plugin.name, module=plugin.module))
    return _named(found)


def _named(suites: Iterable[type[Suite]]) -> dict[str, type[Suite]]:
    names: dict[str, type[Suite]] = {}
    for suite in suites:
        about = re.sub(r"\W", "_", suite.contribution) or suite.__name__.removeprefix("Test")
        name = f"Test{suite.contract.title().replace(' ', '')}_{about}"
        while name in names:
            name += "_"
        names[name] = suite
    return names


def _written(distribution: str) -> Iterator[type[Suite]]:
    """Yield the classes that the authors have written."""
    for point in importlib_metadata.distribution(distribution).entry_points.select(group=GROUP):
        try:
            module = importlib.import_module(point.value)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - one bad module is one failed test
            reason = f"Importing {point.value!r}, of the entry point {point.name!r}, raised {describe(exc)}"
            yield _made(Unmade, point.name, reason=reason)
            continue
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Suite) and value.__module__ == module.__name__:
                yield value


def _contributed(plugin: Candidate) -> list[Entry[Contribution]]:
    try:
        return contributions_of(plugin)
    except ExceptionGroup:
        return []  # PluginConformance says what is wrong with it


def _plain(entry: Entry[Contribution], plugin: Candidate) -> type[Suite]:
    """Return the plain suite for a contribution, or what says that it cannot be made.

    A target that takes ``settings`` is given those of its plugin where nothing is configured.
    """
    record = entry.contribution
    try:
        settings = Sections(Configuration(), host_of(plugin)).given_to(entry)
        target = partial(entry.resolve(), **settings) if settings else entry.resolve()
        return _PLAIN[type(record)](record, target)
    except Exception as exc:  # noqa: BLE001 - whatever the target raises, its suite says
        reason = (
            f"Making {record.noun} {record.key!r} without arguments raised {describe(exc)}. Say how it is made, in a "
            f"class with contribution = {record.key!r} in the module that the entry-point group '{GROUP}' names"
        )
        return _made(Unmade, record.key, contract=record.noun, reason=reason)


def _made(base: type[Suite], contribution: str, **members: Any) -> type[Suite]:
    return type(base.__name__, (base,), {"contribution": contribution, "__module__": __name__, **members})


def _stage(record: Contribution, target: Any) -> type[Suite]:
    def make(_: object = None) -> Any:
        if isinstance(target, type):
            return target()
        is_one = callable(getattr(target, "execute", None)) or inspect.iscoroutinefunction(target)
        return target if is_one else target()

    make()
    return _made(StageConformance, record.key, make_stage=make)


def _tool(record: Contribution, target: Any) -> type[Suite]:
    def make(_: object = None) -> Any:
        is_one = not isinstance(target, type) and callable(getattr(target, "call", None))
        return target if is_one else target()

    required = make().input_schema.get("required")
    if required:
        msg = f"it requires the arguments {', '.join(map(repr, required))}, for which the suite has no values"
        raise ValueError(msg)
    return _made(ToolConformance, record.key, make_tool=make)


def _calling(target: Any, *arguments: str) -> Callable[[object], Any]:
    def make(_: object) -> Any:
        return target(*arguments)

    return make


def _giving(target: Any) -> Callable[[object], Any]:
    def make(_: object) -> Any:
        return target

    return make


def _interceptor(record: Contribution, target: Any) -> type[Suite]:
    target()
    return _made(InterceptorConformance, record.key, make_interceptor=_calling(target))


def _sink(record: Contribution, target: Any) -> type[Suite]:
    return _made(EventSinkConformance, record.key, make_sink=_calling(target))


def _executor(record: Contribution, target: Any) -> type[Suite]:
    from stageflow.testing.conformance.executor import ExecutorConformance

    target()
    return _made(ExecutorConformance, record.key, make_executor=_calling(target))


def _run_store(record: Contribution, target: Any) -> type[Suite]:
    return _made(RunStoreConformance, record.key, make_store=_calling(target, f"{record.key}://"))


def _settings(record: Contribution, target: Any) -> type[Suite]:
    from stageflow.testing.conformance.settings import SettingsConformance

    target()  # which says which fields are required
    return _made(SettingsConformance, record.key, model=target)


def _command(record: Contribution, target: Any) -> type[Suite]:
    from stageflow.testing.conformance.command import CommandConformance

    return _made(CommandConformance, record.key, make_command=_giving(target))


_PLAIN: Final[Mapping[type[Contribution], Callable[[Contribution, Any], type[Suite]]]] = {
    CommandContribution: _command,
    ExecutorContribution: _executor,
    InterceptorContribution: _interceptor,
    RunStoreContribution: _run_store,
    SettingsContribution: _settings,
    SinkContribution: _sink,
    StageContribution: _stage,
    ToolContribution: _tool,
}
"""Makes the plain suite of each kind of contribution; checks of ``doctor`` are looked at by ``PluginConformance``."""
