from stageflow.plugins import hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return {"wrong-type.greet": "acme_sound_stages:Greet"}
