"""Deprecations: what is going to go, with which version, and what to use in its place.

A ``Deprecation`` is an object, so that the warning, the error that takes the warning's place when the version has
come, and the table in ``docs/plugins/stability.md`` can never say different things. Whoever publishes a package for
Stageflow may use it for what is theirs: a class for each removal, and an object for each thing that goes with it.

```python
import warnings

from stageflow.deprecations import Deprecation, StageflowDeprecationWarning


class RemovedInAcme2Warning(StageflowDeprecationWarning):
    distribution = "stageflow-acme"
    removal = "2.0"


FETCH = Deprecation(
    "acme.fetch()", since="1.4", removed_in=RemovedInAcme2Warning, replacement="acme.load()", code="ACME-FETCH"
)


def fetch() -> str:
    FETCH.warn()
    return "data"


with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    for _ in range(3):
        fetch()
print(len(caught), caught[0].message)
#> 1 [ACME-FETCH] acme.fetch() is deprecated since stageflow-acme 1.4; use acme.load(). stageflow-acme 2.0 removes it.
```
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Final, final

from stageflow.errors import ConfigurationError, ErrorClass, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

__all__ = [
    "DEPRECATIONS",
    "Deprecation",
    "RemovedError",
    "RemovedInCore3Warning",
    "StageflowDeprecationWarning",
]

_VERSION: Final = re.compile(r"\s*v?(?:(\d+)!)?(\d+(?:\.\d+)*)", re.IGNORECASE)


class StageflowDeprecationWarning(DeprecationWarning):
    """The root of the warnings about what a release of a Stageflow package removes: a class for each removal.

    A filter can so name one removal, and a test suite can be made ready for it::

        python -m pytest -W error::stageflow.deprecations.RemovedInCore3Warning

    Attributes:
        distribution: The distribution that removes it; a subclass states it.
        removal: The version that removes it; a subclass states it.
        deprecation: What is deprecated.
    """

    distribution: ClassVar[str] = ""
    removal: ClassVar[str] = ""
    deprecation: Deprecation | None = None


class RemovedInCore3Warning(StageflowDeprecationWarning):
    """What ``stageflow-core`` 3.0 removes."""

    distribution = "stageflow-core"
    removal = "3.0"


@final
class RemovedError(ConfigurationError):
    """Something is used that was deprecated, and whose time has come.

    Args:
        deprecation: What it is.
        installed: The version of its distribution that is installed.
    """

    code = "SF-CONFIG-REMOVED"
    error_class = ErrorClass.LOGIC

    def __init__(self, deprecation: Deprecation, *, installed: str) -> None:
        self.deprecation = deprecation
        self.installed = installed
        super().__init__(
            f"{deprecation.what} was deprecated in {deprecation.distribution} {deprecation.since}, "
            f"and {deprecation.removal} has removed it",
            where=f"{deprecation.distribution} {installed}",
            fix=f"Use {deprecation.replacement}",
            code=deprecation.code,
        )


@final
@dataclass(frozen=True, slots=True)
class Deprecation:
    """One thing that a release will remove.

    Args:
        what: What is deprecated, as its users write it: ``"acme.fetch()"``.
        since: The version that has deprecated it.
        removed_in: The class of warnings about the release that removes it, which names distribution and version.
        replacement: What to use in its place, as its users write it.
        code: The stable code of the warning and of the error; its page says how to change a program.

    Raises:
        ConfigurationError: A version is none, or ``removed_in`` names no distribution.
    """

    what: str
    since: str
    removed_in: type[StageflowDeprecationWarning]
    replacement: str
    code: str

    def __post_init__(self) -> None:
        for version in (self.since, self.removal):
            if _release(version) is None:
                msg = f"{shown(version)} is no version"
                raise ConfigurationError(msg, where=f"Deprecation({self.what!r})", fix="Write '2.0'")
        if not self.distribution:
            msg = f"{self.removed_in.__name__} names no distribution"
            raise ConfigurationError(
                msg,
                where=f"Deprecation({self.what!r})",
                fix="Derive a class from StageflowDeprecationWarning that states distribution and removal",
            )

    @property
    def distribution(self) -> str:
        """The distribution that removes it."""
        return self.removed_in.distribution

    @property
    def removal(self) -> str:
        """The version that removes it."""
        return self.removed_in.removal

    def due_in(self, version: str | None) -> bool:
        """Say whether a version of the distribution has removed it.

        A pre-release counts as what it leads to, so that the error is there while a release is being tried.

        Args:
            version: The version; None, or what is no version, has removed nothing.

        ```python
        from stageflow.deprecations import DEPRECATIONS

        old = DEPRECATIONS["MemoryEnrichment(summary=...)"]
        print([old.due_in(version) for version in ("2.9", "3.0a1", "3", "10.1")])
        #> [False, True, True, True]
        ```
        """
        release, removal = _release(version or ""), _release(self.removal)
        return release is not None and removal is not None and release >= removal

    def warning(self) -> StageflowDeprecationWarning:
        """Return the warning: what, since when, until when, what instead."""
        page = f" Docs: docs/reference/errors/{self.code}.md" if self.code.startswith("SF-") else ""
        warning = self.removed_in(
            f"[{self.code}] {self.what} is deprecated since {self.distribution} {self.since}; "
            f"use {self.replacement}. {self.distribution} {self.removal} removes it.{page}"
        )
        warning.deprecation = self
        return warning

    def due(self) -> RemovedError | None:
        """Return the error if the distribution that is installed has reached the removal, and None before that."""
        installed = _installed(self.distribution)
        if installed is None or not self.due_in(installed):
            return None
        return RemovedError(self, installed=installed)

    def warn(self) -> None:
        """Warn whoever uses it: the first place outside of the package that calls this, once for each place.

        As with every ``DeprecationWarning``, Python shows it for programs and tests, and not for libraries; filters
        say otherwise.

        Raises:
            RemovedError: The distribution that is installed has reached the removal.
        """
        from warnings import warn_explicit

        removed = self.due()
        if removed is not None:
            raise removed
        caller = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as the warnings module does
        place = _call_site(caller)
        # The caller's own registry is what makes it once for each place.
        registry = place.f_globals.setdefault("__warningregistry__", {})
        warn_explicit(
            self.warning(),
            category=None,
            filename=place.f_code.co_filename,
            lineno=place.f_lineno,
            module=place.f_globals.get("__name__") or "<unknown>",
            registry=registry,
        )


def _call_site(frame: FrameType) -> FrameType:
    """Return the first frame that is not of the package that *frame* is of; the last one if all are."""
    owner = _package(frame)
    while _package(frame) == owner and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _release(version: str) -> tuple[int, tuple[int, ...]] | None:
    """Return epoch and release of a version, comparable; None for what is none."""
    match = _VERSION.match(version)
    if match is None:
        return None
    numbers = [int(number) for number in match[2].split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return int(match[1] or 0), tuple(numbers)


@cache
def _installed(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except (PackageNotFoundError, KeyError):  # not installed, or metadata that states no version
        return None


def _old_name(owner: str, old: str, new: str) -> Deprecation:
    return Deprecation(
        f"{owner}({old}=...)",
        since="2.0",
        removed_in=RemovedInCore3Warning,
        replacement=f"{new}=",
        code="SF-DEPRECATED-ENRICHMENT",
    )


DEPRECATIONS: Final[Mapping[str, Deprecation]] = {
    one.what: one
    for one in (
        _old_name("MemoryEnrichment", "short_term", "recent_topics"),
        _old_name("MemoryEnrichment", "long_term", "key_facts"),
        _old_name("MemoryEnrichment", "summary", "interaction_history_summary"),
        _old_name("DocumentEnrichment", "doc_id", "document_id"),
        _old_name("DocumentEnrichment", "doc_type", "document_type"),
        _old_name("DocumentEnrichment", "documents", "blocks"),
        _old_name("DocumentEnrichment", "content", "blocks"),
    )
}
"""Everything that is deprecated in ``stageflow-core``, by what it is."""
