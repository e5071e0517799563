"""What has changed between two texts or two values, for a reviewer, an audit trail or an undo.

| function | compares | gives |
|---|---|---|
| ``diff_text`` | texts, line by line | a unified or context diff, or all lines |
| ``diff_json`` | JSON values | a JSON patch: RFC 6902, with the pointers of RFC 6901 |
| ``diff_structured`` | mappings, field by field | one line per field that went, came or changed |

In JSON ``True`` is not ``1``, and ``1`` is not ``1.0``; the last two functions tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher, context_diff, unified_diff
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, final

from stageflow.context.checks import check_count, check_type, wrong_type, wrong_value
from stageflow.errors import ConfigurationError

from stageflow_tools.canonical_json import canonical_json, plain_copy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

__all__ = [
    "DiffLibraryMissingError",
    "DiffLine",
    "DiffResult",
    "DiffType",
    "diff_json",
    "diff_structured",
    "diff_text",
]

_ADD: Final = "add"
_REMOVE: Final = "remove"
_EQUAL: Final = "equal"
_MARKS: Final = {_ADD: "+", _REMOVE: "-", _EQUAL: " "}


class DiffLibraryMissingError(ConfigurationError, ImportError):
    """The library that makes JSON patches is not installed.

    ```python
    from stageflow_tools.diff import DiffLibraryMissingError

    print(DiffLibraryMissingError().fix)
    #> Run: pip install 'stageflow-tools[diff]'
    ```
    """

    code = "SF-TOOLS-DIFF-LIBRARY"

    def __init__(self) -> None:
        super().__init__(
            "diff_json needs the library 'jsonpatch', which is not installed",
            fix="Run: pip install 'stageflow-tools[diff]'",
        )


class DiffType(Enum):
    """The form of a diff.

    Attributes:
        UNIFIED: The changed lines with a few around them, as ``diff -u`` writes it.
        CONTEXT: The same, old and new apart, as ``diff -c`` writes it.
        JSON_PATCH: The operations of RFC 6902, as JSON.
        LINE_BY_LINE: All lines, also the equal ones; of mappings, one line per field.
    """

    UNIFIED = "unified"
    CONTEXT = "context"
    JSON_PATCH = "json_patch"
    LINE_BY_LINE = "line_by_line"


@final
@dataclass(frozen=True, slots=True)
class DiffLine:
    """One line of a diff, or one operation of a patch.

    Attributes:
        type: ``"add"``, ``"remove"`` or ``"equal"``.
        content: The line, without its mark; of a patch, the operation as JSON.
        line_number_old: Its number in the old text, from 1; None for one that came, and for operations.
        line_number_new: Its number in the new text, from 1; None for one that went, and for operations.
    """

    type: str
    content: str
    line_number_old: int | None = None
    line_number_new: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "type": self.type,
            "content": self.content,
            "line_number_old": self.line_number_old,
            "line_number_new": self.line_number_new,
        }


@final
@dataclass(frozen=True, slots=True)
class DiffResult:
    """What has changed.

    Attributes:
        diff_type: The form of ``diff_output``.
        diff_output: The diff as text; empty without changes, but for a patch, which is an empty list then.
        changes: What has changed, in order; with ``LINE_BY_LINE``, also what has not.
        additions: How many lines, values or fields came.
        deletions: How many went. What was replaced did both.
        unchanged: How many stayed.
        similarity: From 0 to 1, with three digits: twice what stayed, over what both sides have.
        old_content: The old text, or the old value as JSON.
        new_content: The new one.

    ```python
    from stageflow_tools.diff import diff_text

    result = diff_text("to be", "not to be")
    print(result.has_changes, result.change_summary, [line.to_dict()["type"] for line in result.changes])
    #> True +1 -1 ['remove', 'add']
    ```
    """

    diff_type: DiffType
    diff_output: str
    changes: Sequence[DiffLine] = field(default_factory=list[DiffLine])
    additions: int = 0
    deletions: int = 0
    unchanged: int = 0
    similarity: float = 1.0
    old_content: str | None = None
    new_content: str | None = None

    @property
    def has_changes(self) -> bool:
        """Whether anything has changed."""
        return self.additions > 0 or self.deletions > 0

    @property
    def change_summary(self) -> str:
        """How much has changed, as ``"+1 -1"`` or ``"no changes"``."""
        parts = [f"{sign}{count}" for sign, count in (("+", self.additions), ("-", self.deletions)) if count]
        return " ".join(parts) or "no changes"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "diff_type": self.diff_type.value,
            "diff_output": self.diff_output,
            "changes": [line.to_dict() for line in self.changes],
            "additions": self.additions,
            "deletions": self.deletions,
            "unchanged": self.unchanged,
            "similarity": self.similarity,
            "old_content": self.old_content,
            "new_content": self.new_content,
        }


def diff_text(
    old: str,
    new: str,
    diff_type: DiffType = DiffType.UNIFIED,
    context_lines: int = 3,
    fromfile: str = "a/original",
    tofile: str = "b/modified",
) -> DiffResult:
    r"""Compare two texts line by line.

    Lines end at ``\n``, ``\r\n`` or ``\r``, and how they end is not compared: two texts that differ in nothing else
    have no changes.

    Args:
        old: The old text.
        new: The new text.
        diff_type: The form: ``UNIFIED``, ``CONTEXT`` or ``LINE_BY_LINE``.
        context_lines: How many equal lines to show around a change.
        fromfile: What the old text is called in the diff.
        tofile: What the new text is called in the diff.

    Raises:
        ArgumentTypeError: An argument has another type.
        ArgumentValueError: ``diff_type`` is ``JSON_PATCH``, or ``context_lines`` negative.

    ```python
    from stageflow_tools.diff import diff_text

    print(diff_text("one\ntwo", "one\n2").diff_output)
    #> --- a/original
    #> +++ b/modified
    #> @@ -1,2 +1,2 @@
    #>  one
    #> -two
    #> +2
    ```
    """
    for argument, value in (("old", old), ("new", new), ("fromfile", fromfile), ("tofile", tofile)):
        check_type("diff_text", argument, value, str, "a str")
    check_type("diff_text", "diff_type", diff_type, DiffType, "a DiffType")
    check_count("diff_text", "context_lines", context_lines)
    before, after = _lines(old), _lines(new)
    lines = list(_compared(before, after))
    changes = [line for line in lines if line.type != _EQUAL]
    match diff_type:
        case DiffType.UNIFIED:
            output = unified_diff(before, after, fromfile, tofile, n=context_lines, lineterm="")
        case DiffType.CONTEXT:
            output = context_diff(before, after, fromfile, tofile, n=context_lines, lineterm="")
        case DiffType.LINE_BY_LINE:
            output = (f"{_MARKS[line.type]} {line.content}" for line in lines)
        case DiffType.JSON_PATCH:
            problem = "must not be JSON_PATCH, which is for values: call diff_json"
            raise wrong_value("diff_text", "diff_type", problem, diff_type)
    return _result(
        diff_type,
        "\n".join(output),
        lines if diff_type is DiffType.LINE_BY_LINE else changes,
        additions=sum(line.type == _ADD for line in lines),
        deletions=sum(line.type == _REMOVE for line in lines),
        unchanged=len(lines) - len(changes),
        contents=(old, new),
    )


def diff_json(old: Any, new: Any) -> DiffResult:
    """Compare two JSON values, and say how the one becomes the other: a patch of RFC 6902.

    Additions and deletions are operations; what is replaced or moved is both. What is unchanged are leaves: scalars,
    and empty lists and objects, each at its place.

    Args:
        old: The old value.
        new: The new one.

    Raises:
        ArgumentTypeError: One holds what JSON cannot say, such as NaN, or is nested deeper than 100 levels.
        DiffLibraryMissingError: ``jsonpatch`` is not installed.

    ```python
    from stageflow_tools.diff import diff_json

    result = diff_json({"a/b": [1, 2]}, {"a/b": [1, 2, 3]})
    print(result.diff_output)
    #> [{"op": "add", "path": "/a~1b/2", "value": 3}]
    print(result.change_summary, result.similarity)
    #> +1 0.8
    ```
    """
    try:
        from jsonpatch import make_patch
    except ModuleNotFoundError as exc:
        if exc.name not in {"jsonpatch", "jsonpointer"}:
            raise
        raise DiffLibraryMissingError from exc

    before, after = (
        plain_copy(value, owner="diff_json", argument=argument)
        for argument, value in (("old", old), ("new", new))
    )
    operations = make_patch(before, after).patch
    gone, come = dict(_leaves(before, "")), dict(_leaves(after, ""))
    unchanged = len(gone.items() & come.items())
    return _result(
        DiffType.JSON_PATCH,
        json.dumps(operations, ensure_ascii=False),
        [
            DiffLine(_REMOVE if one["op"] == "remove" else _ADD, json.dumps(one, ensure_ascii=False))
            for one in operations
        ],
        additions=sum(one["op"] != "remove" for one in operations),
        deletions=sum(one["op"] not in {"add", "copy"} for one in operations),
        unchanged=unchanged,
        similarity=_ratio(unchanged, len(gone) + len(come)),
        contents=(_shown_json(before), _shown_json(after)),
    )


def diff_structured(
    old: Mapping[str, Any], new: Mapping[str, Any], ignore_keys: Collection[str] | None = None
) -> DiffResult:
    """Compare two mappings field by field, for people: one line for each field that went or came.

    A field that changed went and came. Mappings inside are one value, as lists are.

    Args:
        old: The old mapping; its values may be of any type.
        new: The new one.
        ignore_keys: Fields that do not count.

    Raises:
        ArgumentTypeError: One is no mapping.

    ```python
    from stageflow_tools.diff import diff_structured

    result = diff_structured({"id": 1, "status": "draft"}, {"id": 2, "status": "sent"}, ignore_keys={"id"})
    print(result.diff_output)
    #> - status: 'draft'
    #> + status: 'sent'
    ```
    """
    sides: list[dict[Any, Any]] = []
    for argument, value in (("old", old), ("new", new)):
        if not isinstance(value, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - it comes from anywhere
            raise wrong_type("diff_structured", argument, "a mapping", value)
        sides.append({name: one for name, one in value.items() if name not in (ignore_keys or ())})
    before, after = sides
    changes: list[DiffLine] = []
    unchanged = 0
    for name in {**before, **after}:
        if name in before and name in after and _same(before[name], after[name]):
            unchanged += 1
            continue
        if name in before:
            changes.append(DiffLine(_REMOVE, f"{name}: {before[name]!r}"))
        if name in after:
            changes.append(DiffLine(_ADD, f"{name}: {after[name]!r}"))
    return _result(
        DiffType.LINE_BY_LINE,
        "\n".join(f"{_MARKS[line.type]} {line.content}" for line in changes),
        changes,
        additions=sum(line.type == _ADD for line in changes),
        deletions=sum(line.type == _REMOVE for line in changes),
        unchanged=unchanged,
        contents=(repr(before), repr(after)),
    )


def _result(
    diff_type: DiffType,
    output: str,
    changes: Sequence[DiffLine],
    *,
    additions: int,
    deletions: int,
    unchanged: int,
    contents: tuple[str, str],
    similarity: float | None = None,
) -> DiffResult:
    if similarity is None:
        similarity = _ratio(unchanged, additions + deletions + 2 * unchanged)
    return DiffResult(diff_type, output, changes, additions, deletions, unchanged, similarity, *contents)


def _ratio(unchanged: int, both: int) -> float:
    return round(2 * unchanged / both, 3) if both else 1.0


def _lines(text: str) -> list[str]:
    """Split at ends of lines only: ``str.splitlines`` also does so at form feeds and other characters."""
    if not text:
        return []
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def _compared(before: list[str], after: list[str]) -> Iterator[DiffLine]:
    # Made as difflib makes its own for the two forms of output, so that the counts are those of the output.
    for tag, i, j, k, m in SequenceMatcher(None, before, after).get_opcodes():
        if tag == "equal":
            for offset in range(j - i):
                yield DiffLine(_EQUAL, before[i + offset], i + offset + 1, k + offset + 1)
            continue
        for number in range(i, j):
            yield DiffLine(_REMOVE, before[number], number + 1, None)
        for number in range(k, m):
            yield DiffLine(_ADD, after[number], None, number + 1)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of everything that holds nothing else."""
    kind: object = value.__class__
    inside: list[tuple[str, Any]] = []
    if kind is dict:
        inside = [(name, one) for name, one in value.items()]
    elif kind is list:
        inside = [(str(index), one) for index, one in enumerate(value)]
    if not inside:
        yield path, json.dumps(value)
    for name, one in inside:
        yield from _leaves(one, f"{path}/{name.replace('~', '~0').replace('/', '~1')}")


def _same(one: object, other: object) -> bool:
    """Say whether two values are the same: as JSON if they are that, and else as Python has it."""
    try:
        return canonical_json(one, owner="diff", argument="old") == canonical_json(
            other, owner="diff", argument="new"
        )
    except TypeError:
        return type(one) is type(other) and one == other


def _shown_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
