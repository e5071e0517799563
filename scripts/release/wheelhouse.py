"""A folder of wheels that installers take for an index: packages as they are installed here, made wheels again.

What is installed is what constraints.txt pins, and nothing has to be fetched, so an installation out of the folder is
the same everywhere, and needs no network. pip and uv read it with ``--no-index --find-links FOLDER``.
"""

from __future__ import annotations

import hashlib
import zipfile
from base64 import urlsafe_b64encode
from email import message_from_bytes
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from email.message import Message

__all__ = ["fill", "metadata_of", "requirements_of"]

# What an installer adds, or makes again.
NOT_OF_THE_WHEEL = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}


def metadata_of(wheel: Path) -> Message:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(opened.read(name))


def requirements_of(about: Message) -> list[Requirement]:
    """Return what metadata says that is needed."""
    return [Requirement(str(line)) for line in about.get_all("Requires-Dist") or ()]


def fill(folder: Path, wheels: Iterable[Path], more: Iterable[str] = ()) -> None:
    """Put wheels into *folder* of everything of others that some wheels need, with all their extras.

    Args:
        folder: The folder.
        wheels: The wheels, which are in the folder already or come from elsewhere.
        more: Further requirements.

    Raises:
        LookupError: Something that is needed is not installed here.
    """
    about = [metadata_of(wheel) for wheel in wheels]
    wanted = [Requirement(line) for line in more]
    for one in about:
        for need in requirements_of(one):
            extras = ["", *map(str, one.get_all("Provides-Extra") or ())]
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(need)
    done: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        need = wanted.pop()
        name, extras_of_it = canonicalize_name(need.name), frozenset(need.extras)
        # Packages of this repository are installed editable: there is nothing in them to make a wheel of.
        if name.startswith("stageflow-") or (name, extras_of_it) in done:
            continue
        done.add((name, extras_of_it))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            message = f"{need} is needed, but not installed here: make env"
            raise LookupError(message) from None
        _repack(found, folder)
        wanted += _needs(found, extras_of_it)


def _needs(found: Distribution, extras: Iterable[str]) -> Iterator[Requirement]:
    for line in found.requires or ():
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield need


def _repack(found: Distribution, folder: Path) -> None:
    tags = [
        tag.split("-")
        for tag in message_from_bytes((found.read_text("WHEEL") or "").encode()).get_all("Tag", ())
    ]
    compressed = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    name = canonicalize_name(found.metadata["Name"]).replace("-", "_")
    wheel = folder / f"{name}-{found.version}-{compressed}.whl"
    if wheel.exists():
        return
    record: list[str] = []
    # Scripts are made again from the entry points; nothing else lies outside of the folder for packages.
    files = [file for file in found.files or () if ".." not in file.parts and file.suffix != ".pyc"]
    with zipfile.ZipFile(wheel, "w") as opened:
        for file in files:
            if file.name in NOT_OF_THE_WHEEL and file.parts[0].endswith(".dist-info"):
                continue
            data = Path(str(file.locate())).read_bytes()
            opened.writestr(str(file), data)
            digest = urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{file},sha256={digest},{len(data)}")
        about = next(file.parts[0] for file in files if file.parts[0].endswith(".dist-info"))
        opened.writestr(f"{about}/RECORD", "".join(f"{line}\n" for line in [*record, f"{about}/RECORD,,"]))
