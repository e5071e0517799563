"""The stage ``voice.wav_info``: in a pipeline, by its class and by its name."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import stageflow_voice.wav_info
from stageflow import Pipeline, StageExecutionError, Stageflow, StageKind, StageOutput
from stageflow.errors import ConfigurationError, MissingInputError, UndeclaredDependencyError
from stageflow.plugins import PluginHost, PluginPolicy, discover
from stageflow_voice import NotWavError, VoiceConfigError, WavInfo, WavInfoStage, read_wav_info

pytestmark = pytest.mark.asyncio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.zeros((8_000, 2)), 16_000, subtype="FLOAT")
    return path


@pytest.fixture
def app() -> Stageflow:
    found = [candidate for candidate in discover() if candidate.name == "voice"]
    assert [candidate.distribution for candidate in found] == ["stageflow-voice"]
    return Stageflow(PluginHost(found, policy=PluginPolicy(environ={}), strict=True))


def pipeline(runner: Any, found: Any = "", **config: Any) -> Pipeline:
    async def find(ctx: Any) -> StageOutput:
        return StageOutput.ok(path=found)

    return (
        Pipeline()
        .with_stage("find", find, StageKind.TRANSFORM)
        .with_stage("info", runner, StageKind.TRANSFORM, ["find"], config=config or None)
    )


async def test_named_stage_reads_the_file(app: Stageflow, path: Path):
    for config in ({"path": path}, {"path": str(path)}, {"path_from": "find:path"}):
        results = await app.run(pipeline("voice.wav_info", str(path), **config))
        assert results["info"].data == {
            "path": str(path),
            "container": "WAV",
            "subtype": "FLOAT",
            "sample_rate": 16_000,
            "channels": 2,
            "frames": 8_000,
            "duration_ms": 500.0,
        }
        assert results.value("info") == read_wav_info(path)
        assert isinstance(results.value("info"), WavInfo)


async def test_path_may_be_a_path_object_from_a_stage(path: Path):
    results = await pipeline(WavInfoStage(path_from="find:path"), path).run()
    assert results["info"].data["frames"] == 8_000


async def test_bad_file_fails_the_stage_with_its_error(app: Stageflow):
    with pytest.raises(StageExecutionError) as caught:
        await app.run(pipeline("voice.wav_info", path=__file__))
    assert isinstance(caught.value.original, NotWavError)
    assert caught.value.original.path == __file__


@pytest.mark.parametrize(
    ("stage", "found", "error"),
    [
        (WavInfoStage(path_from="find:path"), 7, VoiceConfigError),
        (WavInfoStage(path_from="find:path"), "", VoiceConfigError),
        (WavInfoStage(path_from="find:file"), "", MissingInputError),
        (WavInfoStage(path_from="fnd:path"), "", UndeclaredDependencyError),
    ],
    ids=["no-path", "empty", "no-key", "undeclared"],
)
async def test_input_that_is_no_path_fails_the_stage(stage: WavInfoStage, found: Any, error: type[Exception]):
    with pytest.raises(StageExecutionError) as caught:
        await pipeline(stage, found).run()
    assert isinstance(caught.value.original, error)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"path": "a.wav", "path_from": "find:path"},
        {"path": 7},
        {"path": ""},
        {"path": b"a.wav"},
        {"path_from": "find"},
        {"path_from": ":path"},
        {"path_from": "find:"},
        {"path_from": 7},
    ],
    ids=repr,
)
async def test_config_that_makes_no_sense_is_refused(config: dict[str, Any]):
    with pytest.raises(VoiceConfigError) as caught:
        WavInfoStage(**config)
    assert caught.value.code == "SF-VOICE-CONFIG"
    assert isinstance(caught.value, ConfigurationError)
    assert isinstance(caught.value, ValueError)


async def test_it_reads_in_a_thread_and_a_cancelled_run_waits_for_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun, finish, log = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def slow(name: str) -> WavInfo:
        log.append(threading.get_ident())
        loop.call_soon_threadsafe(begun.set)
        finish.wait(10)
        log.append("done")
        return read_wav_info(name)

    monkeypatch.setattr(stageflow_voice.wav_info, "read_wav_info", slow)
    run = asyncio.ensure_future(pipeline(WavInfoStage(path)).run())
    await begun.wait()
    run.cancel()
    await asyncio.sleep(0.01)
    assert not run.done()
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert log[0] != threading.get_ident()
    assert log[1:] == ["done"]
    assert len(asyncio.all_tasks()) == 1
