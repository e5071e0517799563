from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
async def stageflow_stages():
    return [StageContribution(name="asynchronous.greet", target="acme_sound_stages:Greet", kind="transform")]
