"""Merging against a simple model: a value is a path of keys, and a later one takes the place of all that it touches."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stageflow.config.layers import Layer, Merged
from stageflow.config.origin import Origin, OriginKind

KEYS = st.sampled_from(["a", "b", "c"])
LEAVES = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 3), max_size=2))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)
LAYERS = st.lists(st.dictionaries(KEYS, TREES, max_size=3), max_size=4)


def flat(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return each leaf with its path; a table without keys is a leaf."""
    found: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        path = (*prefix, key)
        found |= (flat(value, path) if value else {path: {}}) if isinstance(value, dict) else {path: value}
    return found


def model(layers: list[dict[str, Any]]) -> dict[tuple[str, ...], tuple[Any, int]]:
    """Return what each path holds in the end, and which layer said so."""
    held: dict[tuple[str, ...], tuple[Any, int]] = {}
    for number, layer in enumerate(layers):
        for path, value in flat(layer).items():
            beneath = [known for known in held if known[: len(path)] == path]
            if value == {} and any(len(known) > len(path) or held[known][0] == {} for known in beneath):
                continue  # an empty table takes nothing away from a table
            above = [path[:length] for length in range(len(path)) if path[:length] in held]
            for known in (*beneath, *above):
                del held[known]
            held[path] = value, number
    return held


@given(LAYERS)
def test_merging_agrees_with_the_model(layers: list[dict[str, Any]]) -> None:
    origins = [Origin(kind=OriginKind.FILE, line=number) for number in range(len(layers))]
    merged = Merged(Layer(tree, origin) for tree, origin in zip(layers, origins, strict=True))
    expected = model(layers)
    assert flat(merged.tree) == {path: value for path, (value, _) in expected.items()}
    for path, (value, number) in expected.items():
        if value != {}:
            assert merged.origin_of(path) is origins[number]
            assert merged.written(path) is origins[number]
            assert merged.written((*path, "deeper")) is origins[number] or isinstance(value, list)


@given(LAYERS)
def test_what_was_given_is_not_changed(layers: list[dict[str, Any]]) -> None:
    before = repr(layers)
    merged = Merged(Layer(tree, Origin(kind=OriginKind.CODE)) for tree in layers)
    for path in flat(merged.tree):
        merged.tree.pop(path[0], None)
    assert repr(layers) == before


def test_nothing_is_left_of_where_the_keys_of_a_replaced_table_came_from() -> None:
    weak, strong = Origin(kind=OriginKind.FILE), Origin(kind=OriginKind.CODE)
    merged = Merged([Layer({"a": {"0": 1}}, weak), Layer({"a": ["x"]}, strong)])
    assert merged.origin_of(("a", "0")) is strong
