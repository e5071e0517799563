"""Conflicts between candidates: one name, or one module, that two entry points claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.errors import ContributionConflictError
from stageflow.plugins.names import CORE, CORE_SECTIONS
from stageflow.plugins.policy import keep_one

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stageflow.plugins.discovery import Candidate

__all__ = ["find_conflicts"]


def find_conflicts(candidates: Iterable[Candidate]) -> Mapping[int, ContributionConflictError]:
    """Return the error of each candidate that must not be loaded, by its position among *candidates*.

    Both claimants are refused and named, so that which one wins never depends on an order; they share one
    error. The name of the built-in plugin and those of the core's sections of the configuration are nobody else's.

    ```python
    from stageflow.plugins.conflicts import find_conflicts
    from stageflow.plugins.discovery import Candidate

    one = Candidate(name="acme", module="acme.plugin", distribution="acme", version="1.0")
    two = Candidate(name="acme", module="acme2.plugin", distribution="acme-fork", version="1.1")
    print(find_conflicts([one, two])[0].distribution)
    #> acme 1.0, acme-fork 1.1
    ```
    """
    found = list(candidates)
    errors: dict[int, ContributionConflictError] = {}
    for position, candidate in enumerate(found):
        if candidate.name in (CORE, *CORE_SECTIONS):
            errors[position] = _reserved(candidate)
    for attribute in ("name", "module"):
        groups: dict[str, list[int]] = {}
        for position, candidate in enumerate(found):
            if position not in errors:
                groups.setdefault(getattr(candidate, attribute), []).append(position)
        for positions in groups.values():
            if len(positions) > 1:
                error = _clash(attribute, [found[position] for position in positions])
                errors.update(dict.fromkeys(positions, error))
    return errors


def _reserved(candidate: Candidate) -> ContributionConflictError:
    return ContributionConflictError(
        f"The plugin name {candidate.name!r} belongs to Stageflow itself",
        plugin=candidate.name,
        distribution=candidate.provenance.release,
        fix=f"Uninstall {candidate.distribution}, or ask its authors for another entry-point name",
    )


def _clash(attribute: str, candidates: list[Candidate]) -> ContributionConflictError:
    claimants = [candidate.provenance for candidate in candidates]
    releases = list(dict.fromkeys(claimant.release for claimant in claimants))
    if attribute == "name":
        what = f"The plugin name {claimants[0].plugin!r} is taken more than once"
    else:
        names = " and ".join(repr(claimant.plugin) for claimant in claimants)
        what = f"The module {claimants[0].module!r} is more than one plugin, {names}"
    # Within one distribution no list of names tells the claimants apart.
    alone = f"Update {claimants[0].distribution} or tell its authors"
    error = ContributionConflictError(
        f"{what}, by {' and '.join(releases)}; none of them is loaded",
        fix=keep_one(claimants) if len(releases) > 1 else alone,
    )
    error.plugin = claimants[0].plugin
    error.distribution = ", ".join(releases)
    return error
