import functools

import stageflow.pipeline.builder
from stageflow.plugins import StageContribution, hookimpl

stageflow_api_version = 1

original = stageflow.pipeline.builder.Pipeline.with_stage


@functools.wraps(original)
def with_stage(*arguments, **options):
    return original(*arguments, **options)


stageflow.pipeline.builder.Pipeline.with_stage = with_stage


@hookimpl
def stageflow_stages():
    return [StageContribution(name="patcher.greet", target="acme_sound_stages:Greet", kind="transform")]
