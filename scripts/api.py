"""Compare the public API of each package with its snapshot in api/, say what breaks programs, or write the snapshots.

A snapshot has a line for each public name: modules without an underscore, what their ``__all__`` lists, and the public
members of the classes in it. It is read from the sources (griffe), so that it is the same on every Python and needs
no extra. What a change of it means for others is griffe's judgement, too: both sides are turned back into Python for
it, so that a snapshot of an old release is enough.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import TYPE_CHECKING

import griffe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = sorted(manifest.parent.name for manifest in ROOT.glob("stageflow-*/pyproject.toml"))
LONGEST_VALUE = 60
LABELS = ("async", "classmethod", "staticmethod", "property", "cached")
# How an object is made inside, and how it is printed, is not what programs depend on.
NOT_PUBLIC = {
    "__init_subclass__",
    "__new__",
    "__post_init__",
    "__reduce__",
    "__repr__",
    "__setattr__",
    "__str__",
}
# Of the command line, what is public are its commands; but for the functions that 0.9 had published.
COMMAND_LINE, PUBLISHED = "stageflow.cli", "stageflow.cli.lint"
LINE = re.compile(
    r"(?P<path>[\w.]+)(?: (?P<kind>module|= [\w.]+)|: class(?P<bases>\(.*\))|(?P<call>\(.*?)|: (?P<about>.+?))"
    r"(?:  \[(?P<labels>[\w, ]+)\])?"
)


def main() -> int:
    """Compare, or write; exit non-zero if something differs from a snapshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", nargs="*", default=PACKAGES, metavar="PACKAGE", help="all by default")
    parser.add_argument("--write", action="store_true", help="write the snapshots")
    arguments = parser.parse_args()
    names: list[str] = arguments.packages
    unknown = sorted({*names} - {*PACKAGES})
    if unknown:
        parser.error(f"no package of this repository: {', '.join(unknown)}")
    changed = False
    for name in names:
        change = compare(name, read_snapshot(name), dump(name))
        changed = changed or change.is_any
        print(change.render())
        if arguments.write:
            snapshot(name).write_text("".join(f"{line}\n" for line in change.new))
    return int(changed and not arguments.write)


def snapshot(package: str) -> Path:
    """Return the file of a package's snapshot."""
    return ROOT / "api" / f"{package}.txt"


def read_snapshot(package: str) -> list[str]:
    """Return the lines of a package's snapshot, none if there is no snapshot yet."""
    file = snapshot(package)
    return file.read_text("utf-8").splitlines() if file.exists() else []


# --- what there is -----------------------------------------------------------------------------------------


def dump(package: str, source: Path | None = None) -> list[str]:
    """Return the lines of a package's public API, sorted.

    Args:
        package: The distribution.
        source: The folder that holds the import package; this checkout's by default.
    """
    name = "stageflow" if package == "stageflow-core" else package.replace("-", "_")
    folder = ROOT / package / "src" if source is None else source
    module = griffe.load(
        name, search_paths=[folder], resolve_aliases=False, allow_inspection=False, try_relative_path=False
    )
    lines = {line for one in _modules(module) for line in _module_lines(one)}
    return sorted(lines, key=lambda line: (re.split(r"[ (:]", line, maxsplit=1)[0], line))


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    if not module.path.startswith(COMMAND_LINE) or module.path == PUBLISHED:
        yield module
    for name, member in module.modules.items():
        if not name.startswith("_") and not member.is_alias:
            yield from _modules(member)


def _module_lines(module: griffe.Module) -> Iterator[str]:
    yield f"{module.path} module"
    for name in map(str, module.exports or ()):
        # What a module's __getattr__ gives has no member here; its name is public all the same.
        member = module.members.get(name)
        yield from [f"{module.path}.{name}: ?"] if member is None else _lines(module.path, member)


def _lines(owner: str, member: griffe.Object | griffe.Alias) -> Iterator[str]:
    path = f"{owner}.{member.name}"
    if isinstance(member, griffe.Alias):
        yield f"{path} = {member.target_path}"
    elif isinstance(member, griffe.Class):
        yield f"{path}: class({', '.join(map(str, member.bases))})"
        for name, one in member.members.items():
            if _is_public(name, one):
                yield from _lines(path, one)
    elif isinstance(member, griffe.Function):
        for overload in member.overloads or ():
            yield _function_line(path, overload, "overload")
        yield _function_line(path, member)
    elif isinstance(member, griffe.Attribute):
        yield _attribute_line(path, member)


def _is_public(name: str, member: griffe.Object | griffe.Alias) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return isinstance(member, griffe.Function) and name not in NOT_PUBLIC
    return not name.startswith("_")


def _function_line(path: str, function: griffe.Function, *more: str) -> str:
    signature = function.signature(return_type=True).removeprefix(function.name)
    return f"{path}{signature}{_labels(function, *more)}"


def _attribute_line(path: str, attribute: griffe.Attribute) -> str:
    annotation = "?" if attribute.annotation is None else str(attribute.annotation)
    # What is assigned within a method is no constant.
    is_constant = {"class-attribute", "module-attribute"} & attribute.labels
    value = str(attribute.value) if attribute.value is not None and is_constant else ""
    shown = value if len(value) <= LONGEST_VALUE and "\n" not in value else "..."
    return f"{path}: {annotation}{f' = {shown}' if value else ''}{_labels(attribute)}"


