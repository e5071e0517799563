"""The shapes that 0.9 published, and what it got wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonpatch
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow_tools.diff import DiffLine, DiffResult, DiffType, diff_json, diff_structured, diff_text

DEEP = settings().max_examples > 100
EXAMPLES = 20_000 if DEEP else 300

NAMES = st.text("a~/01é-", max_size=3)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.0, -0.0, 1.0, 0.5, 2**70, ""])
    | st.text("a~/é\u2028", max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(NAMES, inside, max_size=4),
    max_leaves=14,
)


def text_of(value: object) -> str:
    """Tell apart what ``==`` does not: True, 1 and 1.0."""
    return json.dumps(value, sort_keys=True)


def applied(patch: str, value: object) -> object:
    return jsonpatch.JsonPatch(json.loads(patch)).apply(json.loads(json.dumps(value)))


@pytest.mark.timeout(600 if DEEP else 60)
@settings(max_examples=EXAMPLES)
@given(old=VALUES, new=VALUES)
def test_a_patch_makes_the_new_value_of_the_old_one(old: object, new: object):
    before, after = text_of(old), text_of(new)
    result = diff_json(old, new)
    assert text_of(applied(result.diff_output, old)) == after
    assert result.has_changes == (before != after)
    assert (result.similarity == 1.0) >= (not result.has_changes)
    assert (text_of(old), text_of(new)) == (before, after)
    assert [json.loads(line.content) for line in result.changes] == json.loads(result.diff_output)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([], {}),
        ({}, []),
        ([], [0]),
        ([0], []),
        (1, True),
        (0, False),
        (1, 1.0),
        (None, {"key": "value"}),
        ({"key": "value"}, None),
        ("", None),
        ({"a/b": 1, "m~n": 2, "": 3}, {"a/b": 2, "m~n": 3, "": 4}),
        ([1, 2, 3], [3, 1, 2, 2]),
        (
            [{"x": ["a", {"y": ["b"]}], "z": "a"}, {"x": ["c", {"d": ["d"]}]}, {}],
            [{"x": ["c", {"y": ["d"]}]}, {}],
        ),
        ({"née": "é"}, {"née": "e\u0301"}),
    ],
)
def test_cases_that_libraries_get_wrong(old: object, new: object):
    result = diff_json(old, new)
    assert result.has_changes
    assert text_of(applied(result.diff_output, old)) == text_of(new)
    assert 0 <= result.similarity < 1


def test_pointers_are_escaped():
    (operation,) = json.loads(diff_json({"a/b~c": 1}, {"a/b~c": 2}).diff_output)
    assert operation == {"op": "replace", "path": "/a~1b~0c", "value": 2}


def test_names_with_slashes_are_no_paths():
    assert diff_json({"a/b": 1}, {"a": {"b": 1}}).similarity == 0


@pytest.mark.parametrize(
    ("old", "new", "summary", "similarity"),
    [
        ({"name": "Ada"}, {"name": "Ada", "city": "London"}, "+1", 0.667),
        ({"name": "Ada", "city": "London"}, {"name": "Ada"}, "-1", 0.667),
        ({"age": 30}, {"age": 31}, "+1 -1", 0.0),
        ({"a": 1}, {"b": 1}, "+1 -1", 0.0),
        ([1, 2, 3], [1, 2, 3], "no changes", 1.0),
        ({}, {}, "no changes", 1.0),
    ],
)
def test_json_is_counted(old: object, new: object, summary: str, similarity: float):
    result = diff_json(old, new)
    assert (result.diff_type, result.change_summary) == (DiffType.JSON_PATCH, summary)
    assert result.similarity == similarity
    assert (result.old_content, result.new_content) == (json.dumps(old), json.dumps(new))


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), {"x": [float("-inf")]}, {1: 2}, {"x"}, b"x", object(), nested(100_000)],
)
def test_what_is_no_json_is_refused(value: object):
    for old, new in ((value, 1), (1, value)):
        with pytest.raises(ArgumentTypeError) as refused:
            diff_json(old, new)
        assert refused.value.code == "SF-RUN-ARGUMENT-TYPE"


def test_values_are_compared_down_to_a_hundred_levels():
    result = diff_json(nested(98), [nested(98)])
    assert text_of(applied(result.diff_output, nested(98))) == text_of(nested(99))
    with pytest.raises(ArgumentTypeError, match="deeper than 100 levels"):
        diff_json(nested(100), 1)


def test_without_the_library_the_error_says_what_to_install():
    program = (
        "import sys; sys.modules['jsonpatch'] = None\n"
        "from stageflow_tools.diff import diff_json, diff_text\n"
        "print(diff_text('a', 'b').change_summary)\n"
        "try: diff_json(1, 2)\n"
        "except ImportError as error: print(error.code, error.fix)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "+1 -1",
        "SF-TOOLS-DIFF-LIBRARY Run: pip install 'stageflow-tools[diff]'",
    ]


# --- text ------------------------------------------------------------------------------------------------

LINES = st.lists(st.sampled_from(["a", "b", "c", "", "\f", " x"]), max_size=12)


@pytest.mark.timeout(600 if DEEP else 60)
@settings(max_examples=EXAMPLES)
@given(old=LINES, new=LINES)
def test_line_by_line_holds_both_texts(old: list[str], new: list[str]):
    before, after = "".join(f"{line}\n" for line in old), "".join(f"{line}\n" for line in new)
    result = diff_text(before, after, DiffType.LINE_BY_LINE)
    assert [line.content for line in result.changes if line.type != "add"] == old
    assert [line.content for line in result.changes if line.type != "remove"] == new
    for number, text in (("line_number_old", old), ("line_number_new", new)):
        found = [(getattr(line, number), line.content) for line in result.changes if getattr(line, number)]
        assert found == list(enumerate(text, 1))
    assert result.additions + result.unchanged == len(new)
    assert result.deletions + result.unchanged == len(old)


@pytest.mark.timeout(600 if DEEP else 60)
@settings(max_examples=EXAMPLES)
@given(old=LINES, new=LINES)
def test_counts_are_those_of_the_output(old: list[str], new: list[str]):
    result = diff_text("\n".join([*old, "end"]), "\n".join([*new, "end"]))
    body = result.diff_output.split("\n")[2:]
    assert sum(line.startswith("+") for line in body) == result.additions
    assert sum(line.startswith("-") for line in body) == result.deletions
    assert [line.type for line in result.changes] == [
        {"+": "add", "-": "remove"}[line[0]] for line in body if line[:1] in ("+", "-")
    ]


def test_unified_and_context_are_what_diff_writes():
    old, new = "one\ntwo\nthree", "one\n2\nthree"
    assert diff_text(old, new, fromfile="a", tofile="b").diff_output.splitlines() == [
        "--- a",
        "+++ b",
        "@@ -1,3 +1,3 @@",
        " one",
        "-two",
        "+2",
        " three",
    ]
    context = diff_text(old, new, DiffType.CONTEXT, 0)
    assert context.diff_output.splitlines() == [
        "*** a/original",
        "--- b/modified",
        "***************",
        "*** 2 ****",
        "! two",
        "--- 2 ----",
        "! 2",
    ]
    assert context.change_summary == "+1 -1"
    assert context.similarity == 0.667


@pytest.mark.parametrize(
    ("old", "new", "summary"),
    [
        ("", "", "no changes"),
        ("Hello\nWorld", "Hello\nWorld", "no changes"),
        ("Hello\r\nWorld", "Hello\nWorld\n", "no changes"),
        ("", "Hello\nWorld", "+2"),
        ("Hello\nWorld", "", "-2"),
        ("a\x0cb", "a\x0cc", "+1 -1"),
    ],
)
def test_text_is_counted(old: str, new: str, summary: str):
    result = diff_text(old, new)
    assert result.change_summary == summary
    assert (result.diff_output == "") == (not result.has_changes) == (result.similarity == 1.0)


def test_text_arguments_are_checked():
    with pytest.raises(ArgumentTypeError):
        diff_text(b"a", "b")
    with pytest.raises(ArgumentValueError, match="diff_json"):
        diff_text("a", "b", DiffType.JSON_PATCH)
    with pytest.raises(ArgumentValueError):
        diff_text("a", "b", context_lines=-1)


# --- mappings --------------------------------------------------------------------------------------------


def test_fields_are_compared_one_by_one():
    result = diff_structured(
        {"id": 1, "status": "pending", "gone": None, "same": [1]},
        {"id": 2, "status": "done", "same": [1], "new": {"a": 1}},
        ignore_keys={"id"},
    )
    assert result.diff_output.splitlines() == [
        "- status: 'pending'",
        "+ status: 'done'",
        "- gone: None",
        "+ new: {'a': 1}",
    ]
    assert (result.additions, result.deletions, result.unchanged, result.similarity) == (2, 2, 1, 0.333)


@pytest.mark.parametrize(
    ("old", "new"),
    [(True, 1), (1, 1.0), (0, False), ([1], [True]), (None, 0), ("", None), ({1}, frozenset({1}))],
)
def test_fields_that_only_python_takes_for_equal_have_changed(old: object, new: object):
    assert diff_structured({"x": old}, {"x": new}).change_summary == "+1 -1"
    assert not diff_structured({"x": old}, {"x": old}).has_changes


def test_fields_may_hold_anything():
    class Odd:
        pass

    odd = Odd()
    assert not diff_structured({"x": odd, "y": {1}}, {"x": odd, "y": {1}}).has_changes
    assert diff_structured({"x": Odd()}, {"x": Odd()}).has_changes
    with pytest.raises(ArgumentTypeError):
        diff_structured([], {})


def test_a_result_is_plain_data():
    line = DiffLine(type="add", content="+ new", line_number_old=None, line_number_new=5)
    result = DiffResult(
        diff_type=DiffType.UNIFIED, diff_output="--- a", changes=[line], additions=3, similarity=0.5
    )
    assert (result.has_changes, result.change_summary) == (True, "+3")
    told = json.loads(json.dumps(result.to_dict()))
    assert told["diff_type"] == "unified"
    assert told["changes"] == [line.to_dict()]
    assert {one.value for one in DiffType} == {"unified", "context", "json_patch", "line_by_line"}
