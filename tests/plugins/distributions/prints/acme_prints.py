import sys

from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1


@hookimpl
def stageflow_stages():
    return [StageContribution(name="prints.greet", target="acme_sound_stages:Greet", kind="transform")]


print("welcome to acme-prints")
print("enjoy", file=sys.stderr)
