"""What a plugin contributes: one frozen record per hook.

A record is data. It names its *target* by an import string, ``"package.module:attribute"``, so that listing
what is installed imports none of it, or holds the callable itself where that is light.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, final

from stageflow.errors import ContributionInvalidError, LazyImportError, close_matches
from stageflow.lazy import LazyRef
from stageflow.plugins.names import CORE, GRAMMAR, is_bare, is_name, is_scheme, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "CheckContribution",
    "CommandContribution",
    "Contribution",
    "ExecutorContribution",
    "InterceptorContribution",
    "RunStoreContribution",
    "SettingsContribution",
    "SinkContribution",
    "StageContribution",
    "Target",
    "ToolContribution",
]

Target: TypeAlias = "str | Callable[..., Any]"
"""An import string, or the callable itself."""

# The values of StageKind. The enum lives in ``stageflow.stages``, which a plugin module should not have to
# import; a test keeps the two equal.
_KINDS: Final = ("agent", "enrich", "guard", "route", "transform", "work")


class Contribution:
    """What every record can do: say its name and its target, and check both.

    Raises:
        ContributionInvalidError: On construction, where a field breaks the contract.
    """

    __slots__ = ()

    noun: ClassVar[str] = "contribution"
    """What the record contributes, in a message."""

    @property
    def key(self) -> str:
        """The name under which the contribution is looked up."""
        return str(getattr(self, "name"))  # noqa: B009 - the subclasses declare it, each as its own field

    @property
    def source(self) -> Target:
        """The target, as it was written."""
        target: Target = getattr(self, "target")  # noqa: B009 - as above
        return target

    def resolve(self, asked_by: str) -> Any:
        """Return the target, imported if it is named by an import string.

        Args:
            asked_by: Who needs it, so that a failure points at them.

        Raises:
            LazyImportError: The import string does not resolve.

        ```python
        from stageflow.plugins import ToolContribution

        tool = ToolContribution(name="acme.root", target="math:sqrt", summary="Square root.")
        print(tool.resolve("this example")(9.0))
        #> 3.0
        ```
        """
        source = self.source
        return LazyRef(source, asked_by=asked_by).resolve() if isinstance(source, str) else source

    def ownership_problem(self, plugin: str) -> tuple[str, str] | None:
        """Say what is wrong, and how to mend it, where *plugin* may not use this name; else None."""
        key = self.key
        if plugin == CORE:
            if is_bare(key):
                return None
            return (
                f"{self.noun} {key!r} is of the core, whose names are bare",
                "Leave out the part before the dot",
            )
        if owner_of(key) == plugin and "." in key:
            return None
        thing = key.rpartition(".")[2]
        if "." not in key:
            problem = f"{self.noun} {key!r} has a bare name, which only the core may use"
        else:
            problem = f"{self.noun} {key!r} belongs to plugin {owner_of(key)!r}, not to {plugin!r}"
        return problem, f"Name it '{plugin}.{thing}'"

    def __post_init__(self) -> None:
        """Check the fields; runs at the end of a record's construction."""
        self._check_key()
        self._check_target()
        self._check_rest()

    def _check_key(self) -> None:
        key: object = getattr(self, "name")  # noqa: B009 - as above
        _require(
            isinstance(key, str) and is_name(key),
            f"{key!r} is not a name for a {self.noun}",
            f"Write 'owner.thing', both of {GRAMMAR}",
        )

    def _check_target(self) -> None:
        source: object = self.source
        label = f"{self.noun} {self.key!r}"
        if isinstance(source, str):
            _require(
                _is_import_string(source),
                f"The target {source!r} of {label} does not have the form 'module:attribute'",
                "Write the import string as 'package.module:attribute'",
            )
        else:
            _require(
                callable(source),
                f"The target of {label} is {source!r}, neither an import string nor callable",
                "Give an import string, 'package.module:attribute', or the callable itself",
            )

    def _check_rest(self) -> None:
        """Check the fields that only some records have."""


def _is_import_string(text: str) -> bool:
    try:
        LazyRef(text, asked_by="")
    except LazyImportError:
        return False
    return True


