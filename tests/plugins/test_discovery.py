"""Reading metadata: what is found, in which order, and what broken metadata costs."""

import importlib
import sys

from stageflow.plugins.discovery import Candidate, discover


def test_candidates_are_found_without_importing_them(site):
    module = site.install("acme", "raise ValueError", distribution="stageflow-acme", version="1.2")
    assert site.candidates() == [
        Candidate(name="acme", module=module, distribution="stageflow-acme", version="1.2")
    ]
    assert module not in sys.modules


def test_the_order_is_by_distribution_and_name(site):
    for name in ("zeta", "alpha"):
        site.install(name, entry_points={f"{name}2": "m", f"{name}1": "m"})
    assert [candidate.name for candidate in site.candidates()] == ["alpha1", "alpha2", "zeta1", "zeta2"]


def test_metadata_without_a_version(site):
    site.install("acme", version=None)
    (candidate,) = site.candidates()
    assert candidate.version is None
    assert str(candidate.provenance) == "plugin 'acme' (dist-acme (version unknown))"


def test_a_stale_second_copy_of_a_distribution_is_dropped(site, tmp_path, monkeypatch):
    site.install("acme", version="1.0")
    newer = tmp_path / "newer"
    newer.mkdir()
    monkeypatch.syspath_prepend(newer)
    type(site)(newer).install("acme", version="2.0")
    assert [candidate.version for candidate in site.candidates()] == ["2.0"]


def test_entry_points_that_do_not_parse_cost_nobody_else_their_plugins(site):
    site.install("acme")
    info = site.folder / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text("[stageflow]\nno equals sign\n", "utf-8")
    importlib.invalidate_caches()
    assert [candidate.name for candidate in site.candidates()] == ["acme"]


def test_another_group_is_another_matter(site):
    site.install("acme")
    assert "acme" not in [candidate.name for candidate in discover("console_scripts")]
