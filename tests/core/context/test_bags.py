"""Bags that refuse to be overwritten."""

import pickle
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from stageflow.context import (
    ArgumentTypeError,
    ArgumentValueError,
    ContextBag,
    DataConflictError,
    OutputBag,
    OutputConflictError,
    OutputEntry,
)
from stageflow.errors import ReadOnlyDataError, RunError


def output(**data: Any) -> Any:
    """What the bag reads of a StageOutput, which lives in a higher room."""
    status = SimpleNamespace(value="ok")
    return SimpleNamespace(status=status, data=data, error=None, duration_ms=5, artifacts=[1], events=[])


@pytest.mark.asyncio
async def test_a_key_is_written_once_by_whomever() -> None:
    bag = ContextBag()
    await bag.write("score", 7, "grade")
    for writer in ("grade", "regrade"):
        with pytest.raises(DataConflictError, match="score") as caught:
            await bag.write("score", 8, writer)
        error = caught.value
        assert (error.key, error.existing_writer, error.new_writer) == ("score", "grade", writer)
        assert isinstance(error, RunError)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert (bag.read("score"), bag.read("other"), bag.read("other", 1)) == (7, None, 1)
    assert (bag.has("score"), bag.has("other")) == (True, False)
    assert (bag.get_writer("score"), bag.get_writer("other")) == ("grade", None)
    assert bag.keys() == ["score"]
    assert repr(bag) == "ContextBag({'score': 7})"


@pytest.mark.asyncio
async def test_what_is_in_the_bag_is_read_only_and_what_comes_out_as_data_is_not() -> None:
    bag = ContextBag()
    mine = [1]
    await bag.write("a", mine, "s")
    mine.append(2)
    assert bag.read("a") == [1]
    with pytest.raises(ReadOnlyDataError):
        bag.read("a").append(2)
    bag.to_dict()["a"].append(2)
    bag.keys().clear()
    assert bag.to_dict() == {"a": [1]}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("key", "stage", "error"),
    [
        (None, "s", ArgumentTypeError),
        ([], "s", ArgumentTypeError),
        ("", "s", ArgumentValueError),
        ("k", 7, ArgumentTypeError),
    ],
)
async def test_keys_and_names_are_checked(key: Any, stage: Any, error: Any) -> None:
    bag = ContextBag()
    with pytest.raises(error):
        await bag.write(key, 1, stage)
    assert bag.keys() == []


@pytest.mark.asyncio
async def test_an_output_is_replaced_only_on_request() -> None:
    bag = OutputBag()
    first = await bag.write("grade", output(score=7))
    assert (first.attempt, first.stage_name) == (1, "grade")
    assert first.timestamp.tzinfo is UTC
    with pytest.raises(OutputConflictError, match="attempt 1") as caught:
        bag.write_sync("grade", output(score=8))
    assert (caught.value.stage_name, caught.value.existing_attempt) == ("grade", 1)
    assert bag.get_value("grade", "score") == 7
    again = output(score=8)
    second = await bag.write("grade", again, allow_overwrite=True)
    bag.write_sync("send", output())
    assert bag.get("grade") is second
    assert bag.get_output("grade") is again
    assert bag.outputs() == {"grade": again, "send": bag.get_output("send")}
    assert bag.entries() == [second, bag.get("send")]
    assert (bag.get_attempt_count("grade"), bag.get_attempt_count("other")) == (2, 0)
    assert bag.get_retry_stages() == ["grade"]
    assert (bag.keys(), len(bag)) == (["grade", "send"], 2)
    assert "grade" in bag
    assert bag.has("grade")
    assert not bag.has("other")
    assert repr(bag) == "OutputBag(grade, send)"


def test_what_is_not_there() -> None:
    bag = OutputBag()
    bag.write_sync("grade", output(score=7))
    bag.write_sync("empty", SimpleNamespace(data=None))
    assert bag.get("other") is None
    assert bag.get_output("other") is None
    assert [bag.get_value(name, "x", 1) for name in ("other", "grade", "empty")] == [1, 1, 1]
    with pytest.raises(ArgumentTypeError):
        bag.write_sync(None, output())
    with pytest.raises(ArgumentValueError):
        bag.write_sync("", output())


def test_as_data() -> None:
    bag = OutputBag()
    bag.write_sync("grade", output(score=[7]))
    bag.write_sync("grade", output(score=[8]), allow_overwrite=True)
    data = bag.to_dict()
    assert (data["stage_count"], data["total_attempts"], list(data["entries"])) == (1, 2, ["grade"])
    when = datetime(2020, 1, 1, tzinfo=UTC)
    source = output(score=[7])
    entry = OutputEntry(source, 1, when, "grade").to_dict()
    assert entry == {
        "stage_name": "grade", "attempt": 1, "timestamp": "2020-01-01T00:00:00+00:00", "status": "ok",
        "data": {"score": [7]}, "error": None, "duration_ms": 5, "artifacts_count": 1, "events_count": 0,
    }  # fmt: skip
    entry["data"]["score"].append(8)
    assert source.data == {"score": [7]}
