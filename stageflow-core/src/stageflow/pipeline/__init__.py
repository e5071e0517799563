"""Describes pipelines."""

from stageflow.pipeline.builder import Pipeline

__all__ = ["Pipeline"]
