"""Every package of this repository is the one in this checkout, and says so wherever it is installed.

An index holds other releases named stageflow-core: a namesake must fit no range and never take a local package's place.
"""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Generator
from email import message_from_bytes
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(manifest.parent.name for manifest in ROOT.glob("stageflow-*/pyproject.toml"))
SIBLINGS = [name for name in PACKAGES if name != "stageflow-core"]


def import_name(package: str) -> str:
    return "stageflow" if package == "stageflow-core" else package.replace("-", "_")


@pytest.fixture(params=PACKAGES, scope="module")
def wheel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[zipfile.ZipFile]:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
    done = subprocess.run([*build, str(ROOT / request.param)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("*.whl")
    with zipfile.ZipFile(file) as opened:
        yield opened


def member(wheel: zipfile.ZipFile, ending: str) -> bytes:
    (name,) = (name for name in wheel.namelist() if name.endswith(ending))
    return wheel.read(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_package_is_this_checkout(package: str) -> None:
    origin = json.loads(metadata.distribution(package).read_text("direct_url.json") or "{}")
    assert origin == {"url": (ROOT / package).as_uri(), "dir_info": {"editable": True}}
    spec = find_spec(import_name(package))
    assert spec is not None
    assert spec.origin == str(ROOT / package / "src" / import_name(package) / "__init__.py")


@pytest.mark.parametrize("package", SIBLINGS)
def test_sibling_plugin_is_registered_by_its_own_distribution(package: str) -> None:
    name = package.removeprefix("stageflow-")
    (entry,) = metadata.distribution(package).entry_points.select(group="stageflow")
    assert (entry.name, entry.value) == (name, f"stageflow_{name}.plugin")


def test_wheel_names_siblings_with_ranges_that_no_namesake_fits(wheel: zipfile.ZipFile) -> None:
    about = message_from_bytes(member(wheel, ".dist-info/METADATA"))
    required = about.get_all("Requires-Dist") or []
    if about["Name"] == "stageflow-core":
        assert about["Version"].startswith("2.")
        for extra in ("tools", "voice", "otel", "auth"):
            assert f"stageflow-{extra}<0.2,>=0.1.0a1; extra == '{extra}'" in required
    else:
        assert "stageflow-core<3,>=2.0.0a1" in required
    assert about["License-Expression"] == "MIT"
    assert about["Requires-Python"] == ">=3.11"


def test_wheel_is_typed_and_holds_its_licence(wheel: zipfile.ZipFile) -> None:
    member(wheel, "/py.typed")
    assert member(wheel, "/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_root_configuration_names_every_package() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tool["uv"]["sources"] == {name: {"workspace": True} for name in PACKAGES}
    assert tool["pyright"]["include"] == [*(f"{name}/src" for name in PACKAGES), "tests/typing/right"]
    assert tool["mypy"]["mypy_path"].split(":") == [f"{name}/src" for name in PACKAGES]
    assert sorted(tool["importlinter"]["root_packages"]) == sorted(map(import_name, PACKAGES))


def test_constraints_pin_no_local_package_and_name_no_address() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert pins
    assert not [
        pin for pin in pins if not re.match(r"(?!stageflow)[a-z0-9-]+==[a-z0-9.+]+( ; [^/@]+)?$", pin)
    ]
