"""``Layer``: the values of one source, and ``Merged``: those of all sources, key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stageflow.config.origin import Origin

__all__ = ["Layer", "Merged", "Tree", "ValuePath", "table_of"]

Tree: TypeAlias = "Mapping[str, Any]"
ValuePath: TypeAlias = "tuple[str, ...]"


@final
@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source."""

    tree: Tree
    """The sections, each a table of keys."""

    origin: Origin
    """The source."""

    origins: Mapping[ValuePath, Origin] = field(default_factory=dict[ValuePath, "Origin"])
    """Where single keys stand, for a source that knows it."""

    def origin_of(self, path: ValuePath) -> Origin:
        """Return where a key stands, as closely as the source knows it."""
        for length in range(len(path), 0, -1):
            found = self.origins.get(path[:length])
            if found is not None:
                return found
        return self.origin


@final
class Merged:
    """What is left of several layers: tables are merged key by key, everything else is replaced whole.

    Args:
        layers: The layers, the weakest first.

    ```python
    from stageflow.config.layers import Layer, Merged
    from stageflow.config.origin import Origin, OriginKind

    weak = Layer({"acme": {"retries": 3, "hosts": ["a", "b"]}}, Origin(kind=OriginKind.FILE))
    strong = Layer({"acme": {"hosts": ["c"]}}, Origin(kind=OriginKind.CODE))
    merged = Merged([weak, strong])
    print(merged.tree)
    #> {'acme': {'retries': 3, 'hosts': ['c']}}
    print(merged.origin_of(("acme", "retries")), merged.origin_of(("acme", "hosts")))
    #> stageflow.toml code
    ```
    """

    __slots__ = ("_origins", "tree")

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        self.tree: dict[str, Any] = {}
        self._origins: dict[ValuePath, Origin] = {}
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """Lay one more layer over what is there."""
        self._merge(self.tree, layer.tree, (), layer)

    def origin_of(self, path: ValuePath) -> Origin | None:
        """Return where the value at *path* comes from, or the nearest table around it; None for a default."""
        for length in range(len(path), 0, -1):
            found = self._origins.get(path[:length])
            if found is not None:
                return found
        return None

    def written(self, path: ValuePath) -> Origin | None:
        """Return where the value at *path* was written, also as a part of a list or text; None if nobody wrote it."""
        value: Any = self.tree
        for length, part in enumerate(path, 1):
            if part not in value:
                return None
            value = value[part]
            if table_of(value) is None:
                return self._origins[path[:length]]
        return self._origins.get(path)

    def _merge(self, into: dict[str, Any], tree: Tree, prefix: ValuePath, layer: Layer) -> None:
        for key, value in tree.items():
            path = (*prefix, key)
            if isinstance(value, Mapping):
                table = table_of(into.get(key))
                if table is None:
                    table = into[key] = {}
                self._merge(table, cast("Tree", value), path, layer)
            else:
                if table_of(into.get(key)) is not None:
                    self._forget(path)
                into[key] = value
            self._origins[path] = layer.origin_of(path)

    def _forget(self, path: ValuePath) -> None:
        """Forget where the keys beneath *path* came from: they are gone."""
        for known in [known for known in self._origins if known[: len(path)] == path]:
            del self._origins[known]


def table_of(value: object) -> dict[str, Any] | None:
    """Return *value* if it is a table, as parsers and ``Merged`` make them; else None."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
