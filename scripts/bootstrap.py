"""Make this checkout's virtual environment, or find within a moment that it is already there.

Needs only Python 3.11 with venv. Every local package is installed editable in one resolver call, so that
a namesake on an index can never take the place of one. A stamp is written last: a run that was interrupted
or failed leaves none.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PACKAGES = sorted(manifest.parent.name for manifest in ROOT.glob("stageflow-*/pyproject.toml"))
EXTRAS = {"stageflow-core": "[all]"}  # the siblings that it names are given beside it
# Later sections win, as in pip itself.
PIP_SECTIONS = ("global", "install", ":env:")


def main() -> None:
    """Bring the environment up to date."""
    if sys.version_info < (3, 11):  # noqa: UP036 - so that an old interpreter gets a sentence, not a traceback
        fail("needs Python 3.11 or newer: install it, then say `make PYTHON=/path/to/python3.11 ...`")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the environment's folder")
    venv: Path = parser.parse_args().venv.absolute()
    with one_at_a_time():
        Environment(venv).ensure()


class Environment:
    """One virtual environment and the stamp that says what is in it."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        self.python = venv / "bin" / "python"
        self.stamp = venv / ".stageflow-stamp"
        self.log = venv / "bootstrap.log"
        # An environment holds its path and its interpreter's: neither can be updated in place.
        self.base = f"{platform.python_version()} {sys.base_prefix} {ROOT}"
        self.wanted = f"{self.base}\n{contents()}\n"

    def ensure(self) -> None:
        """Install what the stamp does not vouch for."""
        found = self.stamp.read_text() if self.stamp.exists() and self.python.exists() else ""
        if found == self.wanted:
            return
        print(f"stageflow: setting up {self.venv.name} (again only when its inputs change)", flush=True)
        if found.partition("\n")[0] == self.base:
            self.stamp.unlink()
        else:
            self.create()
        self.install()
        self.stamp.write_text(self.wanted)

    def create(self) -> None:
        """Make an empty environment, whatever was there before."""
        if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
            fail("Python's venv module is missing: install it (Debian, Ubuntu: `apt install python3-venv`)")
        try:
            # With --clear, venv would follow a link and empty what it leads to.
            if self.venv.is_symlink():
                self.venv.unlink()
            elif self.venv.exists():
                shutil.rmtree(self.venv)
            self.venv.mkdir(parents=True)
        except OSError as error:
            fail(f"cannot write {self.venv}: {error.strerror}; free the folder or its permissions")
        self.run("making the environment", [sys.executable, "-m", "venv", str(self.venv)])

    def install(self) -> None:
        """Install uv with pip, then everything else with uv, in one call."""
        self.run("installing uv", [*self.pip, "install", "--constraint", str(CONSTRAINTS), "uv"])
        editables = [part for name in PACKAGES for part in ("--editable", f"./{name}{EXTRAS.get(name, '')}")]
        pins = ["--constraints", str(CONSTRAINTS), "--build-constraints", str(CONSTRAINTS)]
        uv = [str(self.venv / "bin" / "uv"), "pip", "install", "--python", str(self.python)]
        settings = uv_environment(self.pip_settings())
        self.run("installing the packages", [*uv, *pins, "--group", "dev", *editables], settings)

    @property
    def pip(self) -> list[str]:
        """The environment's own pip, which may be old."""
        return [str(self.python), "-m", "pip", "--disable-pip-version-check"]

    def pip_settings(self) -> dict[str, str]:
        """Read what pip is configured to use, wherever that is written."""
        listing = subprocess.run([*self.pip, "config", "list"], capture_output=True, text=True, check=False)
        found: dict[tuple[int, str], str] = {}
        for line in listing.stdout.splitlines():
            key, _, value = line.partition("=")
            section, _, name = key.rpartition(".")
            if section in PIP_SECTIONS:
                found[PIP_SECTIONS.index(section), name] = str(ast.literal_eval(value))
        return {name: found[rank, name] for rank, name in sorted(found)}

    def run(self, doing: str, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run one step, keeping its output for the case that it fails."""
        with self.log.open("a+") as log:
            start = log.seek(0, os.SEEK_END)
            done = subprocess.run(command, cwd=ROOT, env=env, stdout=log, stderr=log, check=False)
            log.seek(start)
            output = log.read()
        if done.returncode:
            advice = f"check the network and `pip config list`, or read {os.path.relpath(self.log, ROOT)}"
            fail(f"{doing} failed ({cause(output)}); {advice}")


def uv_environment(pip: Mapping[str, str]) -> dict[str, str]:
    """Say to uv what pip is told; what the user tells uv directly wins."""
    links = pip.get("find-links", "").split()
    settings = {
        "UV_DEFAULT_INDEX": pip.get("index-url", ""),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        # pip passes over a folder that is not there, uv stops at it.
        "UV_FIND_LINKS": ",".join(link for link in links if "://" in link or Path(link).is_dir()),
        "UV_NO_INDEX": pip.get("no-index", ""),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": pip.get("timeout", pip.get("default-timeout", "")),
        "SSL_CERT_FILE": pip.get("cert", ""),
        # pip goes on without a cache where it can keep none, uv stops.
        "UV_NO_CACHE": "" if can_keep_cache() else "1",
        # As pip does, take a version from whichever index has it: uv would stop at the first index that knows
        # the name, and a mirror may hold some versions only. Versions are pinned and local packages are named
        # by path, so no namesake can slip in.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    return {name: value for name, value in settings.items() if value} | dict(os.environ)


def can_keep_cache() -> bool:
    """Say whether the user has a home to keep downloads in, which a container's user may not."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))  # noqa: PTH111 - never raises
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK)


def contents() -> str:
    """Digest everything that decides what is installed."""
    manifests = [ROOT / folder / "pyproject.toml" for folder in ("", *PACKAGES)]
    digest = hashlib.sha256()
    for path in (*manifests, CONSTRAINTS, Path(__file__).resolve()):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def cause(output: str) -> str:
    """Say in a few words what went wrong, without the credentials that an index address may hold."""
    if re.search(r"(?i)connection broken|dns error|client error \(connect\)|timed out", output):
        return "no package index answers"
    lines = [re.sub(r"^\W+", "", line) for line in output.splitlines() if line.strip()] or ["no output"]
    told = next((line for line in lines if re.match(r"(?i)error|failed", line)), lines[-1])
    return re.sub(r"//[^/@\s]+@", "//", told).rstrip(".")[:200]


@contextlib.contextmanager
def one_at_a_time() -> Generator[None]:
    """Keep two `make` in one checkout from installing into the same environment at once."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def fail(message: str) -> NoReturn:
    """End with one line that says what to do."""
    sys.exit(f"stageflow: {message}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
