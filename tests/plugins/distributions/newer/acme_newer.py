from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 2


@hookimpl
def stageflow_stages():
    return [StageContribution(name="newer.greet", target="acme_sound_stages:Greet", kind="transform")]
