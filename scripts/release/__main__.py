"""Prepare the release of one package: changelog, version, artifacts, inspection, clean install, tag name.

    make release PKG=stageflow-tools DRY=1

Everything is done in a copy of the last commit. Only when nothing has failed, and it is no dry run, does the checkout
get what changed: the version, the changelog, the fragments that went into it, and the artifacts in dist/. Nothing is
ever committed, tagged or uploaded; the commands for that are printed. See docs/releasing.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from changelog import KINDS, build_changelog, fragments, misnamed
from clean_install import InstallError, install_and_import
from inspection import CORE, outward_links, problems
from packaging.requirements import Requirement
from packaging.version import Version
from repository import Repository
from versions import next_version, read_version, released, tag_of, version_problem, write_version

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(manifest.parent.name for manifest in ROOT.glob("stageflow-*/pyproject.toml"))
BRANCH = "main"
MOST_NAMED = 3


class RefusedError(Exception):
    """A package cannot be released as it is.

    Args:
        problems: Everything that speaks against it.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(f"  - {problem}" for problem in problems))


@dataclass(frozen=True)
class Plan:
    """What is to be released."""

    package: str
    version: Version
    origin: str
    """Where the version is from."""
    count: int
    """How many fragments there are."""

    @property
    def tag(self) -> str:
        """The tag of the release."""
        return tag_of(self.package, self.version)


def main() -> int:
    """Prepare it, or say why not; exit non-zero if not."""
    parser = argparse.ArgumentParser(prog="release", description=__doc__)
    parser.add_argument("package", choices=PACKAGES, metavar="PACKAGE", help=", ".join(PACKAGES))
    parser.add_argument("--version", help="the version; by default the one that follows")
    parser.add_argument("--dry", action="store_true", help="change nothing in the checkout")
    arguments = parser.parse_args()
    package: str = arguments.package
    repository = Repository(ROOT)
    try:
        plan = make_plan(repository, package, arguments.version)
        with TemporaryDirectory(prefix="stageflow-release-") as folder:
            prepare(repository, plan, Path(folder))
            if not arguments.dry:
                take_over(plan, Path(folder))
    except RefusedError as refused:
        print(f"release: {package} cannot be released:\n{refused}", file=sys.stderr)
        return 1
    print(following(plan, dry=arguments.dry))
    return 0


# --- whether, and what -------------------------------------------------------------------------------------


def make_plan(repository: Repository, package: str, wanted: str | None) -> Plan:
    """Return what is to be released.

    Raises:
        RefusedError: Something speaks against it; all of that.
    """
    folder = repository.root / package
    found = fragments(folder)
    against: list[str] = []
    if repository.branch != BRANCH:
        at = f"branch {repository.branch!r}" if repository.branch else "no branch"
        against.append(f"this checkout is on {at}, and releases are made on {BRANCH!r}: git switch {BRANCH}")
    changed = repository.changed_files
    if changed:
        named = ", ".join(changed[:MOST_NAMED]) + (", ..." if len(changed) > MOST_NAMED else "")
        count = "1 file is" if len(changed) == 1 else f"{len(changed)} files are"
        against.append(f"{count} not committed ({named}): commit or remove what differs")
    against += [
        f"{package}/changes/{name} is no fragment: name it +SOMETHING.KIND.md, where KIND is {' or '.join(KINDS)}"
        for name in misnamed(folder)
    ]
    if not found:
        against.append(f"nothing has changed: {package}/changes holds no fragment")
    before = released(package, repository.tags(tag_of(package, "")))
    problem = None if wanted is None else version_problem(package, wanted, before)
    if problem is not None:
        raise RefusedError([*against, problem])
    stated, kinds = read_version(folder / "pyproject.toml"), {*found.values()}
    version = next_version(stated, before, kinds) if wanted is None else Version(wanted)
    origin = (
        "VERSION" if wanted is not None else "pyproject.toml" if version == stated else f"after {before[-1]}"
    )
    plan = Plan(package, version, origin, len(found))
    if package == CORE:
        against += shut_out(repository.root, version)
    if before and "removed" not in kinds:
        against += breaking(repository, package, tag_of(package, before[-1]))
    if against:
        raise RefusedError(against)
    return plan


