"""``read_wav_info``: what a WAV file really holds, said by libsndfile and checked against the file itself.

libsndfile knows every kind of WAV file, but is forgiving: of a file that was cut off, or whose header promises more
than there is, it tells what is left, and says nothing. So the file's chunks are walked first, from one header to the
next, without reading what is in them.
"""

from __future__ import annotations

import os
import stat
import struct
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final, final

from stageflow_voice.errors import (
    AudioFileMissingError,
    AudioFileUnreadableError,
    AudioLibraryError,
    NotWavError,
    WavHeaderError,
    WavTruncatedError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["WavInfo", "read_wav_info"]

# What a file begins with, and how it writes numbers. RIFX is RIFF from big-endian machines.
_FORMS: Final = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">"}
_OTHERS: Final = {
    b"ID3": "an MP3 file",
    b"\xff\xfb": "an MP3 file",
    b"\xff\xf3": "an MP3 file",
    b"\xff\xf2": "an MP3 file",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"FORM": "an AIFF file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM file",
}
_SIZE_IN_DS64: Final = 0xFFFFFFFF
# Real files have a handful. Without a limit, a file of empty chunks would keep a thread busy for minutes.
_MOST_CHUNKS: Final = 10_000
_SMALLEST_FORMAT: Final = 16


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class WavInfo:
    """What a WAV file holds."""

    path: str
    """The file."""

    container: str
    """How it is laid out: ``"WAV"``, ``"WAVEX"`` (extensible) or ``"RF64"`` (may be over 4 GB)."""

    subtype: str
    """The samples' format, as libsndfile names it: ``"PCM_16"``, ``"PCM_24"``, ``"FLOAT"``, ``"ULAW"``, ..."""

    sample_rate: int
    """Frames per second."""

    channels: int
    """Samples per frame."""

    frames: int
    """How many frames there are."""

    duration_ms: float
    """How long they last, in milliseconds."""


def read_wav_info(path: str | os.PathLike[str]) -> WavInfo:
    """Read what a WAV file holds. Blocks; in a pipeline use the stage ``voice.wav_info``.

    Args:
        path: The file.

    Returns:
        Its properties. Only headers are read, so the size of the file does not matter.

    Raises:
        AudioFileMissingError: There is no such file.
        AudioFileUnreadableError: It is a folder or a device, or may not be read.
        NotWavError: It is something else than a WAV file.
        WavTruncatedError: It ends before its header says so.
        WavHeaderError: Its header makes no sense.
        AudioLibraryError: libsndfile does not load.

    ```python
    import soundfile
    from stageflow_voice import read_wav_info

    soundfile.write("speech.wav", [[0.0, 0.5]] * 4_410, 44_100, subtype="PCM_24")
    info = read_wav_info("speech.wav")
    print(info.container, info.subtype, info.channels, info.frames, info.duration_ms)
    #> WAV PCM_24 2 4410 100.0
    ```
    """
    name = os.fspath(path)
    try:
        # Asked before it is opened: to open a pipe would wait for whoever writes into it.
        if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116 - Path refuses nothing that os does not
            what = "It is a folder" if os.path.isdir(name) else "It is a device or a pipe, not a file"  # noqa: PTH112
            raise AudioFileUnreadableError(name, what, fix="Give the path of a WAV file")
        with open(name, "rb") as file:  # noqa: PTH123
            _check_chunks(name, file)
    except FileNotFoundError as exc:
        raise AudioFileMissingError(name, "There is no such file", fix="Check the path") from exc
    except (OSError, ValueError) as exc:
        what = f"It cannot be read: {getattr(exc, 'strerror', None) or exc}"
        raise AudioFileUnreadableError(name, what, fix="Check the path and its permissions") from exc
    return _described(name)


def _described(name: str) -> WavInfo:
    """Ask libsndfile."""
    try:
        soundfile: Any = import_module("soundfile")  # it has no types that checkers may rely on
    except (ImportError, OSError) as exc:  # without the library itself, its wrapper raises OSError
        raise AudioLibraryError(str(exc)) from exc
    try:
        info = soundfile.info(name)
    except soundfile.SoundFileError as exc:
        raise WavHeaderError(name, f"Its header makes no sense: {exc}", fix=_WRITE_AGAIN) from exc
    return WavInfo(
        path=name,
        container=info.format,
        subtype=info.subtype,
        sample_rate=info.samplerate,
        channels=info.channels,
        frames=info.frames,
        duration_ms=info.frames * 1000 / info.samplerate,
    )


