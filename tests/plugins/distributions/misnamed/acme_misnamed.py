from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="misnamed.greet", target="acme_sound_stages:Greet", kind="transform")]
