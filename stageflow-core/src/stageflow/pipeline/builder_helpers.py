"""The names of 0.9's ``stageflow.pipeline.builder_helpers``."""

from stageflow.pipeline.fluent import FluentPipelineBuilder
from stageflow.pipeline.patterns import (
    with_conditional_branch,
    with_fan_out_fan_in,
    with_linear_chain,
    with_parallel_stages,
)

__all__ = [
    "FluentPipelineBuilder",
    "with_conditional_branch",
    "with_fan_out_fan_in",
    "with_linear_chain",
    "with_parallel_stages",
]