def _labels(member: griffe.Object, *more: str) -> str:
    labels = [*(label for label in LABELS if label in member.labels), *more]
    return f"  [{', '.join(labels)}]" if labels else ""


# --- what has changed --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """How one API differs from another one."""

    package: str
    old: Sequence[str]
    new: Sequence[str]
    breaking: Sequence[str]
    """A sentence for each difference that breaks programs."""

    @property
    def is_any(self) -> bool:
        """Whether there is any difference."""
        return [*self.old] != [*self.new]

    def render(self) -> str:
        """Return what has changed as text, breaking or not, and what to do."""
        if not self.is_any:
            return f"{self.package}: {len(self.new)} public names, as in api/{self.package}.txt"
        diff = list(unified_diff(self.old, self.new, lineterm="", n=0))[2:]
        lines = [line for line in diff if not line.startswith("@@")]
        verdict = (
            ["This breaks programs:", *(f"  {sentence}" for sentence in self.breaking)]
            if self.breaking
            else ["Nothing of it breaks programs."]
        )
        return "\n".join(
            [
                f"{self.package}: the public API is not that of api/{self.package}.txt",
                *(f"  {line[0]} {line[1:]}" for line in lines),
                *verdict,
                "If it is meant so: make api, and a fragment in changes/ that says it (docs/releasing.md).",
            ]
        )


def compare(package: str, old: Sequence[str], new: Sequence[str]) -> Change:
    """Return how the lines of an API differ, and what of it breaks programs."""
    before, after = _rebuilt(old), _rebuilt(new)
    found = list(griffe.find_breaking_changes(before, after)) if old != new else []
    sentences = {_sentence(one) for one in found} | {*_unjudged(old, new)}
    return Change(package, old, new, sorted(sentences))


def _unjudged(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Say what breaks programs, too, and griffe does not look at."""
    for line in {line for line in old if line.endswith("overload]")} - {*new}:
        yield f"{line.partition('(')[0]}: an overload was removed or changed"
    parts = ("kind", "bases", "call", "about", "labels")
    before, after = (
        {
            match["path"]: [match[part] or "" for part in parts]
            for match in map(LINE.fullmatch, lines)
            if match
        }
        for lines in (old, new)
    )
    for path in before.keys() & after.keys():
        (*_, old_call, old_about, old_labels), (*_, call, about, labels) = before[path], after[path]
        if old_call and call and ("async" in old_labels) != ("async" in labels):
            yield f"{path}: {'now plain, was async' if 'async' in old_labels else 'now async, was plain'}"
        if (
            " = " in old_about
            and " = " in about
            and old_about.partition(" = ")[2] != about.partition(" = ")[2]
        ):
            yield f"{path}: value was changed"


def _sentence(breakage: griffe.Breakage) -> str:
    path = breakage.obj.path.removeprefix("api.").replace("__of__", ".")
    what = str(breakage.kind.value)
    named = [
        one.name for one in (breakage.old_value, breakage.new_value) if isinstance(one, griffe.Parameter)
    ]
    return f"{path}: {what[0].lower()}{what[1:]}{f' ({named[0]})' if named else ''}"


def _rebuilt(lines: Iterable[str]) -> griffe.Module:
    """Turn the lines of an API into Python that says the same, a class for each module and class, and read that."""
    owners: defaultdict[str, list[str]] = defaultdict(list)
    heads: dict[str, str] = {}
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None or "overload" in (match["labels"] or ""):
            continue
        path = match["path"]
        owner, _, name = path.rpartition(".")
        if match["kind"] == "module":
            heads[path] = ""
        elif match["bases"] is not None:
            heads[path] = match["bases"]
            owners[owner].append(path)
        else:
            owners[owner].append(_statement(name, match))
    # A module may have the name of what its package exports, so modules are not nested.
    modules = [path for path, head in heads.items() if not head]
    code = [line for path in modules for line in _class(path.replace(".", "__of__"), path, heads, owners)]
    return griffe.visit("api", Path("api.py"), "\n".join(code))


def _class(name: str, path: str, heads: dict[str, str], owners: dict[str, list[str]]) -> Iterator[str]:
    yield f"class {name}{heads[path]}:"
    yield "    pass"
    for member in owners.get(path, ()):
        if member in heads:
            body = _class(member.rpartition(".")[2], member, heads, owners)
            yield from (f"    {line}" for line in body)
        else:
            yield from (f"    {line}" for line in member.splitlines())


def _statement(name: str, match: re.Match[str]) -> str:
    labels = (match["labels"] or "").split(", ")
    if match["call"]:
        marks = "".join(f"@{label}\n" for label in labels if label in {"classmethod", "staticmethod"})
        return f"{marks}{'async ' if 'async' in labels else ''}def {name}{match['call']}: ..."
    if match["kind"]:  # where an alias leads to is nobody's business
        return f"{name}: 'alias'"
    return (
        f"{name} = ..." if match["about"] == "?" else f"{name}: {match['about']}".replace(": ? = ", " = ", 1)
    )


if __name__ == "__main__":
    sys.exit(main())
