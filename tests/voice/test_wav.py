"""What a WAV file really holds, and what is no WAV file, or not all of one."""

import os
import pickle
import struct
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stageflow.errors import RunError
from stageflow_voice import (
    AudioFileError,
    AudioFileMissingError,
    AudioFileUnreadableError,
    AudioLibraryError,
    NotWavError,
    WavHeaderError,
    WavInfo,
    WavTruncatedError,
    read_wav_info,
)


def riff(
    *,
    channels: int = 1,
    rate: int = 16_000,
    bits: int = 16,
    audio: bytes = bytes(320),
    promised: int | None = None,
    tag: int = 1,
    before: bytes = b"",
    after: bytes = b"",
    whole: int | None = None,
) -> bytes:
    """Write a WAV file by hand, with whatever claims."""
    frame = channels * bits // 8
    claims = struct.pack("<HHIIHH", tag, channels, rate, rate * frame % 2**32, frame % 2**16, bits)
    body = b"WAVE" + before + chunk(b"fmt ", claims)
    body += b"data" + struct.pack("<I", len(audio) if promised is None else promised) + audio + after
    return b"RIFF" + struct.pack("<I", len(body) if whole is None else whole) + body


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "speech.wav"


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"]
)
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize(("rate", "channels", "frames"), [(8_000, 1, 1), (44_100, 2, 4_410), (96_000, 6, 0)])
def test_properties_are_those_it_was_written_with(
    path: Path, container: str, subtype: str, rate: int, channels: int, frames: int
):
    soundfile.write(path, np.zeros((frames, channels)), rate, format=container, subtype=subtype)
    assert read_wav_info(path) == WavInfo(
        path=str(path),
        container=container,
        subtype=subtype,
        sample_rate=rate,
        channels=channels,
        frames=frames,
        duration_ms=frames * 1000 / rate,
    )


def test_file_of_the_standard_library(path: Path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3)
        file.setframerate(22_050)
        file.writeframes(bytes(6 * 22_050))
    info = read_wav_info(str(path))
    assert (info.subtype, info.channels, info.sample_rate, info.duration_ms) == ("PCM_24", 2, 22_050, 1000.0)


def test_big_endian_file(path: Path):
    soundfile.write(path, np.zeros((100, 2)), 48_000, subtype="PCM_16", endian="BIG")
    assert path.read_bytes()[:4] == b"RIFX"
    info = read_wav_info(path)
    assert (info.frames, info.channels, info.sample_rate) == (100, 2, 48_000)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_compressed_file_counts_whole_blocks(path: Path, subtype: str):
    soundfile.write(path, np.zeros(16_000), 16_000, subtype=subtype)
    info = read_wav_info(path)
    assert info.subtype == subtype
    assert 16_000 <= info.frames < 20_000


def test_other_chunks_before_and_after_the_audio_are_passed_over(path: Path):
    odd = chunk(b"LIST", b"abc")
    path.write_bytes(riff(before=odd + chunk(b"bext", bytes(700)), after=odd))
    assert read_wav_info(path).frames == 160


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "an empty file"),
        (b"Hello, this is a text.\n" * 10, "does not begin with a RIFF header"),
        (b"ID3\x04" + bytes(500), "an MP3 file"),
        (b"\xff\xfb\x90\x00" + bytes(500), "an MP3 file"),
        (b"fLaC" + bytes(500), "a FLAC file"),
        (b"OggS" + bytes(500), "an Ogg file"),
        (b"RIFF\x00\x00\x00\x00AVI LIST" + bytes(500), "a RIFF file of kind 'AVI '"),
        (os.urandom(0) + bytes(500), "does not begin with a RIFF header"),
    ],
    ids=["empty", "text", "id3", "mp3", "flac", "ogg", "avi", "zeros"],
)
def test_something_else_is_not_a_wav_file(path: Path, content: bytes, says: str):
    path.write_bytes(content)
    with pytest.raises(NotWavError, match=says) as caught:
        read_wav_info(path)
    assert caught.value.code == "SF-VOICE-NOT-WAV"
    assert caught.value.path == str(path)
    assert isinstance(caught.value, AudioFileError)
    assert isinstance(caught.value, RunError)


@pytest.mark.parametrize("format", ["MP3", "FLAC", "OGG", "AIFF"])
def test_real_file_of_another_format_is_not_a_wav_file(path: Path, format: str):
    soundfile.write(path, np.zeros(8_000), 16_000, format=format)
    with pytest.raises(NotWavError):
        read_wav_info(path)


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_cut_off_file_is_truncated_wherever_it_was_cut(path: Path, container: str):
    soundfile.write(path, np.ones((50, 2)) / 2, 16_000, format=container)
    content = path.read_bytes()
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises((WavTruncatedError, NotWavError)) as caught:
            read_wav_info(path)
        assert isinstance(caught.value, WavTruncatedError) == (length >= 4)


