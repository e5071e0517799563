"""Fail if a file that can be committed names a package registry.

Pins with addresses tie a checkout to one machine's mirrors; constraints.txt holds names and versions only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Spelt with classes, so that this file does not match itself.
REGISTRY = re.compile(
    r"pypi[.]org|pythonhosted[.]org|npmjs[.](?:org|com)|yarnpkg[.]com|deb[.]debian[.]org"
    r"|crates[.]io|proxy[.]golang[.]org|(?:https?|file)://[^\s\"'<>]+/simple\b",
    re.IGNORECASE,
)


def main() -> None:
    """Print each place and exit non-zero if there is one."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [place for name in names.split("\0") if name for place in places(Path(name))]
    sys.exit("\n".join(["A file names a package registry:", *found]) if found else None)


def places(name: Path) -> list[str]:
    """List the lines of one file that match."""
    try:
        lines = (ROOT / name).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):  # deleted, a link to nowhere, or not text
        return []
    return [f"  {name}:{number}" for number, line in enumerate(lines, 1) if REGISTRY.search(line)]


if __name__ == "__main__":
    main()
