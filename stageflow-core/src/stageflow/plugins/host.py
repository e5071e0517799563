"""``PluginHost``: finds, admits and asks plugins, and keeps what goes wrong with one away from the rest."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

import pluggy

from stageflow.errors import ContributionInvalidError, ContributionNotFoundError, PluginError
from stageflow.plugins import hookspecs
from stageflow.plugins.api_version import API_ATTRIBUTE, HOOK_API, check_api_version
from stageflow.plugins.conflicts import find_conflicts
from stageflow.plugins.context import PluginContext
from stageflow.plugins.contributions import (
    CheckContribution,
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
from stageflow.plugins.discovery import CORE_DISTRIBUTION, Candidate, core_version, discover
from stageflow.plugins.loading import cure, describe, disable, load_error, load_module
from stageflow.plugins.markers import PROJECT
from stageflow.plugins.names import CORE
from stageflow.plugins.ordering import unknown_names
from stageflow.plugins.policy import PluginPolicy
from stageflow.plugins.registry import Entry, Registry
from stageflow.plugins.report import LoadReport, PluginState, PluginStatus
from stageflow.plugins.validation import check_hooks, check_result, invalid
from stageflow.plugins.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import ModuleType

__all__ = ["REPORTED", "STRICT_VARIABLE", "PluginHost"]

STRICT_VARIABLE: Final = "STAGEFLOW_STRICT_PLUGINS"
"""The environment variable that turns problems with plugins into one error."""

REPORTED: Final = "stageflow_reported"
"""The attribute of those log records that say what the report says too."""

T = TypeVar("T", bound=Contribution)

_logger = logging.getLogger("stageflow.plugins")


class _Slot:
    """A candidate, on its way through the host."""

    __slots__ = ("hooks", "module", "status", "waiting")

    def __init__(self, candidate: Candidate) -> None:
        self.waiting = True
        """Whether it has yet to be imported."""
        self.status = PluginStatus(candidate=candidate, state=PluginState.LOADED, reason="")
        self.module: ModuleType | None = None
        self.hooks: frozenset[str] = frozenset()

    @property
    def candidate(self) -> Candidate:
        return self.status.candidate

    def settle(self, state: PluginState, reason: str, fix: str = "") -> None:
        self.waiting = False
        self.status = PluginStatus(candidate=self.candidate, state=state, reason=reason, fix=fix)


@final
class PluginHost:
    """The plugins of one app: an ordinary object, of which there can be many.

    Plugins are found and imported when something is first asked for, and each hook is asked when its kind
    of contribution is first needed. What goes wrong with a plugin is logged once, as a warning of the
    ``stageflow.plugins`` logger, and shows in the report; everything else goes on.

    Args:
        candidates: The plugins to consider; None for those that are installed, ``()`` for none.
        policy: Which of them may be imported; None for what the environment says.
        strict: Raise one ``ExceptionGroup`` instead of going on; None for what
            ``STAGEFLOW_STRICT_PLUGINS`` says.
        builtin: Whether the core's own plugin takes part.

    ```python
    from stageflow.plugins import PluginHost

    host = PluginHost(candidates=())
    print(list(host.sinks()))
    #> ['noop', 'logging']
    print(host.why("timeout").partition(" (")[0])
    #> Interceptor 'timeout' of plugin 'core'
    ```
    """

    __slots__ = (
        "_builtin",
        "_candidates",
        "_collected",
        "_core_version",
        "_found",
        "_loaded",
        "_manager",
        "_notices",
        "_policy",
        "_problems",
        "_registries",
        "_slots",
        "_strict",
    )

    def __init__(
        self,
        candidates: Iterable[Candidate] | None = None,
        *,
        policy: PluginPolicy | None = None,
        strict: bool | None = None,
        builtin: bool = True,
    ) -> None:
        self._candidates = None if candidates is None else tuple(candidates)
        self._policy = PluginPolicy() if policy is None else policy
        self._strict = _strict_by_environment() if strict is None else strict
        self._builtin = builtin
        self._core_version = core_version()
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._slots: list[_Slot] = []
        self._problems: list[PluginError] = []
        self._collected: dict[str, list[Entry[Contribution]]] = {}
        self._registries: dict[type[Contribution], Registry[Any]] = {}
        self._notices: list[str] = []
        self._found = self._loaded = False

    # --- loading ---------------------------------------------------------------------------------

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The plugins that will be imported, as their metadata and the policy say; nothing is imported for it."""
        self._find()
        return tuple(slot.candidate for slot in self._external if slot.waiting or slot.module is not None)

    def refuse(self, error: PluginError, candidate: Candidate) -> None:
        """Let a plugin count as failed, instead of importing it.

        Args:
            error: Why; somebody has tried it where it could do no harm.
            candidate: The plugin, one of ``candidates``; nothing happens where it is imported already.
        """
        self._find()
        for slot in self._slots:
            if slot.waiting and slot.candidate == candidate:
                self._fault(error, slot)

    def load(self) -> LoadReport:
        """Find, admit, import and register the plugins; further calls change nothing.

        Returns:
            What became of them so far. Hooks are asked later, so a plugin may still fail in one;
            ``report`` asks them all.

        Raises:
            ExceptionGroup: In strict mode, with everything that is wrong with any plugin or hook.
        """
        self._ensure_loaded()
        if self._strict:
            self.registries()
            if self._problems:
                count = len(self._problems)
                message = (
                    f"{count} {'problem' if count == 1 else 'problems'} with plugins ({STRICT_VARIABLE})"
                )
                raise ExceptionGroup(message, self._problems)
        return self._report()

    @property
    def report(self) -> LoadReport:
        """What became of the plugins, after asking every hook; never raises because of a plugin."""
        self.registries()
        return self._report()

    def registries(self) -> tuple[Registry[Any], ...]:
        """Return everything that is contributed, a registry for each kind; never raises because of a plugin."""
        self._ensure_loaded()
        return (
            self._registry("stageflow_stages", StageContribution),
            self._registry("stageflow_interceptors", InterceptorContribution),
            self._registry("stageflow_sinks", SinkContribution),
            self._registry("stageflow_tools", ToolContribution),
            self._registry("stageflow_executors", ExecutorContribution),
            self._registry("stageflow_run_stores", RunStoreContribution),
            self._registry("stageflow_settings", SettingsContribution),
            self._registry("stageflow_commands", CommandContribution),
            self._registry("stageflow_commands", CheckContribution),
        )

    def why(self, name: str) -> str:
        """Return where *name* comes from, or why it is not there; *name* may also be a plugin's."""
        report = self.report
        return report.why(name, self.registries())

    # --- what is contributed, by kind ------------------------------------------------------------

    def stages(self) -> Registry[StageContribution]:
        """Return the stages that pipelines can name."""
        return self._contributed("stageflow_stages", StageContribution)

    def interceptors(self) -> Registry[InterceptorContribution]:
        """Return the interceptors, in no particular order; ``order_interceptors`` makes a chain of them."""
        return self._contributed("stageflow_interceptors", InterceptorContribution)

    def sinks(self) -> Registry[SinkContribution]:
        """Return the event sinks."""
        return self._contributed("stageflow_sinks", SinkContribution)

    def tools(self) -> Registry[ToolContribution]:
        """Return the tools."""
        return self._contributed("stageflow_tools", ToolContribution)

    def executors(self) -> Registry[ExecutorContribution]:
        """Return the executors."""
        return self._contributed("stageflow_executors", ExecutorContribution)

    def run_stores(self) -> Registry[RunStoreContribution]:
        """Return the run stores, by the scheme of their URLs."""
        return self._contributed("stageflow_run_stores", RunStoreContribution)

    def settings(self) -> Registry[SettingsContribution]:
        """Return the sections of the configuration."""
        return self._contributed("stageflow_settings", SettingsContribution)

    def commands(self) -> Registry[CommandContribution]:
        """Return the commands of the ``stageflow`` program."""
        return self._contributed("stageflow_commands", CommandContribution)

    def checks(self) -> Registry[CheckContribution]:
        """Return the checks that ``stageflow doctor`` makes."""
        return self._contributed("stageflow_commands", CheckContribution)

    def __repr__(self) -> str:
        names = [slot.candidate.name for slot in self._slots]
        return f"<PluginHost {names!r}>" if self._loaded else "<PluginHost, not loaded>"

    # --- inside ----------------------------------------------------------------------------------

    @property
    def _external(self) -> list[_Slot]:
        return [slot for slot in self._slots if not slot.candidate.builtin]

    def _find(self) -> None:
        """Read the metadata, and let the policy and the names decide; imports no plugin."""
        if self._found:
            return
        self._found = True
        found = discover() if self._candidates is None else self._candidates
        external = sorted(found, key=lambda candidate: candidate.sort_key)
        # A host that was given no candidates does not know what is installed.
        if external or self._candidates is None:
            for sentence in self._policy.unknown_names(external):
                self._notice(sentence)
        slots = [_Slot(candidate) for candidate in external]
        self._slots = [_Slot(_builtin_candidate(self._core_version)), *slots] if self._builtin else slots
        allowed = [slot for slot in slots if self._allows(slot)]
        for position, error in find_conflicts(slot.candidate for slot in allowed).items():
            self._fault(error, allowed[position])

    def _ensure_loaded(self) -> None:
        if self._loaded:
            return
        self._find()
        with self._watching() as watchdog:
            for slot in self._slots:
                if slot.waiting:
                    self._admit(slot, watchdog)
        # Not before: whoever catches Ctrl-C and asks again gets the rest.
        self._loaded = True

    @contextmanager
    def _watching(self) -> Generator[Watchdog | None]:
        if self._external:
            with Watchdog() as watchdog:
                yield watchdog
        else:
            yield None

    def _allows(self, slot: _Slot) -> bool:
        denial = self._policy.denial(slot.candidate)
        if denial is not None:
            slot.settle(PluginState.DISABLED, denial.reason, denial.fix)
        return denial is None

    def _admit(self, slot: _Slot, watchdog: Watchdog | None) -> None:
        """Import, check and register one plugin; what goes wrong becomes its state."""
        candidate = slot.candidate
        try:
            with _named(candidate, "being imported", watchdog):
                module = load_module(candidate)
            # From the module's own dictionary: looking an attribute up could run a module's __getattr__.
            stated = vars(module).get(API_ATTRIBUTE)
            version = check_api_version(stated, candidate.provenance)
            hooks = self._register(module, candidate)
        except PluginError as error:
            self._fault(error, slot)
            return
        slot.module, slot.hooks = module, hooks
        if stated is None:
            reason = f"It states no {API_ATTRIBUTE}, which is taken for {version}"
            fix = f"Write {API_ATTRIBUTE} = {HOOK_API} in {candidate.module}"
            slot.settle(PluginState.LOADED, reason, fix)
            _warn(slot.status)
        else:
            slot.settle(PluginState.LOADED, f"Hook API {version}")

    def _register(self, module: ModuleType, candidate: Candidate) -> frozenset[str]:
        try:
            hooks = check_hooks(module, candidate)
            self._manager.register(module, name=candidate.name)
        except (PluginError, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # Whatever nobody foresaw; pluggy changes nothing before it has checked everything.
            what = f"Registering {candidate.module!r} raised {describe(exc)}"
            raise load_error(candidate, what, fix=cure(candidate)) from exc
        return hooks

    def _fault(self, error: PluginError, *slots: _Slot) -> None:
        """Note that *error* concerns *slots*, and say so once."""
        for slot in slots:
            slot.waiting = False
            slot.status = slot.status.with_error(error)
        # Identity, because both sides of a conflict share one error.
        if any(error is known for known in self._problems):
            return
        self._problems.append(error)
        if not self._strict:
            _warn(error)

    def _notice(self, sentence: str) -> None:
        """Say something that is about no plugin's state, once."""
        if sentence not in self._notices:
            self._notices.append(sentence)
            _warn(sentence)

    def _contributed(self, hook: str, kind: type[T]) -> Registry[T]:
        self.load()
        return self._registry(hook, kind)

    def _registry(self, hook: str, kind: type[T]) -> Registry[T]:
        if kind not in self._registries:
            # The hook's records are checked against HOOKS, so those of this class are T.
            entries = [
                cast("Entry[T]", entry)
                for entry in self._collect(hook)
                if isinstance(entry.contribution, kind)
            ]
            registry = Registry(kind.noun, entries, explain=lambda name: self._explain(kind, name))
            self._registries[kind] = registry
            for error, claims in registry.conflicts.values():
                plugins = {claim.provenance for claim in claims}
                self._fault(error, *(slot for slot in self._slots if slot.candidate.provenance in plugins))
            if kind is InterceptorContribution:
                self._check_order(cast("Registry[InterceptorContribution]", registry))
        return self._registries[kind]

    def _check_order(self, registry: Registry[InterceptorContribution]) -> None:
        for sentence in unknown_names(registry, [slot.candidate.name for slot in self._slots]):
            self._notice(sentence)

    def _collect(self, hook: str) -> list[Entry[Contribution]]:
        if hook not in self._collected:
            entries: list[Entry[Contribution]] = []
            asked = [slot for slot in self._slots if hook in slot.hooks]
            implementations: dict[int, list[pluggy.HookImpl]] = {}
            for one in getattr(self._manager.hook, hook).get_hookimpls():
                implementations.setdefault(id(one.plugin), []).append(one)
            with self._watching() as watchdog:
                for slot in asked:
                    try:
                        with _named(slot.candidate, f"in its hook {hook!r}", watchdog):
                            records = self._ask(slot.candidate, hook, implementations[id(slot.module)])
                    except PluginError as error:
                        self._fault(error, slot)
                    else:
                        entries += [Entry(record, slot.candidate.provenance) for record in records]
            self._collected[hook] = entries
        return self._collected[hook]

    def _ask(
        self, candidate: Candidate, hook: str, implementations: Iterable[pluggy.HookImpl]
    ) -> tuple[Contribution, ...]:
        """Ask one plugin alone: a plain call of the hook would end at the first plugin that raises."""
        context = PluginContext(api_version=HOOK_API, plugin=candidate.name, core_version=self._core_version)
        try:
            answers = [one.function(*(context for _ in one.argnames)) for one in implementations]
            return check_result(hook, answers, candidate.provenance)
        except ContributionInvalidError as exc:
            if exc.plugin:
                raise
            # A record refused its fields while the plugin built it; it could not know for whom.
            what = f"returned nothing, because of a bad record: {exc.what}"
            raise invalid(hook, what, candidate.provenance, fix=exc.fix) from exc
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            raise invalid(hook, f"raised {describe(exc)}", candidate.provenance, fix=cure(candidate)) from exc

    def _explain(self, kind: type[Contribution], name: str) -> ContributionNotFoundError | None:
        return self._report().explain(kind.noun, name, self._registries[kind])

    def _report(self) -> LoadReport:
        return LoadReport(tuple(slot.status for slot in self._slots), tuple(self._notices))


def _warn(what: object) -> None:
    # The mark is for who shows the report anyway.
    _logger.warning("%s", what, extra={REPORTED: True})


def _builtin_candidate(version: str) -> Candidate:
    return Candidate(
        name=CORE,
        module="stageflow.plugins.builtin",
        distribution=CORE_DISTRIBUTION,
        version=version,
        builtin=True,
    )


@contextmanager
def _named(candidate: Candidate, doing: str, watchdog: Watchdog | None) -> Generator[None]:
    """Name *candidate* if what it is doing takes long, or is where Ctrl-C ends the program."""
    if watchdog is not None:
        what = f"{candidate.provenance} is still {doing}"
        fix = f"wait, or interrupt it with Ctrl-C and {disable(candidate)}"
        watchdog.step(f"{what[:1].upper()}{what[1:]}", fix=fix)
    try:
        yield
    except KeyboardInterrupt as exc:
        exc.add_note(
            f"It was {candidate.provenance} that was {doing}; to go on without it, {disable(candidate)}."
        )
        raise


def _strict_by_environment() -> bool:
    return os.environ.get(STRICT_VARIABLE, "").strip().lower() in {"1", "true", "yes", "on"}
