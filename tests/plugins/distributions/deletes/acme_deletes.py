import sys

for name in ("stageflow.errors", "stageflow.plugins.contributions", "json"):
    sys.modules.pop(name, None)

from stageflow.plugins import StageContribution, hookimpl  # noqa: E402 - after the damage

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="deletes.greet", target="acme_sound_stages:Greet", kind="transform")]
