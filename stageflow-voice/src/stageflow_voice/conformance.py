"""The conformance suites of what ``stageflow-voice`` contributes."""

from __future__ import annotations

import tempfile
import wave
from pathlib import Path
from typing import ClassVar

from stageflow.testing.conformance import StageConformance

from stageflow_voice.wav_info import WavInfoStage

__all__ = ["TestWavInfo"]


class TestWavInfo(StageConformance):
    """Reads a file of half a second, whose path comes from the stage before."""

    contribution: ClassVar[str] = "voice.wav_info"
    folder: ClassVar[tempfile.TemporaryDirectory[str]]

    @classmethod
    def setup_class(cls) -> None:
        """Write the file."""
        cls.folder = tempfile.TemporaryDirectory(prefix="stageflow-voice-")
        with wave.open(str(cls._file()), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(48_000)
            file.writeframes(bytes(4 * 24_000))

    @classmethod
    def teardown_class(cls) -> None:
        """Remove it."""
        cls.folder.cleanup()

    def make_stage(self) -> WavInfoStage:
        """Return the stage."""
        return WavInfoStage(path_from="before:path")

    def make_inputs(self) -> dict[str, dict[str, str]]:
        """Return what the stage before has left."""
        return {"before": {"path": str(self._file())}}

    @classmethod
    def _file(cls) -> Path:
        return Path(cls.folder.name) / "naïve 文字.wav"
