"""``python -m stageflow.cli``."""

import sys

from stageflow.cli.main import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main(program_name="python -m stageflow.cli"))
