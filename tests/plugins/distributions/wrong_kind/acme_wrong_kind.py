from stageflow.plugins import SinkContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [SinkContribution(name="wrong-kind.greet", target="acme_sound_stages:Greet")]
