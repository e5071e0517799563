"""``PipelineRegistry``: names are taken once, and whoever asks for a wrong one is told the right ones."""

from __future__ import annotations

import pickle
import threading

import pytest
from stageflow import Pipeline, StageKind
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import ConfigurationError
from stageflow.pipeline.registry import (
    PipelineNameTakenError,
    PipelineNotFoundError,
    PipelineRegistry,
    pipeline_registry,
)


async def work(ctx): ...


CHAT = Pipeline("chat").with_stage("work", work, StageKind.WORK)


@pytest.fixture
def registry():
    registry = PipelineRegistry()
    registry.register("chat", CHAT)
    return registry


def test_register_and_read(registry):
    graph = CHAT.build()
    registry.register("built", graph)
    assert registry.get("chat") is CHAT
    assert registry.get("built") is graph
    assert registry.list() == ["chat", "built"] == [*registry]
    assert len(registry) == 2
    assert "chat" in registry
    assert "x" not in registry
    assert repr(registry) == "<PipelineRegistry: 2 pipelines>"


def test_finding_a1_13_a_taken_name_is_not_silently_replaced(registry):
    other = Pipeline("other")
    registry.register("chat", CHAT)  # the same again
    with pytest.raises(PipelineNameTakenError, match="'chat'") as caught:
        registry.register("chat", other)
    assert isinstance(caught.value, ValueError)
    assert registry.get("chat") is CHAT
    registry.register("chat", other, replace=True)
    assert registry.get("chat") is other


def test_a_wrong_name_is_answered_with_the_right_ones(registry):
    with pytest.raises(KeyError) as caught:
        registry.get("chatt")
    error = caught.value
    assert isinstance(error, PipelineNotFoundError)
    assert isinstance(error, ConfigurationError)
    assert error.code == "SF-CONFIG-PIPELINE-NOT-FOUND"
    assert error.fix == "Did you mean 'chat'?"
    assert error.known == ("chat",)
    assert "there are: 'chat'" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.known, str(copy)) == (type(error), error.known, str(error))


def test_an_empty_registry_says_how_to_register():
    with pytest.raises(PipelineNotFoundError, match="there are: none") as caught:
        PipelineRegistry().get("chat")
    assert "register(name, pipeline)" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "pipeline", "error"),
    [
        ("", CHAT, ArgumentValueError),
        (None, CHAT, ArgumentTypeError),
        (["chat"], CHAT, ArgumentTypeError),
        ("x", None, ArgumentTypeError),
        ("x", work, ArgumentTypeError),
    ],
    ids=["empty", "none", "unhashable", "no-pipeline", "function"],
)
def test_bad_arguments(registry, name, pipeline, error):
    with pytest.raises(error):
        registry.register(name, pipeline)
    assert registry.list() == ["chat"]


def test_names_with_dots_and_unicode_and_long_ones(registry):
    for name in ("a.b", "café ☕", "x" * 1_000_000):
        registry.register(name, CHAT)
        assert registry.get(name) is CHAT


class Lazy(PipelineRegistry):
    calls = 0
    broken = False

    def _register_all(self):
        self.calls += 1
        if self.broken:
            raise ImportError("no module")
        assert "early" in self  # may be read from within
        self.register("late", CHAT)


def test_the_hook_is_called_once_when_the_registry_is_first_read():
    registry = Lazy()
    registry.register("early", CHAT)
    assert registry.calls == 0
    assert registry.list() == ["early", "late"]
    assert "late" in registry
    assert len(registry) == 2
    assert registry.get("late") is CHAT
    assert registry.calls == 1


def test_a_hook_that_raises_is_called_again():
    registry = Lazy()
    registry.broken = True
    registry.register("early", CHAT)
    for _ in range(2):
        with pytest.raises(ImportError):
            registry.list()
    registry.broken = False
    assert registry.list() == ["early", "late"]
    assert registry.calls == 3


def test_the_hook_is_called_once_by_many_threads():
    registry = Lazy()
    registry.register("early", CHAT)
    barrier = threading.Barrier(8)
    seen = []

    def read():
        barrier.wait()
        seen.append(registry.list())

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [["early", "late"]] * 8
    assert registry.calls == 1


def test_the_shared_registry_is_one():
    assert isinstance(pipeline_registry, PipelineRegistry)
    assert pipeline_registry.list() == []
