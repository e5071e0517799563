"""Deprecations: warn once for each place until they are due, and are an error from then on."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from stageflow.context import MemoryEnrichment
from stageflow.deprecations import (
    DEPRECATIONS,
    Deprecation,
    RemovedError,
    RemovedInCore3Warning,
    StageflowDeprecationWarning,
)
from stageflow.errors import ConfigurationError, ErrorClass

if TYPE_CHECKING:
    from pathlib import Path


class RemovedInAcme2Warning(StageflowDeprecationWarning):
    distribution = "stageflow-acme"
    removal = "2.0"


class RemovedInPytest2Warning(StageflowDeprecationWarning):
    """Of a distribution that is installed, and is beyond 2."""

    distribution = "pytest"
    removal = "2.0"


def deprecation(removed_in: type[StageflowDeprecationWarning] = RemovedInAcme2Warning) -> Deprecation:
    return Deprecation(
        "acme.fetch()", since="1.4", removed_in=removed_in, replacement="acme.load()", code="ACME-FETCH"
    )


MESSAGE = (
    "[ACME-FETCH] acme.fetch() is deprecated since stageflow-acme 1.4; use acme.load(). "
    "stageflow-acme 2.0 removes it."
)


def test_the_warning_says_what_until_when_and_what_instead():
    warning = deprecation().warning()
    assert type(warning) is RemovedInAcme2Warning
    assert isinstance(warning, DeprecationWarning)
    assert str(warning) == MESSAGE
    assert warning.deprecation == deprecation()


def test_a_warning_of_the_core_names_its_page():
    with pytest.warns(RemovedInCore3Warning) as caught:
        MemoryEnrichment(short_term=["a"])
    assert str(caught[0].message) == (
        "[SF-DEPRECATED-ENRICHMENT] MemoryEnrichment(short_term=...) is deprecated since stageflow-core 2.0; "
        "use recent_topics=. stageflow-core 3.0 removes it. "
        "Docs: docs/reference/errors/SF-DEPRECATED-ENRICHMENT.md"
    )
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("version", "due"),
    [
        (None, False),
        ("", False),
        ("unknown", False),
        ("1.99", False),
        ("2", True),
        ("2.0", True),
        ("2.0.0", True),
        ("2.0a1", True),  # a release is tried before it is out
        ("2.0.dev1+local", True),
        ("v2.1", True),
        ("10.0", True),
        ("1!0.1", True),
        ("0!1.9", False),
    ],
    ids=repr,
)
def test_when_it_is_due(version: str | None, *, due: bool):
    assert deprecation().due_in(version) is due


PACKAGE = """
from stageflow.deprecations import Deprecation, StageflowDeprecationWarning

class RemovedInAcme2Warning(StageflowDeprecationWarning):
    distribution = "stageflow-acme"
    removal = "2.0"

OLD = Deprecation(
    "acme.fetch()", since="1.4", removed_in=RemovedInAcme2Warning, replacement="acme.load()", code="ACME-FETCH"
)
"""
OUTER = """
from acme.inner import OLD

def fetch():
    helper()

def helper():
    OLD.warn()
"""
PROGRAM = """
import warnings
from acme.outer import fetch

def show(message, category, filename, lineno, file=None, line=None):
    print(category.__name__, filename.rpartition("/")[2], lineno)

warnings.showwarning = show
for _ in range(3):
    fetch()
