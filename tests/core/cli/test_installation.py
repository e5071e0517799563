"""What ``stageflow doctor`` reads off the metadata of installed distributions."""

import sys

import pytest
from stageflow.cli.installation import read_installation


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution that consists of its metadata."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])

    def install(name: str, version: str, *lines: str) -> None:
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*head, *lines]) + "\n", "utf-8")

    return install


CORE = (
    "Provides-Extra: cli",
    "Provides-Extra: voice",
    "Provides-Extra: old-python",
    "Provides-Extra: all",
    "Requires-Dist: acme-always>=1",
    'Requires-Dist: acme-click>=8.1; extra == "cli"',
    "Requires-Dist: Acme.Voice<0.2,>=0.1.0a1; extra == 'voice'",
    "Requires-Dist: acme-backport; python_version < '3.8' and extra == 'old-python'",
    "Requires-Dist: acme-core[cli,voice]; extra == 'all'",
    "Requires-Dist: ; nothing",
)


def test_an_extra_lacks_what_is_not_installed_and_needed_here(installed) -> None:
    installed("acme-core", "2.0.0a1", *CORE)
    installed("acme-voice", "0.1.0a1", "Requires-Dist: acme-core<3,>=2.0.0a1")
    found = read_installation("acme-core", [])
    assert {extra.name: extra.missing for extra in found.extras} == {
        "cli": ("acme-click",),
        "voice": (),
        "old-python": (),
        "all": (),
    }
    assert (found.core.version, found.siblings, found.skews) == ("2.0.0a1", (), ())


def test_versions_that_do_not_fit_are_named_whoever_asks_for_them(installed) -> None:
    installed("acme-core", "3.0", *CORE)
    installed("acme-voice", "0.2", "Requires-Dist: acme_core<3,>=2")
    installed("acme-other", "1.0", "Requires-Dist: acme-core==3.*")
    found = read_installation("acme-core", ["acme-other", "Acme_Voice", "acme-core", "acme-nowhere"])
    assert found.skews == (
        "acme-core 3.0 needs Acme.Voice<0.2,>=0.1.0a1, but 0.2 is installed",
        "Acme_Voice 0.2 needs acme_core<3,>=2, but 3.0 is installed",
    )
    assert [one.name for one in found.siblings] == ["acme-other", "Acme_Voice"]


@pytest.mark.parametrize(
    ("version", "fits"),
    [("2.0", True), ("2.5.dev1", True), ("3.0a1", False), ("1.9", False), ("nonsense", True)],
    ids=str,
)
def test_a_pre_release_within_the_range_was_chosen(installed, version: str, *, fits: bool) -> None:
    installed("acme-core", version)
    installed("acme-voice", "0.1", "Requires-Dist: acme-core<3,>=2")
    assert (read_installation("acme-core", ["acme-voice"]).skews == ()) is fits


def test_a_core_without_metadata_has_nothing_to_say() -> None:
    found = read_installation("acme-nowhere", [])
    assert (found.core.name, found.core.version, found.extras, found.skews) == ("acme-nowhere", None, (), ())
