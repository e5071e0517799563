"""What ``stageflow-voice`` contributes."""

from __future__ import annotations

from stageflow.plugins import StageContribution, hookimpl

__all__ = ["stageflow_api_version", "stageflow_stages"]

stageflow_api_version = 1


@hookimpl
def stageflow_stages() -> list[StageContribution]:
    """Contribute ``voice.wav_info``.

    ```python
    from stageflow_voice.plugin import stageflow_stages

    print([stage.name for stage in stageflow_stages()])
    #> ['voice.wav_info']
    ```
    """
    return [
        StageContribution(
            name="voice.wav_info",
            target="stageflow_voice.wav_info:WavInfoStage",
            kind="transform",
            summary="Read what a WAV file really holds.",
        )
    ]
