"""What can be wrong with an audio file, or with what reads it.

As a tree, drawn by who has to act::

    ConfigurationError
    ├── AudioLibraryError             libsndfile, which reads audio files, does not load
    └── VoiceConfigError              (also a ValueError) the config of a stage makes no sense
    RunError
    └── AudioFileError                something is wrong with one file
        ├── AudioFileMissingError     there is no such file
        ├── AudioFileUnreadableError  it is a folder, or may not be read
        ├── NotWavError               it is something else than a WAV file
        ├── WavHeaderError            its header makes no sense
        └── WavTruncatedError         it ends before its header says so
"""

from __future__ import annotations

from stageflow.errors import ConfigurationError, RunError

__all__ = [
    "AudioFileError",
    "AudioFileMissingError",
    "AudioFileUnreadableError",
    "AudioLibraryError",
    "NotWavError",
    "VoiceConfigError",
    "WavHeaderError",
    "WavTruncatedError",
]


class AudioLibraryError(ConfigurationError):
    """libsndfile, which reads audio files, does not load.

    Args:
        reason: What the loader says.
    """

    code = "SF-VOICE-LIBRARY"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"The library libsndfile does not load: {reason}",
            where="stageflow-voice",
            fix="Run: pip install --force-reinstall soundfile. If that brings no library for this system, "
            "install it (Debian, Ubuntu: apt install libsndfile1; macOS: brew install libsndfile)",
        )


class VoiceConfigError(ConfigurationError, ValueError):
    """The config of a stage of this package makes no sense.

    Args:
        stage: The stage, as it is contributed.
        what: What is wrong.
        fix: What to do.
    """

    code = "SF-VOICE-CONFIG"

    def __init__(self, stage: str, what: str, *, fix: str) -> None:
        super().__init__(what, where=f"config of a {stage} stage", fix=fix)


class AudioFileError(RunError):
    """Something is wrong with one file.

    Args:
        path: The file.
        what: What is wrong.
        fix: What to do.

    ```python
    from stageflow_voice import AudioFileError, read_wav_info

    try:
        read_wav_info("nowhere.wav")
    except AudioFileError as error:
        print(error.code, error.path)
    #> SF-VOICE-FILE-MISSING nowhere.wav
    ```
    """

    code = "SF-VOICE-FILE"

    def __init__(self, path: str, what: str, *, fix: str = "") -> None:
        self.path = path
        super().__init__(what, where=f"file {path!r}", fix=fix or "Give another file")


class AudioFileMissingError(AudioFileError):
    """There is no such file."""

    code = "SF-VOICE-FILE-MISSING"


class AudioFileUnreadableError(AudioFileError):
    """It is a folder or a device, or may not be read."""

    code = "SF-VOICE-FILE-UNREADABLE"


class NotWavError(AudioFileError):
    """It is something else than a WAV file."""

    code = "SF-VOICE-NOT-WAV"


class WavHeaderError(AudioFileError):
    """It is a WAV file whose header makes no sense."""

    code = "SF-VOICE-WAV-HEADER"


class WavTruncatedError(AudioFileError):
    """It ends before its header says so.

    Args:
        path: The file.
        promised: The bytes that the header promises, or None if the file ends within its header.
        present: The bytes that there are.
    """

    code = "SF-VOICE-WAV-TRUNCATED"

    def __init__(self, path: str, promised: int | None, present: int) -> None:
        self.promised = promised
        self.present = present
        if promised is None:
            what = f"The file ends within its header, after {present} bytes"
        else:
            what = f"Its header promises {promised} bytes of audio, and there are {present}"
        super().__init__(
            path,
            what,
            fix="Fetch or record it again. If it was written to a pipe, its length was never filled in: "
            "ffmpeg -i FILE -c copy OTHER.wav does that",
        )