_NEVER_FILLED_IN: Final = (
    "Whoever wrote it ended before filling in the length: ffmpeg -ignore_length 1 -i FILE -c copy OTHER.wav"
)
_WRITE_AGAIN: Final = "Write the file again with another program, such as ffmpeg"


def _check_chunks(name: str, file: BinaryIO) -> None:
    """Raise unless the file has the chunks of a WAV file, and as much audio as it promises."""
    order, riff_end = _form(name, file)
    end = file.seek(0, os.SEEK_END)
    size_of_data: int | None = None
    has_format = False
    for chunk, size, start in _chunks(name, file, order, end):
        if chunk == b"ds64":
            sizes = _at(name, file, start, 24, end)
            size_of_data = struct.unpack(order + "Q", sizes[8:16])[0]
        elif chunk == b"fmt ":
            _check_format(name, _at(name, file, start, min(size, _SMALLEST_FORMAT), end), order)
            has_format = True
        elif chunk == b"data":
            promised = size if size_of_data is None or size != _SIZE_IN_DS64 else size_of_data
            if promised > end - start:
                raise WavTruncatedError(name, promised, end - start)
            if not size and end > start >= riff_end:
                what = f"Its header says that it has no audio, and {end - start} more bytes follow"
                raise WavHeaderError(name, what, fix=_NEVER_FILLED_IN)
            if not has_format:
                what = "It has audio and does not say in which format"
                raise WavHeaderError(name, what, fix=_WRITE_AGAIN)
            return
    raise WavTruncatedError(name, None, end)


def _form(name: str, file: BinaryIO) -> tuple[str, int]:
    """Return how the file writes numbers, and where it says that it ends, if it is a WAV file."""
    head = file.read(12)
    order = _FORMS.get(head[:4])
    if order is not None and len(head) < 12:  # noqa: PLR2004 - the form, the size, the kind
        raise WavTruncatedError(name, None, len(head))
    if order is not None and head[8:] == b"WAVE":
        return order, struct.unpack(f"{order}I", head[4:8])[0] + 8
    looks = next((kind for magic, kind in _OTHERS.items() if head.startswith(magic)), "")
    if not head:
        looks = "an empty file"
    elif order is not None:
        looks = f"a RIFF file of kind {head[8:].decode('latin-1')!r}"
    what = (
        f"It is {looks}, not a WAV file"
        if looks
        else "It is not a WAV file: it does not begin with a RIFF header"
    )
    raise NotWavError(name, what, fix="Convert it: ffmpeg -i FILE FILE.wav")


def _chunks(name: str, file: BinaryIO, order: str, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield every chunk: what it is, its size, and where its content starts."""
    position = 12
    for _ in range(_MOST_CHUNKS):
        if position + 8 > end:
            return
        chunk, size = struct.unpack(f"{order}4sI", _at(name, file, position, 8, end))
        yield chunk, size, position + 8
        position += 8 + size + size % 2  # chunks begin at even places
    raise WavHeaderError(name, f"It has more than {_MOST_CHUNKS} chunks before its audio", fix=_WRITE_AGAIN)


def _at(name: str, file: BinaryIO, start: int, count: int, end: int) -> bytes:
    file.seek(start)
    found = file.read(count)
    if len(found) < count:
        raise WavTruncatedError(name, None, end)
    return found


def _check_format(name: str, fields: bytes, order: str) -> None:
    if len(fields) < _SMALLEST_FORMAT:
        what = f"It describes its format in {len(fields)} bytes, and that takes {_SMALLEST_FORMAT}"
        raise WavHeaderError(name, what, fix=_WRITE_AGAIN)
    channels, rate, _, frame = struct.unpack(f"{order}HIIH", fields[2:14])
    for claim, value in (("channels", channels), ("frames per second", rate), ("bytes per frame", frame)):
        if not value:
            raise WavHeaderError(name, f"Its header says 0 {claim}", fix=_WRITE_AGAIN)
