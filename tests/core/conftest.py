"""What the kernel's tests share."""

from __future__ import annotations

import pytest
from stageflow.testing import EventRecorder


@pytest.fixture
def sink() -> EventRecorder:
    return EventRecorder()
