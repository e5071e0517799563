from stageflow.plugins import StageContribution, hookimpl


@hookimpl
def stageflow_stages():
    return [StageContribution(name="unstated.greet", target="acme_sound_stages:Greet", kind="transform")]
