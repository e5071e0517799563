"""The tracker: who started whom, counted; nothing kept of what has ended."""

from __future__ import annotations

import asyncio
import threading
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stageflow import PipelineContext
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import ReadOnlyDataError
from stageflow.pipeline.subpipeline import (
    ChildRunTracker,
    PipelineCanceledEvent,
    PipelineChildCompletedEvent,
    PipelineChildFailedEvent,
    PipelineSpawnedChildEvent,
    SubpipelineSpawner,
    clear_child_tracker,
    get_child_tracker,
    set_child_tracker,
)

A, B, C, D = (UUID(int=number) for number in range(1, 5))


@pytest.mark.asyncio
async def test_relations():
    tracker = ChildRunTracker()
    for parent, child in ((A, B), (A, C), (C, D), (C, D)):
        await tracker.register_child(parent, child)
    assert await tracker.get_children(A) == {B, C}
    assert tracker.children_of(A) == (B, C)
    assert await tracker.get_children(B) == set()
    assert await tracker.get_parent(D) == C
    assert await tracker.get_parent(A) is None
    assert await tracker.get_all_descendants(A) == {B, C, D}
    assert await tracker.get_all_descendants(uuid4()) == set()
    assert await tracker.get_root_run(D) == A
    assert await tracker.get_root_run(A) == A
    assert await tracker.get_metrics() == {
        "registration_count": 3,
        "unregistration_count": 0,
        "lookup_count": 4,
        "tree_traversal_count": 4,
        "cleanup_count": 0,
        "max_concurrent_children": 2,
        "max_depth_seen": 2,
        "active_parents": 2,
        "active_children": 3,
        "total_relationships": 3,
    }


@pytest.mark.asyncio
async def test_what_has_ended_is_forgotten():
    tracker = ChildRunTracker()
    for parent, child in ((A, B), (A, C), (C, D)):
        await tracker.register_child(parent, child)
    await tracker.unregister_child(A, D)  # not its parent
    await tracker.unregister_child(A, uuid4())
    await tracker.unregister_child(A, B)
    assert await tracker.get_children(A) == {C}
    await tracker.cleanup_run(C)
    assert await tracker.get_parent(C) is None
    assert await tracker.get_parent(D) is None
    await tracker.cleanup_run(C)
    metrics = await tracker.get_metrics()
    assert (metrics["unregistration_count"], metrics["cleanup_count"]) == (1, 2)
    assert metrics["active_parents"] == metrics["active_children"] == metrics["total_relationships"] == 0
    await tracker.reset_metrics()
    assert set((await tracker.get_metrics()).values()) == {0}


@pytest.mark.asyncio
@pytest.mark.parametrize("pair", [("x", A), (A, "x"), (None, A), (A, None), (A, [])], ids=str)
async def test_ids_are_uuids(pair):
    with pytest.raises(ArgumentTypeError):
        await ChildRunTracker().register_child(*pair)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "pair", [(A, A), (D, A), (B, D), (C, A)], ids=["itself", "circle", "two parents", "up"]
)
async def test_runs_form_trees(pair):
    tracker = ChildRunTracker()
    for parent, child in ((A, B), (A, C), (C, D)):
        await tracker.register_child(parent, child)
    with pytest.raises(ArgumentValueError):
        await tracker.register_child(*pair)
    assert (await tracker.get_metrics())["total_relationships"] == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 7)), max_size=60))
def test_the_tracker_is_a_forest_of_what_was_added_and_not_removed(steps):
    tracker, parents = ChildRunTracker(), {}

    def above(run):
        while run in parents:
            run = parents[run]
            yield run

    for adds, parent, child in steps:
        ids = UUID(int=parent), UUID(int=child)
        if not adds:
            tracker.remove(*ids)
            if parents.get(child) == parent:
                del parents[child]
        elif parents.get(child, parent) != parent or child == parent or child in above(parent):
            if parents.get(child) != parent:
                with pytest.raises(ArgumentValueError):
                    tracker.add(*ids)
        else:
            tracker.add(*ids)
            parents[child] = parent
    for run in range(8):
        children = {UUID(int=child) for child, parent in parents.items() if parent == run}
        assert set(tracker.children_of(UUID(int=run))) == children
    metrics = asyncio.run(tracker.get_metrics())
    assert metrics["total_relationships"] == metrics["active_children"] == len(parents)
    assert metrics["active_parents"] == len(set(parents.values()))


def test_it_may_be_used_from_several_threads():
    tracker = ChildRunTracker()

    def work():
        for _ in range(300):
            child = uuid4()
            tracker.add(A, child)
            tracker.children_of(A)
            tracker.remove(A, child)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    metrics = asyncio.run(tracker.get_metrics())
    assert metrics["registration_count"] == metrics["unregistration_count"] == 1200
    assert metrics["active_children"] == 0


@pytest.mark.asyncio
async def test_a_spawner_tells_the_tracker_it_was_given_or_the_current_one():
    mine, current = ChildRunTracker(), ChildRunTracker()
    seen = []

    async def runner(child):
        seen.append([await tracker.get_parent(child.pipeline_run_id) for tracker in (mine, current)])

    set_child_tracker(current)
    parent = PipelineContext(pipeline_run_id=A)
    await SubpipelineSpawner(mine).spawn("any", parent, None, "plan", runner)
    await SubpipelineSpawner().spawn("any", parent, None, "plan", runner)
    assert seen == [[A, None], [None, A]]
    assert SubpipelineSpawner(mine).child_tracker is mine
    clear_child_tracker()
    assert get_child_tracker() is not current


def test_the_current_tracker_is_of_the_loop():
    async def current():
        return get_child_tracker()

    assert asyncio.run(current()) is not asyncio.run(current())
    with pytest.raises(ArgumentTypeError):
        set_child_tracker(None)


EVENTS = [
    PipelineSpawnedChildEvent(A, B, "plan", "search", C),
    PipelineChildCompletedEvent(A, B, "search", 1.5),
    PipelineChildFailedEvent(None, B, "search", 1.5, "broken", error_code="SF-RUN"),
    PipelineCanceledEvent(B, A, "user_requested", 1),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_and_plain(event):
    plain = event.to_dict()
    assert set(plain) == set(event.__match_args__)
    assert all(value is None or isinstance(value, (str, int, float)) for value in plain.values())
    assert plain["timestamp"] == event.timestamp
    assert type(event)(*event._values()) == event
    with pytest.raises(ReadOnlyDataError):
        event.timestamp = "x"
    with pytest.raises(ReadOnlyDataError):
        del event.timestamp
