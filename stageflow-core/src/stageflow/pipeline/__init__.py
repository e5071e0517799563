"""Describes pipelines: building, patterns, validation, the registry, and runs within runs.

Names are imported when they are first used.

```python
import asyncio

from stageflow.pipeline import PipelineBuilder, with_linear_chain


async def step(ctx):
    return {"stage": ctx.stage_name}


builder = with_linear_chain(PipelineBuilder("steps"), 3, lambda number: (f"step_{number}", step))
print(list(asyncio.run(builder.build().run())))
#> ['step_0', 'step_1', 'step_2']
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.errors import CycleDetectedError, PipelineValidationError
    from stageflow.pipeline.backpressure import BackpressureConfig, BackpressureMonitor
    from stageflow.pipeline.builder import Pipeline
    from stageflow.pipeline.builders import PipelineBuilder, PipelineSpec
    from stageflow.pipeline.child_errors import MaxDepthExceededError, SpawnRefusedError
    from stageflow.pipeline.child_events import (
        PipelineCanceledEvent,
        PipelineChildCompletedEvent,
        PipelineChildFailedEvent,
        PipelineSpawnedChildEvent,
    )
    from stageflow.pipeline.child_result import SubpipelineResult
    from stageflow.pipeline.child_tracker import (
        ChildRunTracker,
        clear_child_tracker,
        get_child_tracker,
        set_child_tracker,
    )
    from stageflow.pipeline.conditions import ConditionalDependency, MissingLibraryError
    from stageflow.pipeline.failures import FailureCollector
    from stageflow.pipeline.fluent import FluentPipelineBuilder
    from stageflow.pipeline.lint import (
        DependencyIssue,
        DependencyLintResult,
        IssueSeverity,
        lint_pipeline,
        lint_pipeline_file,
    )
    from stageflow.pipeline.patterns import (
        with_conditional_branch,
        with_fan_out_fan_in,
        with_linear_chain,
        with_parallel_stages,
    )
    from stageflow.pipeline.registry import (
        PipelineNameTakenError,
        PipelineNotFoundError,
        PipelineRegistry,
        pipeline_registry,
    )
    from stageflow.pipeline.source_reads import analyze_stage_source
    from stageflow.pipeline.subpipeline import (
        DEFAULT_MAX_SUBPIPELINE_DEPTH,
        SubpipelineSpawner,
        clear_subpipeline_spawner,
        get_subpipeline_spawner,
        set_subpipeline_spawner,
    )
    from stageflow.runtime.cancellation import CancellationToken, CleanupRegistry
    from stageflow.runtime.failure import FailureMode
    from stageflow.runtime.graph import StageGraph
    from stageflow.runtime.guard_retry import GuardRetryPolicy, GuardRetryStrategy
    from stageflow.runtime.task_group import StructuredTaskGroup, cleanup_on_cancel, run_with_cleanup
    from stageflow.stages.spec import StageSpec

__all__ = [
    "DEFAULT_MAX_SUBPIPELINE_DEPTH",
    "BackpressureConfig",
    "BackpressureMonitor",
    "CancellationToken",
    "ChildRunTracker",
    "CleanupRegistry",
    "ConditionalDependency",
    "CycleDetectedError",
    "DependencyIssue",
    "DependencyLintResult",
    "FailureCollector",
    "FailureMode",
    "FluentPipelineBuilder",
    "GuardRetryPolicy",
    "GuardRetryStrategy",
    "IssueSeverity",
    "MaxDepthExceededError",
    "MissingLibraryError",
    "Pipeline",
    "PipelineBuilder",
    "PipelineCanceledEvent",
    "PipelineChildCompletedEvent",
    "PipelineChildFailedEvent",
    "PipelineNameTakenError",
    "PipelineNotFoundError",
    "PipelineRegistry",
    "PipelineSpawnedChildEvent",
    "PipelineSpec",
    "PipelineValidationError",
    "SpawnRefusedError",
    "StageGraph",
    "StageSpec",
    "StructuredTaskGroup",
    "SubpipelineResult",
    "SubpipelineSpawner",
    "analyze_stage_source",
    "cleanup_on_cancel",
    "clear_child_tracker",
    "clear_subpipeline_spawner",
    "get_child_tracker",
    "get_subpipeline_spawner",
    "lint_pipeline",
    "lint_pipeline_file",
    "pipeline_registry",
    "run_with_cleanup",
    "set_child_tracker",
    "set_subpipeline_spawner",
    "with_conditional_branch",
    "with_fan_out_fan_in",
    "with_linear_chain",
    "with_parallel_stages",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            ".errors": ("CycleDetectedError", "PipelineValidationError"),
            ".runtime.cancellation": ("CancellationToken", "CleanupRegistry"),
            ".runtime.failure": ("FailureMode",),
            ".runtime.graph": ("StageGraph",),
            ".runtime.guard_retry": ("GuardRetryPolicy", "GuardRetryStrategy"),
            ".runtime.task_group": ("StructuredTaskGroup", "cleanup_on_cancel", "run_with_cleanup"),
            ".stages.spec": ("StageSpec",),
            "backpressure": ("BackpressureConfig", "BackpressureMonitor"),
            "builder": ("Pipeline",),
            "builders": ("PipelineBuilder", "PipelineSpec"),
            "child_errors": ("MaxDepthExceededError", "SpawnRefusedError"),
            "child_events": (
                "PipelineCanceledEvent",
                "PipelineChildCompletedEvent",
                "PipelineChildFailedEvent",
                "PipelineSpawnedChildEvent",
            ),
            "child_result": ("SubpipelineResult",),
            "child_tracker": (
                "ChildRunTracker",
                "clear_child_tracker",
                "get_child_tracker",
                "set_child_tracker",
            ),
            "conditions": ("ConditionalDependency", "MissingLibraryError"),
            "failures": ("FailureCollector",),
            "fluent": ("FluentPipelineBuilder",),
            "lint": (
                "DependencyIssue",
                "DependencyLintResult",
                "IssueSeverity",
                "lint_pipeline",
                "lint_pipeline_file",
            ),
            "patterns": (
                "with_conditional_branch",
                "with_fan_out_fan_in",
                "with_linear_chain",
                "with_parallel_stages",
            ),
            "registry": (
                "PipelineNameTakenError",
                "PipelineNotFoundError",
                "PipelineRegistry",
                "pipeline_registry",
            ),
            "source_reads": ("analyze_stage_source",),
            "subpipeline": (
                "DEFAULT_MAX_SUBPIPELINE_DEPTH",
                "SubpipelineSpawner",
                "clear_subpipeline_spawner",
                "get_subpipeline_spawner",
                "set_subpipeline_spawner",
            ),
        },
    )
