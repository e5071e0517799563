from stageflow.plugins import RunStoreContribution, StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="rival-one.greet", target="acme_sound_stages:Greet", kind="transform")]


@hookimpl
def stageflow_run_stores():
    return [RunStoreContribution(scheme="acme", target="acme_rival_one:open_store")]