def _require(holds: bool, what: str, fix: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ContributionInvalidError(what, fix=fix)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class StageContribution(Contribution):
    """A stage that pipelines can name.

    ```python
    from stageflow.plugins import StageContribution

    print(StageContribution(name="acme.greet", target="acme.stages:Greet", kind="transform").key)
    #> acme.greet
    ```
    """

    noun: ClassVar[str] = "stage"

    name: str
    """``owner.thing``."""

    target: Target
    """A stage class, a function made by ``@stage``, or a factory of a stage."""

    kind: str
    """The value of the stage's ``StageKind``; a ``StageKind`` is fine too."""

    summary: str = ""
    """One line for lists."""

    def _check_rest(self) -> None:
        kind = str(getattr(self.kind, "value", self.kind))
        # One spelling inside: a StageKind is a str, but would print as one enum member among plain words.
        object.__setattr__(self, "kind", kind)
        _require(
            kind in _KINDS,
            f"stage {self.name!r} has the unknown kind {kind!r}",
            close_matches(kind, _KINDS) or f"Use one of {', '.join(_KINDS)}",
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class InterceptorContribution(Contribution):
    """An interceptor that the app can put into the chain around every stage.

    ```python
    from stageflow.plugins import InterceptorContribution

    audit = InterceptorContribution(name="acme.audit", target="acme.audit:Audit", before=("logging",))
    print(audit.priority, audit.default)
    #> 100 False
    ```
    """

    noun: ClassVar[str] = "interceptor"

    name: str
    """``owner.thing``."""

    target: Target
    """An interceptor class, or a factory of an interceptor."""

    priority: int = 100
    """Lower is further out: it enters earlier and leaves later."""

    before: tuple[str, ...] = ()
    """Interceptors that this one must be outside of."""

    after: tuple[str, ...] = ()
    """Interceptors that this one must be inside of."""

    default: bool = False
    """Whether a chain that nobody spelled out has it."""

    def _check_rest(self) -> None:
        priority: object = getattr(self, "priority")  # noqa: B009 - a plugin may not use a type checker
        _require(
            isinstance(priority, int) and not isinstance(priority, bool),
            f"interceptor {self.name!r} has the priority {priority!r}",
            "Give a whole number",
        )
        for field in ("before", "after"):
            names: object = getattr(self, field)
            label = f"{field}={names!r} of interceptor {self.name!r}"
            _require(
                isinstance(names, tuple),
                f"{label} is not a tuple",
                f"Write {field}=('name',), with the comma",
            )
            for name in getattr(self, field):
                _require(
                    isinstance(name, str) and is_name(name),
                    f"{label} holds {name!r}, which is no name",
                    "Name interceptors as they are contributed",
                )
                _require(name != self.name, f"{label} names itself", f"Take {name!r} out")


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SinkContribution(Contribution):
    """An event sink that the app can open.

    ```python
    from stageflow.plugins import SinkContribution

    print(SinkContribution(name="acme.kafka", target="acme.kafka:KafkaSink").target)
    #> acme.kafka:KafkaSink
    ```
    """

    noun: ClassVar[str] = "sink"

    name: str
    """``owner.thing``."""

    target: Target
    """A sink class, or a factory of a sink."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ToolContribution(Contribution):
    """A tool that agents can call.

    ```python
    from stageflow.plugins import ToolContribution

    print(ToolContribution(name="acme.search", target="acme.tools:search", summary="Search Acme.").summary)
    #> Search Acme.
    ```
    """

    noun: ClassVar[str] = "tool"

    name: str
    """``owner.thing``."""

    target: Target
    """A ``stageflow.protocols.Tool``, its class, or a factory of one."""

    summary: str = ""
    """One line for lists."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class ExecutorContribution(Contribution):
    """A place where stage bodies can run, that stages can name.

    ```python
    from stageflow.plugins import ExecutorContribution

    print(ExecutorContribution(name="acme.gpu", target="acme.gpu:GpuExecutor").key)
    #> acme.gpu
    ```
    """

    noun: ClassVar[str] = "executor"

    name: str
    """``owner.thing``."""

    target: Target
    """An executor class, or a factory of an executor."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class RunStoreContribution(Contribution):
    """A store of runs, chosen by the scheme of the URL in the configuration.

    Schemes are the world's words, not the plugin's, so they have no owner; two plugins that claim one
    conflict.

    ```python
    from stageflow.plugins import RunStoreContribution

    print(RunStoreContribution(scheme="acme+sqlite", target="acme.store:open_store").key)
    #> acme+sqlite
    ```
    """

    noun: ClassVar[str] = "run store"

    scheme: str
    """What stands in front of ``://``, in lower case."""

    target: Target
    """A callable that takes the URL and returns a ``stageflow.protocols.RunStore``."""

    @property
    def key(self) -> str:
        """The scheme."""
        return self.scheme

    def ownership_problem(self, plugin: str) -> tuple[str, str] | None:
        """Return None: a scheme has no owner."""
        return None

    def _check_key(self) -> None:
        scheme: object = getattr(self, "scheme")  # noqa: B009 - a plugin may not use a type checker
        _require(
            isinstance(scheme, str) and is_scheme(scheme),
            f"{scheme!r} is not a URL scheme",
            "Write what stands in front of '://', in lower case",
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class SettingsContribution(Contribution):
    """A section of the configuration, read through a pydantic model.

    ```python
    from stageflow.plugins import SettingsContribution

    print(SettingsContribution(section="acme", model="acme.settings:AcmeSettings").key)
    #> acme
    ```
    """

    noun: ClassVar[str] = "settings section"

    section: str
    """The plugin's own name, or ``owner.thing`` for one of several sections."""

    model: Target
    """A pydantic model class."""

    @property
    def key(self) -> str:
        """The section."""
        return self.section

    @property
    def source(self) -> Target:
        """The model, as it was written."""
        return self.model

    def ownership_problem(self, plugin: str) -> tuple[str, str] | None:
        """Say what is wrong where *plugin* may not use this section; else None."""
        if self.section.partition(".")[0] == plugin or (plugin == CORE and is_bare(self.section)):
            return None
        return (
            f"settings section {self.section!r} does not belong to plugin {plugin!r}",
            f"Name it {plugin!r} or '{plugin}.{self.section.rpartition('.')[2]}'",
        )

    def _check_key(self) -> None:
        section: object = getattr(self, "section")  # noqa: B009 - a plugin may not use a type checker
        _require(
            isinstance(section, str) and is_name(section),
            f"{section!r} is not a name for a settings section",
            f"Write the plugin's name, or 'owner.thing', both of {GRAMMAR}",
        )


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CommandContribution(Contribution):
    """A command of the ``stageflow`` program; its target is imported only when it runs.

    ```python
    from stageflow.plugins import CommandContribution

    sync = CommandContribution(name="acme.sync", target="acme.cli:sync", summary="Copy runs to Acme.")
    print(sync.key, "-", sync.summary)
    #> acme.sync - Copy runs to Acme.
    ```
    """

    noun: ClassVar[str] = "command"

    name: str
    """``owner.thing``."""

    target: Target
    """A click command."""

    summary: str
    """One line for ``stageflow --help``, which does not import the target."""

    def _check_rest(self) -> None:
        _require_summary(self, self.summary)


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class CheckContribution(Contribution):
    """A check that ``stageflow doctor`` makes.

    ```python
    from stageflow.plugins import CheckContribution

    reach = CheckContribution(name="acme.reach", target="acme.checks:reach", summary="Is Acme reachable?")
    print(reach.key)
    #> acme.reach
    ```
    """

    noun: ClassVar[str] = "check"

    name: str
    """``owner.thing``."""

    target: Target
    """A callable without arguments that returns None, or a sentence about what is wrong."""

    summary: str
    """One line: what is checked."""

    def _check_rest(self) -> None:
        _require_summary(self, self.summary)


def _require_summary(record: Contribution, summary: object) -> None:
    _require(
        isinstance(summary, str) and bool(summary.strip()) and "\n" not in summary,
        f"{record.noun} {record.key!r} has the summary {summary!r}",
        "Give one line of text",
    )
