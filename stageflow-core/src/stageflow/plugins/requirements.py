"""Requirements: what a distribution declares that it needs, read to say how to install what is missing of it.

The core does not depend on ``packaging``, and needs of a requirement only its name and the extra it is part of.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from stageflow.plugins.names import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["how_to_install"]

# PEP 508, as build backends write it: "stageflow-tools<0.2,>=0.1; extra == 'tools'".
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EXTRA: Final = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


class _Requirement(NamedTuple):
    name: str
    text: str
    """As pip takes it, without the marker."""

    extra: str
    conditional: bool


def how_to_install(module: str, *, wanted_by: str = "") -> str:
    """Return how to install the package that holds *module*, by what the distribution *wanted_by* declares.

    Without such a distribution, nobody declares anything.

    ```python
    from stageflow.plugins.requirements import how_to_install

    print(how_to_install("soxr", wanted_by="nobody"))
    #> Install the package that provides 'soxr', which nobody needs and does not declare
    ```
    """
    top = module.partition(".")[0]
    if not wanted_by:
        return f"Install the package that provides {top!r}"
    declared = [*_declared(wanted_by)]
    named = [need for need in declared if canonical(need.name) == canonical(top)]
    always = next((need for need in named if not need.extra), None)
    if always is not None:
        return f"Install what {wanted_by} declares: pip install '{always.text}'"
    if named:
        extra = named[0].extra
        return (
            f"Install the extra {extra!r} of {wanted_by}, which brings it: pip install '{wanted_by}[{extra}]'"
        )
    # A package is not always called as its module is (PyYAML, yaml): then it is among what is not there.
    absent = [need.text for need in declared if not need.conditional and not _is_installed(need.name)]
    if absent:
        command = " ".join(["pip install", *map(repr, absent)])
        return f"Install what {wanted_by} declares: {command}"
    return f"Install the package that provides {top!r}, which {wanted_by} needs and does not declare"


def _declared(distribution: str) -> Iterator[_Requirement]:
    from importlib_metadata import requires

    try:
        lines = requires(distribution) or []
    except Exception:  # noqa: BLE001 - not there, or its metadata is broken: either way nothing is known of it
        return
    for line in lines:
        text, _, marker = line.partition(";")
        name = _NAME.match(text)
        if name is not None:
            extra = _EXTRA.search(marker)
            yield _Requirement(name[0], text.strip(), extra[1] if extra else "", bool(marker.strip()))


def _is_installed(name: str) -> bool:
    from importlib_metadata import PackageNotFoundError, distribution

    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
