"""Ask the Python manual three questions, and draw the pipeline that answers them: what `make demo` shows.

Every step is a command that you can copy and run yourself.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = {
    "A question about what a thing does. The first one also builds the index of the manual.": (
        "What does a with statement do when its body raises?"
    ),
    "A question about how to do a thing: the pipeline takes another branch.": (
        "How do I raise an exception from another one?"
    ),
    "A question that the manual does not answer: better to say so than to make something up.": (
        "What is the capital of France?"
    ),
}
DAG, TIMELINE = "demo-dag.svg", "demo-timeline.svg"


def main() -> int:
    """Run the steps; the first that fails ends it, with its exit code."""
    stageflow = shutil.which("stageflow", path=str(Path(sys.executable).parent))
    if stageflow is None:
        print("demo: stageflow is not installed beside this Python: say `make demo`", file=sys.stderr)
        return 1
    program, example = short(Path(stageflow)), short(ROOT / "docs" / "examples" / "ask_manual.py")
    # In .venv, which git ignores, and not among the user's own data.
    journal = f"journal={short(Path(sys.prefix, 'demo-journal.sqlite3'))}"
    steps = [
        (about, [program, "run", example, "--input", question, "--set", journal])
        for about, question in QUESTIONS.items()
    ]
    steps[0][1].extend(["--timeline", TIMELINE])
    steps.append(
        ("The pipeline itself, as a picture.", [program, "graph", example, "--format", "svg", "-o", DAG])
    )
    for number, (about, command) in enumerate(steps, 1):
        print(f"{'' if number == 1 else os.linesep}{number}. {about}\n$ {shlex.join(command)}\n", flush=True)
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        if code != 0:
            return code
    print(f"\nOpen {DAG} and {TIMELINE} in a browser; read {example} to see how it is made.")
    return 0


def short(path: Path) -> str:
    """Return a path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
