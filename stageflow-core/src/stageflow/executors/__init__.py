"""Where the body of a stage runs."""

from stageflow.executors.inline import InlineExecutor

__all__ = ["InlineExecutor"]
