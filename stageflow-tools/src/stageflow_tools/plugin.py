"""What ``stageflow-tools`` contributes."""

from __future__ import annotations

from stageflow.plugins import StageContribution, hookimpl

__all__ = ["stageflow_api_version", "stageflow_stages"]

stageflow_api_version = 1


@hookimpl
def stageflow_stages() -> list[StageContribution]:
    """Contribute ``tools.call``.

    ```python
    from stageflow_tools.plugin import stageflow_stages

    print([stage.name for stage in stageflow_stages()])
    #> ['tools.call']
    ```
    """
    return [
        StageContribution(
            name="tools.call",
            target="stageflow_tools.call:ToolCallStage",
            kind="work",
            summary="Call a typed function from a registry.",
        )
    ]
