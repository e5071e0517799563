"""Correlation ids, and the one that is current."""

from __future__ import annotations

import asyncio
import copy
import pickle
from uuid import UUID, uuid4

import pytest
from stageflow.errors import ReadOnlyDataError
from stageflow.observability.correlation import (
    CorrelationIds,
    clear_correlation_id,
    ensure_correlation_id,
    get_correlation_id,
    set_correlation_id,
)


def test_to_dict_leaves_out_what_is_not_known_and_lets_extra_win():
    ids = CorrelationIds(
        run_id=UUID(int=1), org_id=UUID(int=2), trace_id="abc", extra={"org_id": "mine", "n": 3}
    )
    assert ids.to_dict() == {"pipeline_run_id": str(UUID(int=1)), "trace_id": "abc", "org_id": "mine", "n": 3}
    assert CorrelationIds().to_dict() == {}


def test_is_a_read_only_value():
    extra = {"a": 1}
    ids = CorrelationIds(run_id=UUID(int=1), extra=extra)
    extra["a"] = 2
    assert ids.extra == {"a": 1}
    with pytest.raises(TypeError):
        ids.extra["a"] = 3
    with pytest.raises(ReadOnlyDataError):
        ids.run_id = None
    for same in (
        CorrelationIds(UUID(int=1), extra={"a": 1}),
        pickle.loads(pickle.dumps(ids)),
        copy.deepcopy(ids),
    ):
        assert same == ids
        assert hash(same) == hash(ids)
    assert ids != CorrelationIds(run_id=UUID(int=1))


def test_protocols_still_has_it():
    import stageflow.protocols

    assert stageflow.protocols.CorrelationIds is CorrelationIds
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = stageflow.protocols.Nothing


@pytest.mark.asyncio
async def test_current_id_travels_into_tasks_and_not_back():
    assert get_correlation_id() is None
    mine = uuid4()
    set_correlation_id(mine)

    async def other() -> UUID:
        seen = ensure_correlation_id()
        set_correlation_id(uuid4())
        return seen

    assert await asyncio.create_task(other()) == mine
    assert get_correlation_id() == mine
    clear_correlation_id()
    assert get_correlation_id() is None
    assert ensure_correlation_id() == ensure_correlation_id() == get_correlation_id()
