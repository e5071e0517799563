import numpy as np
from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1

SILENCE = np.zeros(16_000)


@hookimpl
def stageflow_stages():
    return [StageContribution(name="heavy.greet", target="acme_sound_stages:Greet", kind="transform")]
