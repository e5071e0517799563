"""LlamaIndex workflows: an event class and a step per stage, ``collect_events`` for several dependencies."""

from contextlib import asynccontextmanager
from functools import reduce
from operator import or_
from typing import Any

from workflows import Context, Workflow, step
from workflows.events import Event, StartEvent, StopEvent


def add(
    workflow: type[Workflow], name: str, waits_for: list[type[Event]], sends: type[Event], call: Any
) -> None:
    """Add a step; the library reads the graph off its annotations."""
    if len(waits_for) > 1:

        async def run_step(ctx: Context, ev: Any) -> Any:
            return await call() if ctx.collect_events(ev, waits_for) is not None else None

        run_step.__annotations__ = {"ctx": Context, "ev": reduce(or_, waits_for), "return": sends | None}
    else:

        async def run_step(ev: Any) -> Any:
            return await call()

        run_step.__annotations__ = {"ev": (waits_for or [StartEvent])[0], "return": sends}
    run_step.__name__ = run_step.__qualname__ = f"step_{name}"
    step(workflow=workflow, num_workers=max(4, len(waits_for)))(run_step)


@asynccontextmanager
async def prepared(dag: Any, body: Any) -> Any:
    workflow = type("Stages", (Workflow,), {})
    events: dict[str, type[Event]] = {name: type(f"Ended_{name}", (Event,), {}) for name in dag}
    last = [*dag.keys() - {one for dependencies in dag.values() for one in dependencies}]

    def stage(name: str, sends: type[Event]) -> Any:
        async def call() -> Event:
            await body(name)
            return sends()

        return call

    for name, dependencies in dag.items():
        sends = StopEvent if last == [name] else events[name]
        add(workflow, name, [events[one] for one in dependencies], sends, stage(name, sends))
    if len(last) > 1:

        async def stop() -> StopEvent:
            return StopEvent()

        add(workflow, "stop", [events[name] for name in last], StopEvent, stop)
    prepared_workflow = workflow(timeout=None)

    async def run() -> object:
        return await prepared_workflow.run()

    yield run
