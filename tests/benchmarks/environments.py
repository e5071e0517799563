"""Virtual environments for the peers, made once: by name and version, through the index that pip is told to use."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).with_name("peers.toml")


@dataclass(frozen=True, slots=True)
class Peer:
    """What is installed, and how it is driven."""

    name: str
    title: str
    adapter: str
    requirements: tuple[str, ...]
    optional: bool = False
    workloads: tuple[str, ...] = ()
    """What it is measured on, if not on everything."""


class InstallError(Exception):
    """A peer cannot be installed."""


def read_peers(path: Path = PEERS) -> list[Peer]:
    """Return the peers in the order of the file."""
    return [
        Peer(
            name, **{key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        )
        for name, table in tomllib.loads(path.read_text("utf-8")).items()
    ]


def environment(peer: Peer, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made if it is not there yet.

    Raises:
        InstallError: It cannot be made.
    """
    venv = folder / peer.name
    python, stamp = venv / "bin" / "python", venv / "installed.json"
    wanted = json.dumps([platform.python_version(), *peer.requirements])
    if stamp.exists() and python.exists() and stamp.read_text("utf-8") == wanted:
        return python
    if venv.exists():
        shutil.rmtree(venv)
    _run([sys.executable, "-m", "venv", str(venv)])
    _run([str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *peer.requirements])
    stamp.write_text(wanted, "utf-8")
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(cause(done.stderr or done.stdout))


def cause(output: str) -> str:
    """Say in a line what went wrong, without addresses, which may hold credentials."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    told = next((line for line in lines if line.lower().startswith("error")), lines[-1])
    return re.sub(r"\w+://\S+", "...", told)[:200]
