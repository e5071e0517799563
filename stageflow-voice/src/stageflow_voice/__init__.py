"""Audio for Stageflow pipelines: what a WAV file really holds.

```python
import wave

from stageflow_voice import read_wav_info

with wave.open("silence.wav", "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(16_000)
    file.writeframes(bytes(2 * 8_000))

info = read_wav_info("silence.wav")
print(info.sample_rate, info.channels, info.subtype, info.duration_ms)
#> 16000 1 PCM_16 500.0
```

Names are imported when they are first used: ``import stageflow_voice`` alone costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stageflow_voice.errors import (
        AudioFileError,
        AudioFileMissingError,
        AudioFileUnreadableError,
        AudioLibraryError,
        NotWavError,
        VoiceConfigError,
        WavHeaderError,
        WavTruncatedError,
    )
    from stageflow_voice.wav import WavInfo, read_wav_info
    from stageflow_voice.wav_info import WavInfoStage

__all__ = [
    "AudioFileError",
    "AudioFileMissingError",
    "AudioFileUnreadableError",
    "AudioLibraryError",
    "NotWavError",
    "VoiceConfigError",
    "WavHeaderError",
    "WavInfo",
    "WavInfoStage",
    "WavTruncatedError",
    "read_wav_info",
]

_HOMES = {
    "errors": (
        "AudioFileError",
        "AudioFileMissingError",
        "AudioFileUnreadableError",
        "AudioLibraryError",
        "NotWavError",
        "VoiceConfigError",
        "WavHeaderError",
        "WavTruncatedError",
    ),
    "wav": ("WavInfo", "read_wav_info"),
    "wav_info": ("WavInfoStage",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
