"""Versions: the one in a package's pyproject.toml, which is the only place that states it, and the next one."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["next_version", "read_version", "released", "tag_of", "version_problem", "write_version"]

STATED = re.compile(r'(?<=^version = ")[^"]+(?="$)', re.MULTILINE)


def tag_of(package: str, version: Version | str) -> str:
    """Return the tag of a release."""
    return f"{package}-v{version}"


def released(package: str, tags: Iterable[str]) -> list[Version]:
    """Return the versions that tags say were released, oldest first."""
    found: list[Version] = []
    for tag in tags:
        try:
            found.append(Version(tag.removeprefix(tag_of(package, ""))))
        except InvalidVersion:
            continue  # a tag of somebody's own
    return sorted(found)


def read_version(manifest: Path) -> Version:
    """Return the version that a pyproject.toml states."""
    return Version(tomllib.loads(manifest.read_text("utf-8"))["project"]["version"])


def write_version(manifest: Path, version: Version) -> None:
    """State a version in a pyproject.toml, and leave the rest as it is."""
    text, count = STATED.subn(str(version), manifest.read_text("utf-8"))
    if count != 1:
        message = (
            f"{manifest} states its version {count} times, where one line 'version = \"...\"' is expected"
        )
        raise ValueError(message)
    manifest.write_text(text, "utf-8")


def next_version(stated: Version, before: list[Version], kinds: set[str]) -> Version:
    """Return the version to release next.

    Args:
        stated: The version in the pyproject.toml. It is the one, unless it has been released.
        before: What was released, oldest first.
        kinds: The types of the fragments.
    """
    if not before or stated > before[-1]:
        return stated
    last = before[-1]
    if last.pre is not None:
        letter, number = last.pre
        return Version(f"{last.base_version}{letter}{number + 1}")
    major, minor, patch = (*last.release, 0, 0)[:3]
    # Below 1.0, the second number does what the first one does from 1.0 on.
    if "removed" in kinds:
        return Version(f"{major + 1}.0.0") if major else Version(f"0.{minor + 1}.0")
    if major and kinds & {"added", "changed", "deprecated"}:
        return Version(f"{major}.{minor + 1}.0")
    return Version(f"{major}.{minor}.{patch + 1}")


def version_problem(package: str, wanted: str, before: list[Version]) -> str | None:
    """Return what is wrong with a version that somebody wants, or None."""
    try:
        version = Version(wanted)
    except InvalidVersion:
        return f"{wanted!r} is no version; write VERSION=0.2.0, or 0.2.0rc1"
    if str(version) != wanted:
        return f"{wanted!r} is not how the version is written; write VERSION={version}"
    if version.local or version.dev is not None:
        return f"{wanted} is a version for development, which no index takes"
    if version in before:
        return f"{wanted} is released: there is a tag {tag_of(package, version)}"
    if before and version <= before[-1]:
        return f"{wanted} is not newer than {before[-1]}, which is released"
    return None
