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
    installed("acme-always", "1.0")
    installed("acme-voice", "0.1.0a1", "Requires-Dist: acme-core<3,>=2.0.0a1")
    found = read_installation("acme-core", [])
    assert {extra.name: extra.missing for extra in found.extras} == {
        "cli": ("acme-click",),
        "voice": (),
        "old-python": (),
        "all": (),
    }
    assert (found.core.version, found.siblings, found.problems) == ("2.0.0a1", (), ())


def test_versions_that_do_not_fit_are_named_whoever_asks_for_them(installed) -> None:
    installed("acme-core", "3.0", *CORE)
    installed("acme-always", "0.9")
    installed("acme-voice", "0.2", "Requires-Dist: acme_core<3,>=2")
    installed("acme-other", "1.0", "Requires-Dist: acme-core==3.*")
    found = read_installation("acme-core", ["acme-other", "Acme_Voice", "acme-core", "acme-nowhere"])
    assert [str(one) for one in found.problems] == [
        f"{what} is installed. What to do: Run: pip install --upgrade {both}; in one call, pip finds versions that fit."
        for what, both in (
            ("acme-core 3.0 needs Acme.Voice<0.2,>=0.1.0a1, but 0.2", "acme-core acme-voice"),
            ("acme-core 3.0 needs acme-always>=1, but 0.9", "acme-core acme-always"),
            ("acme-voice 0.2 needs acme_core<3,>=2, but 3.0", "acme-voice acme-core"),
        )
    ]
    assert [one.name for one in found.siblings] == ["acme-other", "acme-voice"]


@pytest.mark.parametrize(
    ("version", "fits"),
    [("2.0", True), ("2.5.dev1", True), ("3.0a1", False), ("1.9", False), ("nonsense", True)],
    ids=str,
)
def test_a_pre_release_within_the_range_was_chosen(installed, version: str, *, fits: bool) -> None:
    installed("acme-core", version)
    installed("acme-voice", "0.1", "Requires-Dist: acme-core<3,>=2")
    assert (read_installation("acme-core", ["acme-voice"]).problems == ()) is fits


def test_a_core_without_metadata_has_nothing_to_say() -> None:
    found = read_installation("acme-nowhere", [])
    assert (found.core.name, found.core.version, found.extras, found.problems) == (
        "acme-nowhere",
        None,
        (),
        (),
    )


def test_what_a_plugin_declares_and_is_not_there_is_named_with_the_command(installed) -> None:
    installed("acme-core", "2.0")
    installed(
        "acme-plugin",
        "1.0",
        "Requires-Dist: acme-core<3,>=2",
        "Requires-Dist: acme-gone[fast,big]>=1.2",
        "Requires-Dist: acme-never; python_version < '3'",
        "Requires-Dist: acme-perhaps; extra == 'more'",
    )
    found = read_installation("acme-core", ["acme-plugin"])
    assert [str(one) for one in found.problems] == [
        (
            "acme-plugin 1.0 needs acme-gone[big,fast]>=1.2, which is not installed. What to do: Run: pip install "
            "'acme-gone[big,fast]>=1.2'."
        )
    ]


def test_two_plugins_that_need_different_versions_of_one_package_are_told(installed) -> None:
    installed("acme-core", "2.0")
    installed("acme-shared", "2.5")
    installed("acme-old", "1.0", "Requires-Dist: acme-shared<2")
    installed("acme-new", "1.0", "Requires-Dist: acme-shared>=2")
    found = read_installation("acme-core", ["acme-old", "acme-new"])
    assert [one.message for one in found.problems] == [
        "acme-old 1.0 needs acme-shared<2, but 2.5 is installed"
    ]


@pytest.mark.parametrize(
    ("there", "lacks"),
    [
        ((), "'acme-click' and 'acme-rich' are"),
        (("acme-click",), "'acme-rich' is"),
        (("acme-click", "acme-rich"), ""),
    ],
    ids=["none", "part", "all"],
)
def test_an_extra_that_a_plugin_needs_is_whole_or_named_with_the_command(
    installed, there, lacks: str
) -> None:
    needs = (
        "Provides-Extra: cli",
        "Requires-Dist: acme-click; extra == 'cli'",
        "Requires-Dist: acme-rich; extra == 'cli'",
    )
    installed("acme-core", "2.0", *needs)
    installed("acme-plugin", "1.0", "Requires-Dist: acme-core[cli]>=2")
    for name in there:
        installed(name, "1.0")
    found = read_installation("acme-core", ["acme-plugin"])
    assert [str(one) for one in found.problems] == (
        [
            (
                f"acme-plugin 1.0 needs the extra 'cli' of acme-core, of which {lacks} not installed. What to do: Run: "
                "pip install 'acme-core[cli]'."
            )
        ]
        if lacks
        else []
    )


def test_metadata_without_a_version_is_read_all_the_same(installed, tmp_path) -> None:
    installed("acme-core", "2.0")
    installed("acme-plugin", "1.0", "Requires-Dist: acme-core>=3")
    metadata = tmp_path / "acme_plugin-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text("utf-8").replace("Version: 1.0\n", ""), "utf-8")
    found = read_installation("acme-core", ["acme-plugin"])
    assert [one.version for one in found.siblings] == [None]
    assert [one.message for one in found.problems] == [
        "acme-plugin (version unknown) needs acme-core>=3, but 2.0 is installed"
    ]
