"""``Diagnosis``: everything that ``stageflow doctor`` finds out, before anything is shown."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from stageflow.cli.finding import Finding
from stageflow.cli.installation import read_installation
from stageflow.cli.output import reserved_stdout
from stageflow.cli.shadowing import hidden_packages, similar_names
from stageflow.cli.silence import reported_once
from stageflow.errors import StageflowError
from stageflow.plugins.discovery import CORE_DISTRIBUTION
from stageflow.plugins.loading import describe, disable
from stageflow.plugins.report import PluginState
from stageflow.plugins.trial import try_imports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from stageflow.cli.installation import Installation
    from stageflow.plugins.contributions import CheckContribution
    from stageflow.plugins.host import PluginHost
    from stageflow.plugins.registry import Entry
    from stageflow.plugins.report import LoadReport
    from stageflow.plugins.trial import Trial

__all__ = ["Check", "Diagnosis", "diagnose"]

_SLOW: Final = 0.2  # seconds
_MANY: Final = 50  # modules
_PART: Final = 10  # modules of one package that are worth its name
_NAMED: Final = 3


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A check that a plugin contributes, and what it said."""

    name: str
    summary: str
    problem: str


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """What is installed, and what is wrong with it."""

    installed: Installation
    report: LoadReport
    trials: tuple[Trial, ...]
    """What the import of each plugin does, tried in a process of its own."""

    checks: tuple[Check, ...]
    problems: tuple[Finding, ...]
    """What keeps something from working."""

    warnings: tuple[Finding, ...]
    """What works, but could be better."""


def diagnose(host: PluginHost, *, import_timeout: float, wrong: Iterable[Finding] = ()) -> Diagnosis:
    """Look at everything.

    Args:
        host: The plugins; not loaded yet, so that those that cannot be imported safely are not.
        import_timeout: For how many seconds a plugin may be imported.
        wrong: What is known to be wrong already.
    """
    with reserved_stdout(), reported_once():
        trials = asyncio.run(_tried(host, import_timeout))
        for trial in trials:
            if trial.fatal is not None:
                host.refuse(trial.fatal, trial.candidate)
        report = host.report
        checks = tuple(_checked(entry) for entry in host.checks().values())
        names = {one.candidate.distribution for one in report.external if one.candidate.file is None}
        installed = read_installation(CORE_DISTRIBUTION, names)
        return Diagnosis(
            installed=installed,
            report=report,
            trials=trials,
            checks=checks,
            problems=(*wrong, *_problems(host, installed, trials, checks)),
            warnings=tuple(_warnings(host, installed, trials)),
        )


async def _tried(host: PluginHost, limit: float) -> tuple[Trial, ...]:
    trials = await try_imports(host.candidates, limit=limit)
    # Once more, one by one: of many at once each is slower, and of a file that is read for the first time.
    slow = [one for one in trials if one.seconds is not None and one.seconds > _SLOW]
    alone = await try_imports([one.candidate for one in slow], limit=limit, parallel=1)
    again = {one.candidate: one for one in alone}
    return tuple(
        min(one, again.get(one.candidate, one), key=lambda trial: trial.seconds or 0.0) for one in trials
    )


def _checked(entry: Entry[CheckContribution]) -> Check:
    """Make one check; a check that breaks has found something too."""
    contribution = entry.contribution
    try:
        said: object = entry.resolve()()
    except StageflowError as error:
        problem = error.what
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # noqa: BLE001 - whatever it raises is what it found
        problem = f"the check itself raised {describe(exc)}"
    else:
        problem = "" if said is None else " ".join(str(said).split()).rstrip(".")
    return Check(name=contribution.key, summary=contribution.summary, problem=problem)


def _problems(
    host: PluginHost, installed: Installation, trials: Sequence[Trial], checks: Sequence[Check]
) -> Iterator[Finding]:
    told: set[int] = set()
    for status in host.report.plugins:
        # Both sides of a conflict share one error, which is told once.
        errors = [error for error in status.errors if id(error) not in told]
        told.update(map(id, errors))
        for error in errors:
            yield Finding(
                message=f"{status.candidate.provenance} {status.state.predicate}: {error.what}", fix=error.fix
            )
    yield from installed.problems
    yield from hidden_packages((trial.candidate for trial in trials), Path.cwd())
    for trial in trials:
        if trial.patches:
            yield Finding(
                message=f"{trial.candidate.provenance} changes the core while it is imported: {_some(trial.patches)}",
                fix=f"Update {trial.candidate.distribution} or tell its authors: an interceptor does it for whoever "
                f"wants it; or {disable(trial.candidate)}",
            )
    for check in checks:
        if check.problem:
            yield Finding(message=f"Check {check.name!r}: {check.problem}", fix="")


def _warnings(host: PluginHost, installed: Installation, trials: Sequence[Trial]) -> Iterator[Finding]:
    for status in host.report.plugins:
        if status.state is PluginState.LOADED and status.fix:
            yield Finding(message=f"{status.candidate.provenance}: {status.reason}", fix=status.fix)
        if status.candidate.version is None and status.candidate.file is None:
            name = status.candidate.distribution
            yield Finding(
                message=f"{status.candidate.provenance}: The metadata of {name} states no version",
                fix=f"Run: pip install --force-reinstall --no-deps {name}",
            )
    for notice in host.report.notices:
        yield Finding(message=notice.rstrip("."), fix="")
    for trial in trials:
        yield from _cost(trial)
        if trial.effects:
            yield Finding(
                message=f"{trial.candidate.provenance} {_and(trial.effects)} while it is imported",
                fix=f"Tell the authors of {trial.candidate.distribution}: the module of a plugin only says what it "
                "contributes",
            )
    extras = [one for one in installed.extras if one.name not in {"cli", "all"}]
    yield from similar_names(
        (trial.candidate for trial in trials),
        host.registries(),
        (f"stageflow-{extra.name}" for extra in extras),
    )


def _cost(trial: Trial) -> Iterator[Finding]:
    count = sum(trial.modules.values())
    seconds = trial.seconds or 0.0
    if trial.fatal is not None or (seconds <= _SLOW and count <= _MANY):
        return
    large = [name for name, number in trial.modules.items() if number >= _PART]
    message = f"{trial.candidate.provenance} takes {seconds:.2f} s and {count} modules to import"
    if large:
        names = large[:_NAMED]
        message += f", {_and(f'{trial.modules[name]} of {name!r}' for name in names)}"
        fix = f"import {_and(map(repr, names))} where it is used, not in {trial.candidate.module}"
    else:
        fix = f"work in what {trial.candidate.module} names, not in {trial.candidate.module} itself"
    yield Finding(message=message, fix=f"Ask the authors of {trial.candidate.distribution} to {fix}")


def _and(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