fetch()
"""


def installed(folder: Path, version: str | None) -> None:
    """Lay out a package, and its metadata, in a folder."""
    (folder / "acme").mkdir()
    (folder / "acme" / "__init__.py").touch()
    (folder / "acme" / "inner.py").write_text(PACKAGE)
    (folder / "acme" / "outer.py").write_text(OUTER)
    (folder / "program.py").write_text(PROGRAM)
    if version is not None:
        about = folder / f"stageflow_acme-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stageflow-acme\nVersion: {version}\n")


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, str(folder / "program.py")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("version", [None, "1.9"], ids=["not installed", "before"])
def test_each_place_outside_of_the_package_hears_of_it_once(version: str | None, tmp_path: Path):
    installed(tmp_path, version)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    # Lines of the program, whatever helpers of its own the package goes through; and by Python's own default filter.
    assert done.stdout.splitlines() == [
        "RemovedInAcme2Warning program.py 10",
        "RemovedInAcme2Warning program.py 11",
    ]


def test_a_filter_may_name_one_removal(tmp_path: Path):
    installed(tmp_path, "1.9")
    done = run(tmp_path, "-W", "error:[ACME-FETCH]:DeprecationWarning")
    assert done.stderr.splitlines()[-1] == f"acme.inner.RemovedInAcme2Warning: {MESSAGE}"
    assert done.returncode == 1


def test_from_the_removal_on_it_is_an_error(tmp_path: Path):
    installed(tmp_path, "2.0rc1")
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "stageflow.deprecations.RemovedError: [ACME-FETCH] acme.fetch() was deprecated in stageflow-acme 1.4, and 2.0 "
        "has removed it. Where: stageflow-acme 2.0rc1. What to do: Use acme.load()."
    )


def test_the_error_has_the_code_of_the_deprecation_and_pickles():
    with pytest.raises(RemovedError) as caught:
        deprecation(RemovedInPytest2Warning).warn()
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.code, error.installed, error.error_class) == (
        "ACME-FETCH",
        pytest.__version__,
        ErrorClass.LOGIC,
    )
    assert error.deprecation == deprecation(RemovedInPytest2Warning)
    assert str(error) == str(caught.value)


def test_a_raised_warning_is_raised_each_time():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(RemovedInAcme2Warning):
                deprecation().warn()


class Nowhere(StageflowDeprecationWarning):
    removal = "2.0"


class SomeDay(StageflowDeprecationWarning):
    distribution = "stageflow-acme"
    removal = "some day"


@pytest.mark.parametrize(
    ("since", "removed_in", "message"),
    [
        ("soon", RemovedInAcme2Warning, "'soon' is no version"),
        ("1.0", SomeDay, "'some day' is no version"),
        ("1.0", Nowhere, "Nowhere names no distribution"),
    ],
    ids=["since", "removal", "distribution"],
)
def test_what_no_release_could_keep_is_refused(
    since: str, removed_in: type[StageflowDeprecationWarning], message: str
):
    with pytest.raises(ConfigurationError) as caught:
        Deprecation("old()", since=since, removed_in=removed_in, replacement="new()", code="X")
    assert caught.value.what == message
    assert caught.value.where == "Deprecation('old()')"


def test_the_core_s_own_are_of_the_core_and_not_due():
    for what, one in DEPRECATIONS.items():
        assert what == one.what
        assert one.distribution == "stageflow-core"
        assert one.due() is None  # what is due must go from the sources


@given(
    release=st.lists(st.integers(0, 30), min_size=1, max_size=4),
    epoch=st.sampled_from(["", "0!", "1!"]),
    rest=st.sampled_from(["", "a1", "rc2", ".post1", ".dev3", "b1.dev2", "+local.1"]),
)
def test_due_is_what_the_packaging_library_makes_of_the_versions(release: list[int], epoch: str, rest: str):
    version = f"{epoch}{'.'.join(map(str, release))}{rest}"
    assert deprecation().due_in(version) is (Version(Version(version).base_version) >= Version("2.0"))


def test_a_test_suite_can_be_made_ready_for_a_release(tmp_path: Path):
    (tmp_path / "test_it.py").write_text(
        "from stageflow.context import MemoryEnrichment\n\ndef test_it(): MemoryEnrichment(summary='so')\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    for options, outcome in (
        ([], "1 passed, 1 warning"),
        (["-W", "error::stageflow.deprecations.RemovedInCore3Warning"], "1 failed"),
    ):
        done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert outcome in done.stdout, done.stdout
