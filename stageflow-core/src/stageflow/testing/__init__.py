"""The test kit: contexts in one line, stages that misbehave on purpose, a clock that jumps, and a look for leftovers.

```python
from stageflow import Pipeline, RetryPolicy, StageKind
from stageflow.testing import EventRecorder, FailingStage, run_virtual

events = EventRecorder()
stage = FailingStage(ConnectionError("no route"), times=2)
pipeline = Pipeline().with_stage("fetch", stage, StageKind.ENRICH, retry=RetryPolicy(base_delay=30))
run_virtual(pipeline.run(sink=events))  # two waits of up to a minute, in no time
events.assert_paired(stages=["fetch"], end="completed")
print(events.of("fetch"))
#> ['started', 'retrying', 'retrying', 'completed']
```

It uses the published interface only. pytest is imported by ``stageflow.testing.pytest_plugin``, whose fixtures nothing
registers by itself, and by the suites of ``stageflow.testing.conformance`` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stageflow.exports import lazy_exports

if TYPE_CHECKING:
    from stageflow.testing.cancelling import CancelAt, cancel_at
    from stageflow.testing.clock import StalledError, VirtualClockLoop, run_virtual
    from stageflow.testing.factories import (
        create_test_context,
        create_test_pipeline_context,
        create_test_snapshot,
        create_test_stage_context,
    )
    from stageflow.testing.faults import FaultyStage, fault
    from stageflow.testing.leaks import Leak, LeakWatch, leak_check
    from stageflow.testing.mocks import (
        RecordedCall,
        RecordingProviderCallLogger,
        RecordingRunLogger,
        RecordingRunStore,
    )
    from stageflow.testing.recorder import EventRecorder
    from stageflow.testing.scripted import (
        FailingStage,
        HangingStage,
        ScriptedStage,
        SlowStage,
        StageCall,
        delayed,
    )
    from stageflow.testing.snapshots import (
        snapshot_from_dict_strict,
        validate_snapshot,
        validate_snapshot_strict,
    )
    from stageflow.testing.stage_run import run_stage
    from stageflow.testing.sweep import AwaitPoint, CancelFailure, CancelReport, Probe, cancel_everywhere

__all__ = [
    "AwaitPoint",
    "CancelAt",
    "CancelFailure",
    "CancelReport",
    "EventRecorder",
    "FailingStage",
    "FaultyStage",
    "HangingStage",
    "Leak",
    "LeakWatch",
    "Probe",
    "RecordedCall",
    "RecordingProviderCallLogger",
    "RecordingRunLogger",
    "RecordingRunStore",
    "ScriptedStage",
    "SlowStage",
    "StageCall",
    "StalledError",
    "VirtualClockLoop",
    "cancel_at",
    "cancel_everywhere",
    "create_test_context",
    "create_test_pipeline_context",
    "create_test_snapshot",
    "create_test_stage_context",
    "delayed",
    "fault",
    "leak_check",
    "run_stage",
    "run_virtual",
    "snapshot_from_dict_strict",
    "validate_snapshot",
    "validate_snapshot_strict",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "cancelling": (
                "CancelAt",
                "cancel_at",
            ),
            "clock": (
                "StalledError",
                "VirtualClockLoop",
                "run_virtual",
            ),
            "factories": (
                "create_test_context",
                "create_test_pipeline_context",
                "create_test_snapshot",
                "create_test_stage_context",
            ),
            "faults": (
                "FaultyStage",
                "fault",
            ),
            "leaks": (
                "Leak",
                "LeakWatch",
                "leak_check",
            ),
            "mocks": (
                "RecordedCall",
                "RecordingProviderCallLogger",
                "RecordingRunLogger",
                "RecordingRunStore",
            ),
            "recorder": ("EventRecorder",),
            "scripted": (
                "FailingStage",
                "HangingStage",
                "ScriptedStage",
                "SlowStage",
                "StageCall",
                "delayed",
            ),
            "snapshots": (
                "snapshot_from_dict_strict",
                "validate_snapshot",
                "validate_snapshot_strict",
            ),
            "stage_run": ("run_stage",),
            "sweep": (
                "AwaitPoint",
                "CancelFailure",
                "CancelReport",
                "Probe",
                "cancel_everywhere",
            ),
        },
    )