@pytest.mark.parametrize(
    ("content", "promised"),
    [
        (riff(promised=322), 322),
        (riff(promised=0xFFFFFFFF), 0xFFFFFFFF),
        (riff(promised=0x7FFFFFF0), 0x7FFFFFF0),
        (b"RF64\xff\xff\xff\xffWAVE" + chunk(b"ds64", struct.pack("<QQQI", 2**62, 2**62, 2**61, 0)) +
         riff(promised=0xFFFFFFFF)[12:], 2**62),
        (b"RIFF\xff\xff\xff\xffWAVEjunk\xff\xff\xff\xff", None),
        (riff()[:30], None),
    ],
    ids=["two-bytes", "pipe", "huge", "rf64", "chunk", "header"],
)  # fmt: skip
def test_header_that_promises_more_than_there_is_costs_nothing(
    path: Path, content: bytes, promised: int | None
):
    path.write_bytes(content)
    with pytest.raises(WavTruncatedError) as caught:
        read_wav_info(path)
    assert caught.value.promised == promised
    assert caught.value.present <= len(content)
    assert caught.value.code == "SF-VOICE-WAV-TRUNCATED"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (riff(channels=0), "0 channels"),
        (riff(rate=0), "0 frames per second"),
        (riff(bits=0), "0 bytes per frame"),
        (riff(channels=65_535, bits=8), "Too many channels"),
        (riff(rate=2**32 - 1), "makes no sense"),
        (riff(tag=0x1234), "makes no sense"),
        (riff(promised=0, whole=36), "has no audio, and 320 more bytes follow"),
        (b"RIFF\x00\x01\x00\x00WAVE" + chunk(b"fmt ", bytes(8)) + chunk(b"data", bytes(8)), "in 8 bytes"),
        (b"RIFF\x00\x01\x00\x00WAVE" + chunk(b"data", bytes(8)), "does not say in which format"),
        (b"RIFF\x00\x01\x00\x00WAVE" + chunk(b"junk", b"") * 20_000, "more than 10000 chunks"),
    ],
    ids=["channels", "rate", "bits", "many", "fast", "tag", "unfilled", "short", "no-format", "chunks"],
)
def test_header_that_makes_no_sense_is_refused(path: Path, content: bytes, says: str):
    path.write_bytes(content)
    with pytest.raises(WavHeaderError, match=says) as caught:
        read_wav_info(path)
    assert caught.value.code == "SF-VOICE-WAV-HEADER"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.integers(0, 59), st.integers(0, 255), max_size=4), length=st.integers(0, 380)
)
def test_whatever_is_in_a_header_it_is_read_or_refused(path: Path, changes: dict[int, int], length: int):
    content = bytearray(riff())
    for position, value in changes.items():
        content[position] = value
    path.write_bytes(content[:length])
    try:
        info = read_wav_info(path)
    except AudioFileError:
        return
    assert info.sample_rate > 0
    assert info.channels > 0
    assert info.frames >= 0


def test_missing_file(path: Path):
    with pytest.raises(AudioFileMissingError) as caught:
        read_wav_info(path)
    assert caught.value.code == "SF-VOICE-FILE-MISSING"
    assert str(path) in str(caught.value)


def test_what_is_no_file_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for place, says in (
        (tmp_path, "a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        (Path("/dev/null"), "a device or a pipe"),
        ("\0", "embedded null"),
        ("x" * 5000, "too long"),
    ):
        with pytest.raises(AudioFileUnreadableError, match=says) as caught:
            read_wav_info(place)
        assert caught.value.code == "SF-VOICE-FILE-UNREADABLE"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(path: Path):
    path.write_bytes(riff())
    path.chmod(0)
    with pytest.raises(AudioFileUnreadableError, match="Permission denied"):
        read_wav_info(path)


def test_permission_error_is_unreadable(path: Path, monkeypatch: pytest.MonkeyPatch):
    path.write_bytes(riff())

    def refuse(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AudioFileUnreadableError, match="Permission denied"):
        read_wav_info(path)


def test_library_that_does_not_load_says_how_to_get_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path.write_bytes(riff())
    (tmp_path / "soundfile.py").write_text("raise OSError('sndfile library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "soundfile")
    with pytest.raises(AudioLibraryError, match="apt install libsndfile1") as caught:
        read_wav_info(path)
    assert caught.value.code == "SF-VOICE-LIBRARY"
    assert caught.value.reason == "sndfile library not found"


@pytest.mark.parametrize(
    "error",
    [WavTruncatedError("a.wav", 9, 1), NotWavError("a.wav", "what"), AudioLibraryError("why")],
    ids=lambda error: error.code,
)
def test_errors_pickle(error: Exception):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
