"""Fail if a Markdown file of the repository links to a file or heading that is not there."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1\s*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)|\bsrc=\"([^\"]+)\"", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")


def main() -> None:
    """Print each broken link and exit non-zero if there is one."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pages = [ROOT / name for name in names.split("\0") if name and (ROOT / name).exists()]
    broken = [line for page in pages for line in broken_links(page)]
    print(f"{len(pages)} pages, {len(broken)} broken links")
    sys.exit("\n".join(broken) if broken else None)


def broken_links(page: Path) -> list[str]:
    """List the links of one page that lead nowhere in the repository; the web is not asked."""
    text = CODE.sub("", FENCE.sub("", page.read_text("utf-8")))
    broken: list[str] = []
    for match in LINK.finditer(text):
        link = next(filter(None, match.groups()))
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, fragment = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and target.suffix == ".md" and fragment not in anchors(target)):
            broken.append(f"  {page.relative_to(ROOT)}: {link}")
    return broken


@cache
def anchors(page: Path) -> set[str]:
    """Name a page's headings as their anchors are named."""
    text = FENCE.sub("", page.read_text("utf-8"))
    names = {slug(heading) for heading in HEADING.findall(text)}
    return names | set(ANCHOR.findall(text))


def slug(heading: str) -> str:
    """Turn a heading into its anchor, as code hosts and site builders do."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", plain.lower()).strip())


if __name__ == "__main__":
    main()
