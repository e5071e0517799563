"""``Sections``: the configuration, read through the models that plugins contribute."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any, Final, cast, final

from stageflow.config.fields import is_model
from stageflow.config.problems import SECTION_CODE, VALUE_CODE, SettingsError, SettingsProblem
from stageflow.errors import ContributionInvalidError, PluginError, StageflowError, close_matches, shown
from stageflow.plugins.names import CORE_SECTIONS, canonical
from stageflow.plugins.report import PluginState

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic import BaseModel

    from stageflow.config import Configuration, Section, Setting
    from stageflow.plugins.contributions import SettingsContribution
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.registry import Entry

__all__ = ["Sections", "takes_settings"]

_PARAMETER: Final = "settings"

_logger = logging.getLogger("stageflow.plugins")


@final
class Sections:
    """The configuration of one app, section by section.

    A section is read, and its model imported, when somebody asks for it, or by ``check`` when the configuration
    mentions it.

    Args:
        config: The configuration.
        host: The plugins, whose models these are.

    ```python
    from stageflow.config import Configuration
    from stageflow.plugins import PluginHost
    from stageflow.plugins.sections import Sections

    sections = Sections(Configuration({"interceptors": {"disabled": ["tracing"]}}), PluginHost(()))
    print(sections.read("interceptors"))
    #> order=[] disabled=['tracing']
    ```
    """

    __slots__ = ("_checked", "_config", "_host", "_read")

    def __init__(self, config: Configuration, host: PluginHost) -> None:
        self._config = config
        self._host = host
        self._read: dict[str, Section] = {}
        self._checked = False

    def read(self, name: str) -> BaseModel:
        """Return a section as its validated model.

        Raises:
            SettingsError: Something is wrong with the section, or with a file.
            ContributionNotFoundError: Nobody contributes such a section; the error says why, if somebody failed to.
            ContributionInvalidError: What its plugin names is no model.
        """
        section = self._section(name, self._host.settings()[name])
        if self._config.problems:
            raise SettingsError([*self._config.problems, *section.problems])
        return section.values

    def check(self) -> None:
        """Check every section that the configuration mentions; once, unless something is wrong.

        Raises:
            SettingsError: With everything that is wrong.
        """
        if not self._checked:
            # Without a word of configuration there is nothing to ask plugins for.
            said = bool(self._config.sections) or bool(self._config.problems)
            problems = [*self.problems()] if said else []
            if problems:
                raise SettingsError(problems)
            self._checked = True

    def problems(self) -> Iterator[SettingsProblem]:
        """Yield everything that is wrong: with files, sections that are nobody's, keys, values, and the names in them.

        What is wrong with a plugin's model is no mistake of the configuration: it is logged, as the host logs what is
        wrong with plugins, and an error for whoever reads the section.
        """
        yield from self._config.problems
        yield from self._unknown_sections()
        for name, entry in self._mentioned():
            try:
                yield from self._section(name, entry).problems
            except StageflowError as error:
                _logger.warning("%s", error)
        yield from self._stray_keys()
        yield from self._unknown_names()

    def settings(self, section: str = "") -> Iterator[Setting]:
        """Yield each value of each section that can be read, or of one, with where it comes from; secrets are masked.

        Args:
            section: The only section to look at, with those within it.
        """
        for name, entry in self._host.settings().items():
            if not section or name == section or name.startswith(f"{section}."):
                try:
                    yield from self._section(name, entry).settings
                except StageflowError:
                    continue  # ``problems`` says so

    def given_to(self, entry: Entry[Any]) -> dict[str, BaseModel]:
        """Return the ``settings`` for a target that takes them: the section of its own name, or its plugin's.

        Raises:
            ContributionInvalidError: It takes them, and its plugin contributes none.
            SettingsError: Something is wrong with the section.
            LazyImportError: The target does not resolve.
        """
        required = takes_settings(entry.resolve())
        if required is None:
            return {}
        sections = self._host.settings()
        for name in (entry.contribution.key, entry.provenance.plugin):
            if name in sections:
                return {_PARAMETER: self.read(name)}
        if not required:
            return {}
        provenance = entry.provenance
        msg = f"{entry} takes settings, and its plugin contributes no section of the configuration"
        raise ContributionInvalidError(
            msg,
            plugin=provenance.plugin,
            distribution=provenance.release,
            fix=f"Return [SettingsContribution(section={provenance.plugin!r}, model=...)] from 'stageflow_settings'",
        )

    # --- inside -----------------------------------------------------------------------------------

    def _section(self, name: str, entry: Entry[SettingsContribution]) -> Section:
        if name not in self._read:
            model: object = entry.resolve()
            if not is_model(model):
                provenance = entry.provenance
                msg = f"The model of {entry} is {shown(model)}, which is no pydantic model"
                raise ContributionInvalidError(
                    msg,
                    plugin=provenance.plugin,
                    distribution=provenance.release,
                    fix="Name a class that derives from pydantic.BaseModel",
                )
            inner = [other for other in self._host.settings() if other.startswith(f"{name}.")]
            self._read[name] = self._config.section(name, model, inner=inner)
        return self._read[name]

    def _mentioned(self) -> Iterator[tuple[str, Entry[SettingsContribution]]]:
        for name, entry in self._host.settings().items():
            if self._config.mentions(name):
                yield name, entry

    def _unknown_sections(self) -> Iterator[SettingsProblem]:
        known = {name.partition(".")[0] for name in (*CORE_SECTIONS, *self._host.settings())}
        spellings = {canonical(name) for name in known}
        report = self._host.load()
        states = {canonical(status.candidate.name): status for status in report.plugins}
        for name, origin in self._config.sections.items():
            status = states.get(canonical(name))
            if canonical(name) in spellings:
                continue
            if status is not None and status.state is not PluginState.LOADED:
                continue  # it has been said why, and a pipeline that does not need the plugin works without it
            what = f"There is no section {name!r} ({origin}): "
            if status is not None:
                what += f"the {status.candidate.provenance} has no settings"
                fix = "Take the section out"
            else:
                what += "no plugin of that name is installed"
                fix = close_matches(name, known) or f"Install the plugin {name!r}, or take the section out"
            yield SettingsProblem(code=SECTION_CODE, message=what, fix=fix, path=name, origin=origin)

    def _stray_keys(self) -> Iterator[SettingsProblem]:
        """Yield keys beside the sections of a plugin that has sections within its own only, as ``[acme.cache]``."""
        known = self._host.settings()
        for name in {section.partition(".")[0] for section in known} - set(known):
            if self._config.mentions(name):
                from stageflow.config.sections import NoSettings

                inner = [section for section in known if section.startswith(f"{name}.")]
                yield from self._config.section(name, NoSettings, inner=inner).problems

    def _unknown_names(self) -> Iterator[SettingsProblem]:
        """Yield names of interceptors and sinks that nobody contributes; not those of plugins that are disabled."""
        wanted: tuple[tuple[str, str, Iterable[str]], ...] = (
            ("interceptors", "order", self._host.interceptors()),
            ("interceptors", "disabled", self._host.interceptors()),
            ("events", "sinks", self._host.sinks()),
        )
        for section, key, known in wanted:
            found = self._read.get(section)
            if found is None or found.problems:
                continue
            names: Sequence[str] = getattr(found.values, key)
            (origin,) = (one.origin for one in found.settings if one.path == f"{section}.{key}")
            for name in dict.fromkeys(names):
                problem = self._unknown_name(name, known)
                if problem is not None and not (key == "disabled" and self._owner_is_installed(name)):
                    message = f"{section}.{key} names {name!r} ({origin}): {problem[0]}"
                    path = f"{section}.{key}"
                    yield SettingsProblem(
                        code=VALUE_CODE, message=message, fix=problem[1], path=path, origin=origin
                    )
        yield from self._contradictions()

    def _unknown_name(self, name: str, known: Iterable[str]) -> tuple[str, str] | None:
        registry = cast("Any", known)
        if name in registry or self._owner_is_disabled(name):
            return None
        try:
            registry[name]
        except PluginError as error:
            return error.what[:1].lower() + error.what[1:], error.fix
        return None

    def _contradictions(self) -> Iterator[SettingsProblem]:
        found = self._read.get("interceptors")
        if found is None or found.problems:
            return
        values = cast("Any", found.values)
        order, disabled = found.settings
        for name in dict.fromkeys(values.order):
            if name in values.disabled:
                where = f"{order.path} ({order.origin}) and {disabled.path} ({disabled.origin})"
                yield SettingsProblem(
                    code=VALUE_CODE,
                    message=f"{where} both name {name!r}",
                    fix="Take it out of one of them",
                    path=order.path,
                    origin=order.origin,
                )

    def _owner_is_disabled(self, name: str) -> bool:
        owners = self._host.load().named(name.partition(".")[0])
        return any(status.state is PluginState.DISABLED for status in owners)

    def _owner_is_installed(self, name: str) -> bool:
        owner, dot, _ = name.partition(".")
        return bool(dot) and any(s.state is not PluginState.LOADED for s in self._host.load().named(owner))


def takes_settings(target: Any) -> bool | None:
    """Say whether a target takes ``settings``: True if it must have them, False if it may, None if it does not.

    ```python
    from stageflow.plugins.sections import takes_settings


    class Audit:
        def __init__(self, settings): ...


    print(takes_settings(Audit), takes_settings(print))
    #> True None
    ```
    """
    if not callable(target):
        return None
    try:
        parameter = inspect.signature(target).parameters.get(_PARAMETER)
    except (ValueError, TypeError):  # some classes do not say what they take
        return None
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if parameter is None or parameter.kind not in kinds:
        return None
    return parameter.default is inspect.Parameter.empty
