"""200 installed plugins: who asks for nothing of theirs imports none of them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from many_plugins import environment, imported, install, stageflow

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 200

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("site") / "many", COUNT)


def output(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        stageflow(folder, *arguments), env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--help",), 0),
        (("--version",), 0),
        (("run", "--help"), 0),
        (("graph", "--help"), 0),
        (("doctor", "--help"), 0),
        (("plugins", "--help"), 0),
        (("plugins", "list"), COUNT),
        (("--help-all",), COUNT),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_only_who_asks_for_plugins_imports_them(many: Path, arguments: tuple[str, ...], count: int) -> None:
    assert imported(many, *arguments) == count


def test_help_imports_what_it_imports_without_them(many: Path, tmp_path: Path) -> None:
    then = "print('modules:', len(sys.modules))"
    counts = {
        subprocess.run(
            stageflow(folder, "--help", then=then),
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[-1]
        for folder in (many, install(tmp_path / "none", 0))
    }
    assert len(counts) == 1


def test_list_imports_one_module_more_for_each(many: Path, tmp_path: Path) -> None:
    then = "print(len(sys.modules), file=sys.stderr)"
    with_them, without = (
        subprocess.run(
            stageflow(folder, "plugins", "list", then=then),
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for folder in (many, install(tmp_path / "none", 0))
    )
    assert int(with_them) - int(without) <= COUNT + 1  # and the watchdog's, where nobody else is installed


def test_all_of_them_are_listed(many: Path) -> None:
    rows = [line.split()[:4] for line in output(many, "plugins", "list").splitlines()]
    for number in range(COUNT):
        assert [f"many-{number}", f"acme-many-{number}", "1.0", "loaded"] in rows
    assert f"many-{COUNT - 1}.hello  Say hello." in output(many, "--help-all")
    assert "many-0" in output(many, "--help")
