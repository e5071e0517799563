from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="sound.greet", target="acme_sound_stages:Greet", kind="transform")]
