"""What a new plugin may contribute, and which templates and words belong to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

__all__ = ["KINDS", "Kind"]


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One kind of contribution.

    ```python
    from stageflow.cli.scaffold.kinds import KINDS

    print(list(KINDS))
    #> ['stage', 'interceptor', 'sink', 'tool', 'executor', 'run-store', 'settings', 'command', 'check']
    print(KINDS["run-store"].phrase, KINDS["run-store"].hook)
    #> a run store stageflow_run_stores
    ```
    """

    name: str
    """The option, and the folder of the templates."""

    phrase: str
    """With its article, for sentences."""

    does: str
    """What the one that is written does, for help and lists."""

    hook: str
    record: str
    """The class of the record that the hook returns."""

    key: str
    """Under which name it is contributed; a template."""

    module: str
    """The module that holds it, and after which its test is called."""

    suite: str = ""
    """The class of the conformance kit that it has to pass, if there is one."""

    suite_imports: tuple[str, ...] = ()
    """What its suite imports: ``module:name``, or ``module`` alone; templates."""

    shares: tuple[str, ...] = ()
    """Further folders of templates that it needs, and others may need as well."""

    requires: tuple[str, ...] = ()
    """What its modules import beside the core."""


_FILES: Final = ("pathlib:Path", "tempfile:TemporaryDirectory", "tempfile:mkdtemp")

KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(
            name="stage",
            phrase="a stage",
            does="finds the words that a text uses most",
            hook="stageflow_stages",
            record="StageContribution",
            key="$plugin.keywords",
            module="stage",
            suite="StageConformance",
            suite_imports=("$package.stage:KeywordsStage",),
            shares=("keywords",),
        ),
        Kind(
            name="interceptor",
            phrase="an interceptor",
            does="tells of stages that take long",
            hook="stageflow_interceptors",
            record="InterceptorContribution",
            key="$plugin.slow_stages",
            module="interceptor",
            suite="InterceptorConformance",
            suite_imports=("$package.interceptor:SlowStagesInterceptor",),
        ),
        Kind(
            name="sink",
            phrase="an event sink",
            does="writes events into a file, as lines of JSON",
            hook="stageflow_sinks",
            record="SinkContribution",
            key="$plugin.json_lines",
            module="sink",
            suite="EventSinkConformance",
            suite_imports=(
                "json",
                *_FILES,
                "typing:Any",
                "$package.sink:JsonLinesSink",
            ),
        ),
        Kind(
            name="tool",
            phrase="a tool",
            does="counts the days from one date to another",
            hook="stageflow_tools",
            record="ToolContribution",
            key="$plugin.days_between",
            module="tool",
            suite="ToolConformance",
            suite_imports=(
                "collections.abc:Mapping",
                "typing:Any",
                "typing:ClassVar",
                "$package.tool:DaysBetweenTool",
            ),
        ),
        Kind(
            name="executor",
            phrase="an executor",
            does="runs stages in place, and waits for the last when it is closed",
            hook="stageflow_executors",
            record="ExecutorContribution",
            key="$plugin.draining",
            module="executor",
            suite="ExecutorConformance",
            suite_imports=("$package.executor:DrainingExecutor",),
        ),
        Kind(
            name="run-store",
            phrase="a run store",
            does="writes runs into an SQLite database",
            hook="stageflow_run_stores",
            record="RunStoreContribution",
            key="$scheme",
            module="run_store",
            suite="RunStoreConformance",
            suite_imports=(*_FILES, "$package.run_store:SQLiteRunStore"),
        ),
        Kind(
            name="settings",
            phrase="a settings section",
            does="holds what an operator may set",
            hook="stageflow_settings",
            record="SettingsContribution",
            key="$plugin",
            module="settings",
            suite="SettingsConformance",
            suite_imports=("$package.settings:${prefix}Settings",),
            requires=("pydantic>=2",),
        ),
        Kind(
            name="command",
            phrase="a command",
            does="prints the words that a text uses most",
            hook="stageflow_commands",
            record="CommandContribution",
            key="$plugin.keywords",
            module="command",
            suite="CommandConformance",
            suite_imports=("click:Command", "$package.command:command"),
            shares=("keywords",),
            requires=("click>=8.1",),
        ),
        Kind(
            name="check",
            phrase="a check for 'stageflow doctor'",
            does="says when the disk is nearly full",
            hook="stageflow_commands",
            record="CheckContribution",
            key="$plugin.disk_space",
            module="check",
        ),
    )
}
"""The kinds by their names, in the order in which they are shown."""
