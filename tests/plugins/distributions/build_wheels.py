"""Builds the wheel of every distribution in this folder: ``python build_wheels.py OUT``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from hatchling.build import build_wheel

HERE = Path(__file__).parent


def main(out: str) -> None:
    for tree in sorted(HERE.glob("*/pyproject.toml")):
        os.chdir(tree.parent)  # as PEP 517 has it
        build_wheel(out)


if __name__ == "__main__":
    main(sys.argv[1])
