"""The conformance kit, exactly as a third party would run it."""

from stageflow.testing.conformance import PluginConformance
from stageflow_otel.conformance import *  # noqa: F403 - the classes that `stageflow plugins check` runs


class TestPlugin(PluginConformance):
    module = "stageflow_otel.plugin"
