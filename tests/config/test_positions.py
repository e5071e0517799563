"""Lines of keys: the scanner finds what tomllib finds, and nothing else, where it was written."""

from __future__ import annotations

import json
import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stageflow.config.positions import key_lines

KEYS = st.one_of(
    st.sampled_from(
        ["a", "b-c", "d_e", "1", "x.y", "quo'te", 'q"q', "", "ü", "tab\t", "#no", "[no]", "line\n"]
    ),
)
VALUES = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "1979-05-27T07:32:00Z",
        '"# no comment"',
        "'''\n[not.a.table]\nx = 1'''",
        '"""\n# no\n\\"\\"\\" [x]\n"""',
        '"""a"""""',
        "''''quoted''''",
        "[\n  1, # ] one\n  [2],\n]",
        '{ a = "}", b = [1, { c = 2 }] }',
        '"\\\\"',
        "'\\'",
    ]
)


def quoted(key: str) -> str:
    bare = key.isascii() and key.replace("-", "a").replace("_", "a").isalnum()
    return key if bare else json.dumps(key, ensure_ascii=False)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[tuple[str, ...], int]]:
    """A document of tables, and the line of every key, as it was written down."""
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}

    def row() -> int:
        return sum(line.count("\n") + 1 for line in lines) + 1

    used: set[tuple[str, ...]] = set()
    for _ in range(draw(st.integers(0, 4))):
        lines += draw(st.lists(st.sampled_from(["", "# a [comment]", "  \t"]), max_size=2))
        path = tuple(draw(st.lists(KEYS, min_size=1, max_size=3)))
        taken = [known for known in used if known[: len(path)] == path or path[: len(known)] == known]
        if taken:
            continue
        used.add(path)
        array = draw(st.booleans())
        header = " . ".join(map(quoted, path))
        for length in range(1, len(path) + 1):
            expected.setdefault(path[:length], row())
        if array:
            del expected[path]
            expected = {known: line for known, line in expected.items() if known[: len(path)] != path}
            expected[path] = row()
            for known in [known for known in expected if path[: len(known)] == known and known != path]:
                if expected[known] == row():  # only a header that is a table says where its parents stand
                    del expected[known]
        lines.append(f"[[{header}]]" if array else f"[{header}]")
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            if not array:
                expected[(*path, key)] = row()
            lines.append(f"{quoted(key)} = {draw(VALUES)} # {draw(st.sampled_from(['', 'x = 1', '[x]']))}")
    return "\n".join(lines) + draw(st.sampled_from(["", "\n", "\r\n"])), expected


def tables(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for key, value in tree.items():
        path = (*prefix, key)
        found.add(path)
        if isinstance(value, dict):
            found |= tables(value, path)
    return found


@given(documents())
def test_every_key_is_on_the_line_on_which_it_was_written(
    case: tuple[str, dict[tuple[str, ...], int]],
) -> None:
    text, expected = case
    parsed = tomllib.loads(text)  # the case is a document
    lines = key_lines(text)
    assert lines == expected
    assert set(lines) <= tables(parsed)


def test_dotted_keys_headers_and_arrays_of_tables() -> None:
    lines = ["a.b.c = 1", "[x]", "y = {z = 1}", "[[list]]", "q = 1", "[list.inner]", "r = 1", '["x".w]']
    text = "\r\n".join([*lines, '\'k\' = """', "", '"""', "l=2"])
    assert tomllib.loads(text)["list"][0]["inner"] == {"r": 1}
    assert key_lines(text) == {
        ("a",): 1,
        ("a", "b"): 1,
        ("a", "b", "c"): 1,
        ("x",): 2,
        ("x", "y"): 3,
        ("list",): 4,
        ("x", "w"): 8,
        ("x", "w", "k"): 9,
        ("x", "w", "l"): 12,
    }
