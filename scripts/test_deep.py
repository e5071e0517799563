"""Run every test with full counts, then hold the coverage gate, then run every test on each Python 3.11+ here.

Full counts are for finding what is rare, and take the most time: they run once, and without the coverage tracer. The
gate and the other Pythons take the counts of the quick tier, but every test, also those of the deep tier.

No gap is tolerated: a test on a real component that skips itself fails here (tests/conftest.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GATE = 97
NO_GAPS = {"STAGEFLOW_NO_GAPS": "1"}
FULL = {"HYPOTHESIS_PROFILE": "deep", **NO_GAPS}
# Full counts take longer than the 20 seconds of the quick tier.
PYTEST = ["-m", "pytest", "--timeout=600", "-n", "2"]


def main() -> None:
    """Exit with the first failure."""
    os.chdir(ROOT)
    python = str(ROOT / ".venv/bin/python")
    here = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    print(f"== {here}, full counts", flush=True)
    run([python, *PYTEST], FULL)
    print(f"== {here}, with coverage", flush=True)
    run([python, "-m", "coverage", "erase"])
    run([python, "-m", "coverage", "run", *PYTEST], NO_GAPS)
    run([python, "-m", "coverage", "combine", "--quiet"])
    run([python, "-m", "coverage", "report", f"--fail-under={GATE}"])
    for minor, base in sorted(pythons().items()):
        if minor != sys.version_info.minor:
            print(f"== Python 3.{minor}", flush=True)
            venv = ROOT / f".venv-3.{minor}"
            run([str(base), "scripts/bootstrap.py", "--venv", str(venv)])
            run([str(venv / "bin/python"), *PYTEST], NO_GAPS)


def pythons() -> dict[int, Path]:
    """Find one interpreter of each minor version, on the path or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = [*map(Path, os.get_exec_path()), *sorted(pyenv.glob("versions/*/bin"), reverse=True)]
    candidates = [path for folder in folders for path in folder.glob("python3.[0-9][0-9]")]
    found: dict[int, Path] = {}
    for path in candidates:
        # A shim may name a version that is not there.
        asked = [str(path), "-c", "import sys, venv, ensurepip; print(*sys.version_info[:2])"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
        if answer[:1] == ["3"] and int(answer[1]) >= 11:  # noqa: PLR2004 - the oldest minor version served
            found.setdefault(int(answer[1]), path)
    return found


def run(command: list[str], extra: dict[str, str] | None = None) -> None:
    """Run one step in sight."""
    done = subprocess.run(command, env=os.environ | (extra or {}), check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
