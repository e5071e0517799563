from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 0


@hookimpl
def stageflow_stages():
    return [StageContribution(name="older.greet", target="acme_sound_stages:Greet", kind="transform")]
