"""``Registry``: contributions by name, each with who brought it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar, final, overload

from stageflow.errors import ContributionConflictError, ContributionNotFoundError, close_matches
from stageflow.extras import extra_of_plugin
from stageflow.plugins.contributions import Contribution
from stageflow.plugins.policy import keep_one

if TYPE_CHECKING:
    from stageflow.plugins.provenance import Provenance

__all__ = ["Entry", "Explain", "Registry"]

T = TypeVar("T", bound=Contribution)
D = TypeVar("D")

Explain: TypeAlias = "Callable[[str], ContributionNotFoundError | None]"
"""Explains a name that is not there, where more is known than that."""


class Entry(NamedTuple, Generic[T]):
    """A contribution and who brought it."""

    contribution: T
    provenance: Provenance

    def __str__(self) -> str:
        return f"{self.contribution.noun} {self.contribution.key!r} of {self.provenance}"

    def resolve(self) -> Any:
        """Return the contribution's target, imported if need be.

        Raises:
            LazyImportError: The target does not resolve; the error names the plugin.
        """
        return self.contribution.resolve(str(self))


@final
class Registry(Mapping[str, Entry[T]]):
    """A read-only mapping from names to contributions of one kind.

    A name that two plugins contribute is refused to both of them, so that which one wins never depends on
    an order; ``conflicts`` says so, and so does looking the name up.

    Args:
        noun: What the contributions are, for messages.
        entries: The contributions, each with who brought it.
        explain: Asked for a better explanation when a name is missing.

    ```python
    from stageflow.plugins import SinkContribution
    from stageflow.plugins.provenance import Provenance
    from stageflow.plugins.registry import Entry, Registry

    acme = Provenance(plugin="acme", distribution="stageflow-acme", version="1.2", module="acme.plugin")
    kafka = SinkContribution(name="acme.kafka", target="acme.kafka:KafkaSink")
    sinks = Registry("sink", [Entry(kafka, acme)])
    print(sinks["acme.kafka"])
    #> sink 'acme.kafka' of plugin 'acme' (stageflow-acme 1.2)
    ```
    """

    __slots__ = ("_conflicts", "_entries", "_explain", "noun")

    def __init__(
        self, noun: str, entries: Iterable[Entry[T]] = (), *, explain: Explain | None = None
    ) -> None:
        self.noun = noun
        self._explain = explain
        by_name: dict[str, list[Entry[T]]] = {}
        for entry in entries:
            by_name.setdefault(entry.contribution.key, []).append(entry)
        self._entries = {name: found[0] for name, found in by_name.items() if len(found) == 1}
        self._conflicts = {
            name: (_conflict(noun, name, [entry.provenance for entry in found]), tuple(found))
            for name, found in by_name.items()
            if len(found) > 1
        }

    @property
    def conflicts(self) -> Mapping[str, tuple[ContributionConflictError, tuple[Entry[T], ...]]]:
        """The refused names, each with the error and the contributions that claim it."""
        return dict(self._conflicts)

    def __getitem__(self, name: str) -> Entry[T]:
        """Return what is contributed under *name*.

        Raises:
            ContributionConflictError: Two plugins contribute it.
            ContributionNotFoundError: Nobody does; the error says who would, if somebody failed to.
        """
        entry = self._entries.get(name)
        if entry is not None:
            return entry
        if name in self._conflicts:
            raise self._conflicts[name][0]
        explained = self._explain(name) if self._explain is not None else None
        raise explained if explained is not None else self._not_found(name)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    # Mapping's own get() waits for a KeyError, whose message Python would print as a quoted repr.
    @overload
    def get(self, key: str, /) -> Entry[T] | None: ...
    @overload
    def get(self, key: str, /, default: Entry[T] | D) -> Entry[T] | D: ...
    def get(self, key: str, /, default: Entry[T] | D | None = None) -> Entry[T] | D | None:
        """Return what is contributed under *key*, or *default*."""
        return self._entries.get(key, default)

    def __repr__(self) -> str:
        return f"Registry({self.noun!r}, {list(self._entries)!r})"

    def _not_found(self, name: str) -> ContributionNotFoundError:
        extra = extra_of_plugin(name.partition(".")[0])
        if extra is not None:
            what = f"No {self.noun} is named {name!r}: it would come with the extra {extra!r}"
            return ContributionNotFoundError(what, fix=f"Run: pip install 'stageflow-core[{extra}]'")
        fix = "Install the plugin that contributes it; 'stageflow plugins list' shows what is installed"
        hint = close_matches(name, self._entries)
        return ContributionNotFoundError(f"No {self.noun} is named {name!r}", fix=hint or fix)


def _conflict(noun: str, name: str, claimants: list[Provenance]) -> ContributionConflictError:
    who = " and ".join(map(str, claimants))
    error = ContributionConflictError(
        f"{noun.capitalize()} {name!r} is contributed by {who}; neither is used",
        fix=keep_one(claimants),
    )
    error.plugin = ", ".join(dict.fromkeys(claimant.plugin for claimant in claimants))
    error.distribution = ", ".join(dict.fromkeys(claimant.release for claimant in claimants))
    return error
