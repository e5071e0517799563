"""The benchmarks are programs, and import each other from their own folder; the tests of them do, too."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
