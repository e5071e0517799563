"""Each of the core's executors keeps the contract."""

from __future__ import annotations

from stageflow.executors import InlineExecutor, ProcessExecutor, ThreadExecutor
from stageflow.testing.conformance import ExecutorConformance


class TestInline(ExecutorConformance):
    blocks_loop = True

    def make_executor(self):
        return InlineExecutor()


class TestThread(ExecutorConformance):
    def make_executor(self):
        return ThreadExecutor(4)


class TestProcess(ExecutorConformance):
    isolated = True
    ends_blocked = True

    def make_executor(self):
        # What ends on its own has time for it on a busy machine; what does not is killed.
        return ProcessExecutor(2, grace=2.0)
