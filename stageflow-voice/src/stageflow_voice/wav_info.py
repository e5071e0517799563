"""The stage ``voice.wav_info``: reads what a WAV file really holds."""

from __future__ import annotations

import os
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from stageflow import StageKind, StageOutput, StageStatus
from stageflow.executors import run_in_thread

from stageflow_voice.errors import VoiceConfigError
from stageflow_voice.wav import WavInfo, read_wav_info

if TYPE_CHECKING:
    from stageflow import StageContext

__all__ = ["WavInfoStage"]

_NAME: Final = "voice.wav_info"


@final
class WavInfoStage:
    """Reads what a WAV file holds, and hands it over: the fields of ``WavInfo``, and as its value a ``WavInfo``.

    The file is read in a thread.

    Args:
        path: The file.
        path_from: Where the path comes from instead: ``"stage:key"``, of a stage that this one depends on.

    Raises:
        VoiceConfigError: Neither is given, or both, or one has another form.

    ```python
    import asyncio
    import wave

    from stageflow import Pipeline, StageKind
    from stageflow_voice import WavInfoStage

    with wave.open("silence.wav", "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(bytes(4 * 24_000))

    pipeline = Pipeline().with_stage("info", WavInfoStage("silence.wav"), StageKind.TRANSFORM)
    info = asyncio.run(pipeline.run()).value("info")
    print(info.sample_rate, info.channels, info.frames, info.duration_ms)
    #> 48000 2 24000 500.0
    ```
    """

    name = _NAME
    kind = StageKind.TRANSFORM

    __slots__ = ("_path", "_place")

    def __init__(self, path: str | os.PathLike[str] | None = None, path_from: str | None = None) -> None:
        if (path is None) == (path_from is None):
            what = "It names no file" if path is None else "It has both path= and path_from="
            raise VoiceConfigError(_NAME, what, fix="Give one: path='speech.wav', or path_from='stage:key'")
        self._path = "" if path is None else _checked(path)
        self._place: tuple[str, str] | None = None
        if path_from is not None:
            stage, _, key = path_from.partition(":") if isinstance(path_from, str) else ("", "", "")  # pyright: ignore[reportUnnecessaryIsInstance] - a config comes from anywhere
            if not stage or not key:
                what = f"path_from={path_from!r} names no key in the output of a stage"
                raise VoiceConfigError(_NAME, what, fix="Write 'stage:key'")
            self._place = stage, key

    async def execute(self, ctx: StageContext) -> StageOutput:
        """Read the file.

        Args:
            ctx: The context of the stage's attempt.

        Raises:
            AudioFileError: Something is wrong with the file; see ``read_wav_info`` for what.
            AudioLibraryError: libsndfile does not load.
            VoiceConfigError: What a stage left as a path is none.
            MissingInputError: The stage has not left it.
            UndeclaredDependencyError: The stage does not depend on the one that the path comes from.
        """
        path = self._path if self._place is None else _checked(ctx.inputs.require_from(*self._place))
        info = await run_in_thread(partial(read_wav_info, path))
        data = {field.name: getattr(info, field.name) for field in fields(WavInfo)}
        return StageOutput(StageStatus.OK, data, value=info)


def _checked(path: object) -> str:
    if isinstance(path, os.PathLike):
        path = os.fspath(cast("os.PathLike[str]", path))
    if not isinstance(path, str) or not path:
        what = f"It is to read {path!r}, which is no path"
        raise VoiceConfigError(_NAME, what, fix="Give a str or a pathlib.Path")
    return path