def shut_out(root: Path, core: Version) -> list[str]:
    """Say which packages of the repository could not be installed beside a version of the core."""
    needs = [
        (name, Requirement(line))
        for name in PACKAGES
        for line in tomllib.loads((root / name / "pyproject.toml").read_text("utf-8"))["project"][
            "dependencies"
        ]
    ]
    return [
        f"{name} needs {need}, so nobody could install it beside {CORE} {core}: widen its range"
        for name, need in needs
        if need.name == CORE and not need.specifier.contains(core, prereleases=True)
    ]


def breaking(repository: Repository, package: str, tag: str) -> list[str]:
    """Say what breaks programs since a release, without a fragment that tells anybody."""
    sys.path.append(str(ROOT / "scripts"))
    from api import compare  # only where there is something to compare: it reads Python with griffe

    path = f"api/{package}.txt"
    old, new = repository.text(tag, path), (repository.root / path).read_text("utf-8")
    found = compare(package, old.splitlines(), new.splitlines()).breaking if old is not None else []
    return [f"since {tag}, and no fragment of the kind 'removed' says so: {one}" for one in found]


# --- the release, in a copy --------------------------------------------------------------------------------


def prepare(repository: Repository, plan: Plan, folder: Path) -> None:
    """Make the release in *folder*: the sources of it in ``tree``, its artifacts in ``dist``.

    Raises:
        RefusedError: Something is wrong with it.
    """
    print(f"{plan.package} {plan.version} ({plan.origin})")
    tree, dist = folder / "tree", folder / "dist"
    repository.export("HEAD", tree, *dict.fromkeys((plan.package, CORE)))
    package = tree / plan.package
    write_version(package / "pyproject.toml", plan.version)
    build_changelog(package, str(plan.version), f"{datetime.now(UTC):%Y-%m-%d}")
    _report("changelog", f"{plan.count} {'fragment' if plan.count == 1 else 'fragments'}")
    sdist, wheel = build(package, dist, repository.commit_time)
    _report("built", f"{sdist.name}, {wheel.name}")
    versions = {name: str(read_version(repository.root / name / "pyproject.toml")) for name in PACKAGES}
    found = problems(wheel, package, versions | {plan.package: str(plan.version)})
    if found:
        raise RefusedError([f"{wheel.name}: {problem}" for problem in found])
    links = outward_links(wheel)
    _report("inspected", "metadata, ranges, entry points, files, py.typed, licence")
    if links:
        _report("note", f"{len(links)} links of its README lead to files beside it, which no index shows")
    beside: list[Path] = []
    if plan.package != CORE:
        beside.append(build(tree / CORE, folder / "core", repository.commit_time)[1])
    try:
        seen = install_and_import(plan.package, [wheel, *beside], folder)
    except InstallError as error:
        raise RefusedError([f"{wheel.name}: {error}"]) from error
    _report("installed", seen)


def build(package: Path, dist: Path, commit_time: str) -> tuple[Path, Path]:
    """Build a source distribution, and the wheel out of that, with what is installed here.

    Raises:
        RefusedError: The build failed.
    """
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(package)]
    env = os.environ | {"SOURCE_DATE_EPOCH": commit_time}  # the same commit gives the same bytes
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError([f"it does not build: {(done.stderr or done.stdout).strip()}"])
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def _report(step: str, what: str) -> None:
    print(f"  {step:<10} {what}", flush=True)


# --- what follows ------------------------------------------------------------------------------------------


def take_over(plan: Plan, folder: Path) -> None:
    """Bring what the release changed into the checkout."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copyfile(folder / "tree" / plan.package / name, ROOT / plan.package / name)
    for file in fragments(ROOT / plan.package):
        file.unlink()
    shutil.copytree(folder / "dist", ROOT / "dist", dirs_exist_ok=True)


def following(plan: Plan, *, dry: bool) -> str:
    """Return what to do next."""
    subject = f"{plan.package} {plan.version}"
    commands = [
        f"git add --all {plan.package}",
        f"git commit -m '{subject}'",
        f"git tag -a {plan.tag} -m '{subject}'",
        f"git push origin {BRANCH} {plan.tag}",
        f"uv publish dist/{plan.package.replace('-', '_')}-{plan.version}*",
    ]
    if dry:
        variable = f" VERSION={plan.version}" if plan.origin == "VERSION" else ""
        commands.insert(0, f"make release PKG={plan.package}{variable}")
    head = "Nothing was changed. Next:" if dry else "The checkout has it, and dist/. Next:"
    return "\n".join([f"  {'tag':<10} {plan.tag}", head, *(f"  {command}" for command in commands)])


if __name__ == "__main__":
    sys.exit(main())
