"""The page about stability lists what is deprecated, and states the version table as the release computes it."""

from __future__ import annotations

import re
from pathlib import Path

from stageflow.deprecations import DEPRECATIONS
from stageflow.plugins import hookspecs
from stageflow.plugins.markers import deprecation_of

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins" / "stability.md").read_text("utf-8")
ROW = re.compile(
    r"^\| `(?P<what>[^`]+)` \| (?P<since>\S+) \| (?P<removal>\S+) \| `(?P<replacement>[^`]+)` \| "
    r"\[(?P<code>\S+)\]\(\.\./reference/errors/(?P<page>\S+)\.md\) \|$",
    re.MULTILINE,
)


def test_what_is_deprecated_is_listed():
    assert [match.groupdict() for match in ROW.finditer(PAGE)] == [
        {
            "what": one.what,
            "since": one.since,
            "removal": one.removal,
            "replacement": one.replacement,
            "code": one.code,
            "page": one.code,
        }
        for one in DEPRECATIONS.values()
    ]


def test_hooks_that_are_deprecated_are_told():
    deprecated = [hook for hook in hookspecs.HOOKS if deprecation_of(getattr(hookspecs, hook)) is not None]
    assert deprecated == []
    assert "No hook is deprecated." in PAGE
