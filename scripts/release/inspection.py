"""Inspection: is a wheel what its package promises, before anybody can install it."""

from __future__ import annotations

import configparser
import re
import zipfile
from typing import TYPE_CHECKING

from packaging.metadata import Metadata
from wheelhouse import metadata_of, requirements_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message
    from pathlib import Path

    from packaging.requirements import Requirement

__all__ = ["import_package", "outward_links", "problems"]

CORE = "stageflow-core"
# An index holds releases of somebody else's under the core's name, the last of which is this one.
NAMESAKE = "1.2.0"
LOWER, UPPER = {">=", ">", "==", "~="}, {"<", "<=", "==", "~="}
STRAY = re.compile(r"(?:^|/)(?:test_[^/]*\.py|conftest\.py|__pycache__|[^/]*\.pyc|\.[^/]+)(?:/|$)")
# A link of a README that leads to a file beside it, which no index shows.
RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


def import_package(package: str) -> str:
    """Return the name under which a distribution of this repository is imported."""
    return "stageflow" if package == CORE else package.replace("-", "_")


def outward_links(wheel: Path) -> list[str]:
    """Return the links of a wheel's description that lead nowhere on an index."""
    return RELATIVE.findall(_description(metadata_of(wheel)))


def problems(wheel: Path, source: Path, versions: Mapping[str, str]) -> list[str]:
    """Return everything that is wrong with a wheel.

    Args:
        wheel: The wheel.
        source: The folder of the package that it was built from, with nothing in it that is not committed.
        versions: The version of every package of the repository.
    """
    with zipfile.ZipFile(wheel) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    about = metadata_of(wheel)
    return [
        *_of_the_metadata(next(data for name, data in files.items() if name.endswith(".dist-info/METADATA"))),
        *_of_the_fields(about, source.name, versions),
        *_of_the_ranges(about, source.name, versions),
        *_of_the_files(files, source),
        *_of_the_entry_points(files),
    ]


def _description(about: Message) -> str:
    return str(about.get_payload() or about["Description"] or "")


def _of_the_metadata(text: bytes) -> list[str]:
    try:
        Metadata.from_email(text, validate=True)
    except ExceptionGroup as group:
        return [f"its metadata is not valid: {error}" for error in group.exceptions]
    return []


def _of_the_fields(about: Message, package: str, versions: Mapping[str, str]) -> Iterator[str]:
    for field, expected in (("Name", package), ("Version", versions[package]), ("License-Expression", "MIT")):
        if about[field] != expected:
            yield f"its metadata says {field} {about[field]!r}, where {expected!r} is expected"
    if not about["Requires-Python"]:
        yield "its metadata does not say which Pythons it needs"
    if about["Description-Content-Type"] != "text/markdown" or not _description(about).strip():
        yield "it has no description in Markdown, which its page on an index would show"


def _of_the_ranges(about: Message, package: str, versions: Mapping[str, str]) -> Iterator[str]:
    for need in requirements_of(about):
        if need.name == package:  # an extra that is made of others
            continue
        operators = {one.operator for one in need.specifier}
        if not operators & LOWER:
            yield f"its range '{_said(need)}' has no lower end"
        if need.url:
            yield f"it needs {need.name} from an address, which no index takes"
        if need.name not in versions:
            continue
        if not operators & UPPER:
            yield f"its range '{_said(need)}' has no upper end"
        if not need.specifier.contains(versions[need.name], prereleases=True):
            yield f"its range '{_said(need)}' does not admit {need.name} {versions[need.name]} of this repository"
        if need.name == CORE and need.specifier.contains(NAMESAKE, prereleases=True):
            yield f"its range '{_said(need)}' admits {CORE} {NAMESAKE}, which is somebody else's"


def _said(need: Requirement) -> str:
    return f"{need.name}{need.specifier}"


def _of_the_files(files: Mapping[str, bytes], source: Path) -> Iterator[str]:
    name = import_package(source.name)
    root = source / "src"
    committed = {str(file.relative_to(root)) for file in (root / name).rglob("*") if file.is_file()}
    about = next(file.partition("/")[0] for file in files if ".dist-info/" in file)
    held = {file for file in files if not file.startswith(f"{about}/")}
    for title, some in (("holds", held - committed), ("lacks", committed - held)):
        if some:
            yield f"it {title} {', '.join(sorted(some)[:5])}{' and more' if len(some) > 5 else ''}"  # noqa: PLR2004 - as many as one reads
    yield from (
        f"it holds {file}, which is no part of a package" for file in sorted(held) if STRAY.search(file)
    )
    if f"{name}/py.typed" not in files:
        yield "it has no py.typed, so nobody's type checker reads it"
    if files.get(f"{about}/licenses/LICENSE") != (source / "LICENSE").read_bytes():
        yield "it does not hold its LICENSE"


def _of_the_entry_points(files: Mapping[str, bytes]) -> Iterator[str]:
    text = next((data.decode() for name, data in files.items() if name.endswith("/entry_points.txt")), "")
    points = configparser.ConfigParser(delimiters=("=",))
    points.optionxform = str  # type: ignore[assignment,method-assign]
    points.read_string(text)
    for group in points.sections():
        for name, value in points[group].items():
            path = value.partition(":")[0].strip().replace(".", "/")
            if not {f"{path}.py", f"{path}/__init__.py"} & {*files}:
                yield f"its entry point {name} of {group} names {value}, which it does not hold"
