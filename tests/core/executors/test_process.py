"""``ProcessExecutor``: what a process of one's own promises beyond the contract of all executors."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pickle
import resource
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from stageflow import Pipeline, RetryPolicy, StageExecutionError, StageKind, stage
from stageflow.context import ArgumentTypeError, ArgumentValueError
from stageflow.errors import ConfigurationError, ErrorClass, LazyImportError, RunStateError
from stageflow.executors import (
    ProcessExecutor,
    RemoteError,
    UnpicklableError,
    WorkerLostError,
    WorkerStartError,
)
from stageflow.observability import is_retryable
from stageflow.stages.part import Part
from stageflow.testing import EventRecorder, leak_check

K = StageKind.TRANSFORM
pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="needs pairs of sockets that a child inherits"
)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kill_and_wait(pid):
    """Kill a child, and wait until that is done; who reaps it is left to others."""
    os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@pytest.fixture(params=["pidfd", "thread"])
def way_of_hearing(request, monkeypatch):
    """Both ways in which the end of a process is heard of."""
    if request.param == "thread":

        def forbidden(pid):
            raise PermissionError(errno.EPERM, "seccomp")

        monkeypatch.setattr(os, "pidfd_open", forbidden, raising=False)


async def begun(executor, body, make_ctx, **data):
    """Start a body; return its Task and the process, once it says that it has begun."""
    started = asyncio.get_running_loop().create_future()
    sink = EventRecorder(lambda event: started.done() or started.set_result(event.data.get("pid")))
    task = asyncio.ensure_future(executor.execute(body, make_ctx(sink, **data)))
    return task, await started


# --- a process that ends ---------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.usefixtures("way_of_hearing")
async def test_a_killed_process_is_an_error_that_is_worth_another_attempt(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        task, pid = await begun(executor, work.begin_and_wait, make_ctx)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLostError) as caught:
            await task
        error = caught.value
        assert (error.status, error.pid, error.stage) == ("signal SIGKILL", pid, "stage")
        assert error.error_class is ErrorClass.SYSTEMIC
        assert is_retryable(error)
        again = pickle.loads(pickle.dumps(error))
        assert (again.status, again.retryable) == (error.status, True)
        assert not alive(pid)  # reaped, too
        assert (await executor.execute(work.pid, make_ctx()))["pid"] != pid


@pytest.mark.asyncio
@pytest.mark.usefixtures("way_of_hearing")
@pytest.mark.parametrize(
    ("body", "status"),
    [("exit_at_once", "exit status 3"), ("crash", "signal SIGSEGV")],
    ids=["exit", "crash"],
)
async def test_the_error_says_how_the_process_ended(work, make_ctx, body, status):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(WorkerLostError) as caught:
            await executor.execute(getattr(work, body), make_ctx())
        assert caught.value.status == status
        assert await executor.execute(work.echo, make_ctx()) == {"text": "Ada"}


@pytest.mark.asyncio
async def test_a_run_attempts_it_again_in_a_new_process(work, sink):
    async with ProcessExecutor(1) as executor:
        pipeline = Pipeline().with_stage(
            "a", work.kill_itself_once, K, executor=executor, retry=RetryPolicy(2, base_delay=0)
        )
        results = await pipeline.run(sink=sink)
    assert results["a"].data == {"attempt": 2}
    assert sink.of("a") == ["started", "retrying", "completed"]


@pytest.mark.asyncio
async def test_other_processes_are_not_affected(work, make_ctx, tmp_path):
    async with ProcessExecutor(2) as executor:
        lost, pid = await begun(executor, work.begin_and_wait, make_ctx)
        other, other_pid = await begun(executor, work.until_file, make_ctx, until=str(tmp_path / "on"))
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLostError):
            await lost
        (tmp_path / "on").touch()
        assert await other == {"pid": other_pid}


@pytest.mark.asyncio
@pytest.mark.usefixtures("way_of_hearing")
async def test_a_process_that_was_killed_while_it_rested_is_replaced_unnoticed(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        pid = (await executor.execute(work.pid, make_ctx()))["pid"]
        kill_and_wait(pid)
        other = (await executor.execute(work.pid, make_ctx()))["pid"]
        assert other != pid
        assert executor.pids == (other,)


@pytest.mark.asyncio
async def test_a_lack_of_memory_is_just_an_error(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(MemoryError):
            await executor.execute(work.eat_memory, make_ctx())


@pytest.mark.asyncio
async def test_a_full_disk_is_just_an_error(work, make_ctx, tmp_path):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(OSError, match="No space left") as caught:
            await executor.execute(work.write_to_full, make_ctx())
        assert caught.value.errno == errno.ENOSPC
        with pytest.raises(OSError, match="too large") as caught:
            await executor.execute(work.write_too_much, make_ctx(file=str(tmp_path / "file")))
        assert caught.value.errno == errno.EFBIG


# --- cancellation ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.usefixtures("way_of_hearing")
@pytest.mark.parametrize("body", ["begin_and_block", "refuse_to_end"], ids=["blocks", "refuses"])
async def test_what_does_not_end_is_killed(work, make_ctx, body, caplog):
    async with ProcessExecutor(1, grace=0.05) as executor:
        task, pid = await begun(executor, getattr(work, body), make_ctx)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(pid)
        assert f"worker process {pid} is killed" in caplog.text
        assert (await executor.execute(work.pid, make_ctx()))["pid"] != pid


@pytest.mark.asyncio
async def test_whoever_ends_in_time_keeps_the_process(work, make_ctx):
    async with ProcessExecutor(1, grace=60) as executor:
        for _ in range(3):
            task, pid = await begun(executor, work.begin_and_wait, make_ctx)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert executor.pids == (pid,)


@pytest.mark.asyncio
async def test_a_call_that_waits_for_a_process_and_is_cancelled_never_begins(work, make_ctx, tmp_path):
    events = EventRecorder()
    async with ProcessExecutor(1) as executor:
        first, _ = await begun(executor, work.until_file, make_ctx, until=str(tmp_path / "on"))
        second = asyncio.ensure_future(executor.execute(work.begin_and_wait, make_ctx(events)))
        third = asyncio.ensure_future(executor.execute(work.echo, make_ctx()))
        await asyncio.sleep(0)
        second.cancel()
        (tmp_path / "on").touch()
        await asyncio.wait([first, second, third])
        assert second.cancelled()
        assert third.result() == {"text": "Ada"}
    assert not events.events


@pytest.mark.asyncio
async def test_a_process_that_is_being_started_ends_with_the_call(work, make_ctx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with ProcessExecutor(1, ports="executor_work:blocking_ports") as executor:
        task = asyncio.ensure_future(executor.execute(work.echo, make_ctx()))
        while not (tmp_path / "opening").exists():
            await asyncio.sleep(0.001)
        (pid,) = executor.pids
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(pid)
        assert executor.pids == ()


def test_a_call_whose_event_loop_goes_away_takes_its_process_along(work, make_ctx):
    executor = ProcessExecutor(1)
    loop = asyncio.new_event_loop()
    task, pid = loop.run_until_complete(begun(executor, work.begin_and_block, make_ctx))
    loop.close()
    task._log_destroy_pending = False  # asyncio would complain of what is done here on purpose
    del task
    gc.collect()
    assert not alive(pid)
    asyncio.run(executor.aclose())


# --- what crosses over -----------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_way_to_what_does_not_pickle_is_named(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        handle = work.Handle()

        async def fetch(ctx):
            return {"rows": [1, 2, {"handle": handle}]}

        pipeline = (
            Pipeline()
            .with_stage("fetch", fetch, K)
            .with_stage("use", work.echo, K, ["fetch"], executor=executor)
        )
        with pytest.raises(StageExecutionError) as failed:
            await pipeline.run()
        error = failed.value.original
        assert isinstance(error, UnpicklableError)
        assert (error.code, error.path) == (
            "SF-RUN-UNPICKLABLE",
            "inputs['fetch'].data['rows'][2]['handle'].socket",
        )
        assert error.type_name == "function"
        with pytest.raises(UnpicklableError) as caught:
            await executor.execute(work.echo, make_ctx(plan=(0, {"x": handle})))
        assert caught.value.path == "data['plan'][1]['x'].socket"
        assert not executor.pids  # nothing was started for it


@pytest.mark.asyncio
async def test_a_result_that_does_not_pickle_is_named_likewise(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(UnpicklableError) as caught:
            await executor.execute(work.give_lambda, make_ctx())
        assert caught.value.path == "result['rows'][1]['key']"
        with pytest.raises(UnpicklableError, match="ImportError: not here"):
            await executor.execute(work.give_unloadable, make_ctx())
        assert await executor.execute(work.echo, make_ctx()) == {"text": "Ada"}


@pytest.mark.asyncio
async def test_a_body_that_nobody_can_import_is_refused(work, make_ctx):
    async def local(ctx):
        return {}

    bound = work.Handle()
    bound.execute = lambda ctx: ctx
    async with ProcessExecutor(1) as executor:
        for body, path in ((local, "body"), (lambda ctx: ctx, "body"), (bound.execute, "body")):
            with pytest.raises(UnpicklableError) as caught:
                await executor.execute(body, make_ctx())
            assert caught.value.path == path
            assert "top level of a module" in caught.value.fix


@pytest.mark.asyncio
async def test_an_exception_that_does_not_pickle_is_stood_for(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(RemoteError) as caught:
            await executor.execute(work.raise_unpicklable, make_ctx())
    error = caught.value
    assert (error.type_name, error.text) == ("builtins.ConnectionError", "no route")
    assert is_retryable(error)
    assert error.__notes__[0] == "tried twice"
    assert "raise_unpicklable" in error.__notes__[1]  # the traceback over there


@pytest.mark.asyncio
async def test_an_event_that_does_not_pickle_is_shown(work, make_ctx):
    events = EventRecorder()
    async with ProcessExecutor(1) as executor:
        await executor.execute(work.emit_unpicklable, make_ctx(events))
    data = events.data("odd")
    assert data["plain"] == 1
    assert data["handle"].startswith("<executor_work.Handle object")


@pytest.mark.asyncio
async def test_what_a_body_prints_disturbs_nothing(work, make_ctx, capfd):
    async with ProcessExecutor(1) as executor:
        assert await executor.execute(work.print_much, make_ctx()) == {}
    out, err = capfd.readouterr()
    assert out.count("printed") == 2000
    assert "written" in out
    assert err == "complained\n"


@pytest.mark.asyncio
async def test_a_task_that_a_body_has_left_behind_is_heard_no_more(work, make_ctx, tmp_path):
    events = EventRecorder()
    async with ProcessExecutor(1) as executor:
        file = str(tmp_path / "late")
        await executor.execute(work.leave_task, make_ctx(events, file=file))
        other = EventRecorder()
        await executor.execute(work.wait_for_file, make_ctx(other, file=file))
    assert events.types == other.types == []


@pytest.mark.asyncio
async def test_a_system_exit_of_a_task_beside_the_body_comes_back(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(SystemExit) as caught:
            await executor.execute(work.sub_task_exits, make_ctx())
        assert caught.value.code == 4
        assert await executor.execute(work.echo, make_ctx()) == {"text": "Ada"}


@pytest.mark.asyncio
async def test_a_context_without_a_run_takes_no_cleanup(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(RunStateError, match="Cannot register 'callback'"):
            await executor.execute(work.register, make_ctx())


@pytest.mark.asyncio
async def test_a_cleanup_whose_process_is_gone_has_failed(work, sink):
    async def kill(ctx):
        kill_and_wait(ctx.inputs.get_from("a", "pid"))
        return {}

    async with ProcessExecutor(1) as executor:
        pipeline = (
            Pipeline().with_stage("a", work.register, K, executor=executor).with_stage("b", kill, K, ["a"])
        )
        await pipeline.run(sink=sink)
    assert "signal SIGKILL" in sink.data("cleanup.failed")["error"]
    assert "cleaned" not in sink.types


@pytest.mark.asyncio
async def test_a_cleanup_that_takes_too_long_is_ended(work, sink):
    async with ProcessExecutor(1, grace=60) as executor:
        graph = (
            Pipeline().with_stage("a", work.hang_in_cleanup, K, executor=executor).build(cleanup_timeout=0.2)
        )
        results = await graph.run(sink=sink)
        assert executor.pids == (results["a"].data["pid"],)
    sink.assert_order("stage.a.completed", "cleaning", "cleanup.failed", "pipeline.completed")


@pytest.mark.asyncio
async def test_the_time_on_the_way_and_in_the_line_is_told(work):
    async with ProcessExecutor(1) as executor:
        pipeline = Pipeline()
        for name in "ab":
            pipeline = pipeline.with_stage(name, work.echo, K, executor=executor)
        results = await pipeline.run()
    for one in results.timeline.values():
        there_and_back = [span for span in one.spans if span.part is Part.TRANSPORT]
        assert len(there_and_back) == 2
        assert sum(one.totals.values()) == one.ended_ns - one.started_ns
    # One of the two waits for the other's process, to the end of that one's call.
    assert max(one.totals[Part.QUEUE] for one in results.timeline.values()) > min(
        one.totals[Part.RUN] for one in results.timeline.values()
    )


# --- streams ---------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_publisher_that_is_killed_leaves_nobody_waiting(work, sink):
    read = []

    async def reader(ctx):
        async for chunk in ctx.stream("publisher"):
            read.append(chunk)  # noqa: PERF401 - what was read before the stream broke

    async with leak_check(), ProcessExecutor(1) as executor:
        pipeline = (
            Pipeline()
            .with_stage("publisher", work.publish_and_die, K, executor=executor)
            .with_stage("reader", reader, K, streams=["publisher"])
        )
        with pytest.raises(StageExecutionError) as caught:
            await pipeline.run(sink=sink)
    assert isinstance(caught.value.original, WorkerLostError)
    assert read == ["one", "two"][: len(read)]
    sink.assert_paired(stages=["publisher", "reader"], end="failed")


@pytest.mark.asyncio
async def test_a_publisher_that_is_killed_while_it_waits_for_room_leaves_nothing(work):
    pids = []

    async def reader(ctx):
        async for _ in ctx.stream("publisher"):
            os.kill(pids[0], signal.SIGKILL)
            await asyncio.Event().wait()

    sink = EventRecorder(lambda event: pids.append(event.data["pid"]) if event.type == "begun" else None)
    async with leak_check(), ProcessExecutor(1) as executor:
        pipeline = (
            Pipeline()
            .with_stage("publisher", work.publish_for_ever, K, executor=executor)
            .with_stage("reader", reader, K, streams=["publisher"])
        )
        with pytest.raises(StageExecutionError) as caught:
            await pipeline.run(sink=sink)
    assert isinstance(caught.value.original, WorkerLostError)


@pytest.mark.asyncio
async def test_bodies_keep_their_context_variables_apart(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        for _ in range(2):
            assert await executor.execute(work.set_own, make_ctx()) == {"before": "nobody's"}


@pytest.mark.asyncio
async def test_programs_that_a_body_starts_get_nothing_of_the_line(work, make_ctx):
    async with ProcessExecutor(1) as executor:
        assert await executor.execute(work.inheritable, make_ctx()) == {"fds": []}


@pytest.mark.asyncio
async def test_a_reader_that_is_killed_leaves_nobody_waiting(work, sink):
    async def publisher(ctx):
        while True:
            await ctx.publish("more")

    async with leak_check(), ProcessExecutor(1) as executor:
        pipeline = (
            Pipeline()
            .with_stage("publisher", publisher, K)
            .with_stage("reader", work.read_and_die, K, executor=executor, streams=["publisher"])
        )
        with pytest.raises(StageExecutionError) as caught:
            await pipeline.run(sink=sink)
    assert isinstance(caught.value.original, WorkerLostError)
    sink.assert_paired(stages=["publisher", "reader"], end="failed")


@pytest.mark.asyncio
async def test_a_chunk_that_does_not_pickle_is_named(work):
    async def publisher(ctx):
        await ctx.publish({"key": [lambda: 1]})

    async with ProcessExecutor(1) as executor:
        there = Pipeline().with_stage("publisher", work.publish_lambda, K, executor=executor)
        here = (
            Pipeline()
            .with_stage("publisher", publisher, K)
            .with_stage("reader", work.read_all, K, executor=executor, streams=["publisher"])
        )
        for pipeline in (there, here):
            with pytest.raises(StageExecutionError) as caught:
                await pipeline.run()
            assert isinstance(caught.value.original, UnpicklableError)
            assert caught.value.original.path == "chunk['key'][0]"


# --- stages in other forms -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_class_is_a_stage(work):
    async with ProcessExecutor(1) as executor:
        pipeline = Pipeline().with_stage("a", work.Stage, K, executor=executor, config={"factor": 5})
        assert (await pipeline.run(input_text="Ada"))["a"].data == {"product": 15}


@pytest.mark.asyncio
async def test_typed_stages_go_by_their_names(work):
    async with ProcessExecutor(1) as executor:
        typed, use_typed = work.typed, work.use_typed
        pipeline = (
            Pipeline()
            .with_stage("typed", typed, K, executor=executor)
            .with_stage("use_typed", use_typed, K, ["typed"])
        )
        results = await pipeline.run(input_text="Ada")
        assert results["use_typed"].value == "Ada True"
        assert isinstance(results["typed"].value, work.Note)
        assert pickle.loads(pickle.dumps(typed)) is typed

        @stage
        async def local() -> str:
            return ""

        with pytest.raises(StageExecutionError) as caught:
            await Pipeline().with_stage("local", local, K, executor=executor).run()
        assert isinstance(caught.value.original, UnpicklableError)


# --- ports -----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("factory", "name", "closes"),
    [
        ("make_ports", "plain", False),
        ("make_ports_async", "async", False),
        ("managed_ports", "managed", True),
        ("managed_ports_async", "managed async", True),
    ],
)
@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "as a callable"])
async def test_ports_are_opened_over_there(
    work, make_ctx, tmp_path, monkeypatch, factory, name, closes, by_name
):
    monkeypatch.chdir(tmp_path)
    ports = f"executor_work:{factory}" if by_name else getattr(work, factory)
    async with ProcessExecutor(1, ports=ports) as executor:
        for _ in range(3):
            result = await executor.execute(work.use_ports, make_ctx())
            assert (result["name"], result["count"]) == (name, 1)
        assert not (tmp_path / "closed").exists()
    assert (tmp_path / "closed").exists() == closes


@pytest.mark.asyncio
async def test_ports_that_do_not_open_fail_the_call(work, make_ctx):
    async with ProcessExecutor(1, ports="executor_work:broken_ports") as executor:
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError, match="no database") as caught:
                await executor.execute(work.echo, make_ctx())
            assert "opened the ports" in caught.value.__notes__[-1]
        assert executor.pids == ()
    for factory, reason in (("exiting_ports", "SystemExit(9)"), ("vanishing_ports", "exit status 7")):
        async with ProcessExecutor(1, ports=f"executor_work:{factory}") as executor:
            with pytest.raises(WorkerStartError) as start:
                await executor.execute(work.echo, make_ctx())
            assert reason in start.value.reason
    async with ProcessExecutor(1, ports="executor_work:nowhere") as executor:
        with pytest.raises(LazyImportError, match="nowhere"):
            await executor.execute(work.echo, make_ctx())


@pytest.mark.asyncio
async def test_ports_of_the_run_stay_behind(work):
    async with ProcessExecutor(1) as executor:
        with pytest.raises(StageExecutionError) as caught:
            await Pipeline().with_stage("a", work.use_missing_ports, K, executor=executor).run(ports=object())
    assert isinstance(caught.value.original, ConfigurationError)
    assert "do not cross over" in caught.value.original.what


def test_arguments_are_checked():
    with pytest.raises(ArgumentValueError):
        ProcessExecutor(0)
    with pytest.raises(ArgumentTypeError):
        ProcessExecutor("2")
    with pytest.raises(ArgumentValueError):
        ProcessExecutor(grace=-1)
    with pytest.raises(ArgumentTypeError):
        ProcessExecutor(ports=5)
    with pytest.raises(LazyImportError):
        ProcessExecutor(ports="nowhere")
    with pytest.raises(UnpicklableError, match="ports"):
        ProcessExecutor(ports=lambda: 1)


# --- starting --------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("interpreter", "reason"),
    [("/nowhere/python", "FileNotFoundError"), ("/bin/false", "before it was ready, exit status 1")],
)
async def test_an_interpreter_that_does_not_work_is_named(work, make_ctx, monkeypatch, interpreter, reason):
    async with ProcessExecutor(1) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", interpreter)
            for _ in range(2):
                with pytest.raises(WorkerStartError) as caught:
                    await executor.execute(work.echo, make_ctx())
                assert reason in caught.value.reason
        assert await executor.execute(work.echo, make_ctx()) == {"text": "Ada"}


@pytest.mark.asyncio
async def test_a_lack_of_file_descriptors_is_named(work, make_ctx):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with ProcessExecutor(1) as executor:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # those that are open stay so
        try:
            with pytest.raises(WorkerStartError, match="Too many open files"):
                await executor.execute(work.echo, make_ctx())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await executor.execute(work.echo, make_ctx()) == {"text": "Ada"}


def test_event_loops_of_several_threads_share_it(work, make_ctx):
    executor = ProcessExecutor(1)
    found = []

    async def call():
        found.extend([await executor.execute(work.pid, make_ctx()) for _ in range(10)])

    threads = [threading.Thread(target=lambda: asyncio.run(call())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 30
    assert len({one["pid"] for one in found}) == 1
    asyncio.run(executor.aclose())


def test_one_that_nobody_closes_ends_its_processes_when_it_goes(work, make_ctx):
    executor = ProcessExecutor(1)
    pid = asyncio.run(executor.execute(work.pid, make_ctx()))["pid"]
    assert alive(pid)
    del executor
    gc.collect()
    assert not alive(pid)


# --- whole programs --------------------------------------------------------------------------------------

MAIN = """
import asyncio
from stageflow import Pipeline, StageKind, stage
from stageflow.executors import ProcessExecutor
from stageflow.testing import EventRecorder, leak_check
import executor_work as work

def run(body, executor, **more):
    pipeline = Pipeline().with_stage("a", body, StageKind.TRANSFORM, executor=executor)
    return pipeline.run(**more)
"""


def test_functions_and_classes_of_the_main_module_work(program):
    source = (
        MAIN
        + """
class Mark:
    def __init__(self, mark): self.mark = mark

async def grade(ctx):
    assert __name__ != "__main__"
    return {"mark": Mark(len(ctx.data["essay"].mark))}

@stage
async def typed() -> str:
    return __name__

async def main():
    async with ProcessExecutor(1) as executor:
        print((await run(typed, executor))["a"].value)
    async with ProcessExecutor(1) as executor:
        results = await run(grade, executor, data={"essay": Mark("text")})
        print(type(results["a"].data["mark"]) is Mark, results["a"].data["mark"].mark)

if __name__ == "__main__":
    asyncio.run(main())
"""
    )
    assert program(source, "-W", "error").end() == (0, "__mp_main__\nTrue 4\n", "")


def test_a_program_without_a_guard_does_not_start_itself_for_ever(program):
    source = (
        MAIN
        + """
async def grade(ctx):
    return {}

async def main():
    async with ProcessExecutor(1) as executor:
        await run(grade, executor)

asyncio.run(main())
"""
    )
    status, _, err = program(source).end()
    assert status == 1
    assert "if __name__ == '__main__':" in err


@pytest.mark.parametrize("decorator", ["", "@stage"], ids=["plain", "typed"])
def test_a_body_of_an_interactive_session_is_refused(decorator):
    source = (
        MAIN.replace("import executor_work as work", "")
        + decorator
        + """
async def grade(ctx):
    return {}

async def main():
    async with ProcessExecutor(1) as executor:
        print((await run(grade, executor, raise_errors=False)).error.original.fix)

asyncio.run(main())
"""
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "Put it into a module, and import it from there\n"


def test_nor_does_one_that_starts_in_a_thread(program):
    source = (
        MAIN
        + """
import threading

async def grade(ctx):
    return {}

def main():
    asyncio.run(run(grade, ProcessExecutor(1)))

thread = threading.Thread(target=main)
thread.start()
thread.join()
"""
    )
    _status, _, err = program(source).end()
    assert "also by one of them" in err


def test_nothing_is_forked(program):
    source = (
        MAIN
        + """
import os
forks = []
os.register_at_fork(before=lambda: forks.append(1))

async def main():
    async with ProcessExecutor(2) as executor:
        await asyncio.gather(*(run(work.echo, executor, input_text="x") for _ in range(4)))
        print(len(executor.pids), len(forks))

asyncio.run(main())
"""
    )
    assert program(source).end() == (0, "2 0\n", "")


@pytest.mark.parametrize("body", ["begin_and_wait", "begin_and_block"])
def test_children_end_with_a_parent_that_is_killed(program, gone, body):
    source = (
        MAIN
        + f"""
async def main():
    events = EventRecorder(lambda event: print(event.data["pid"], flush=True) if event.type == "begun" else None)
    await run(work.{body}, ProcessExecutor(1), sink=events)

asyncio.run(main())
"""
    )
    one = program(source)
    pidfd = os.pidfd_open(int(one.line()))
    try:
        one.process.send_signal(signal.SIGKILL)
        assert gone(pidfd)
    finally:
        os.close(pidfd)
    status, _, err = one.end()
    assert (status, err) == (-signal.SIGKILL, "")


@pytest.mark.parametrize("body", ["begin_and_wait", "begin_and_block"])
def test_ctrl_c_is_the_business_of_the_parent(program, gone, body):
    source = (
        MAIN
        + f"""
async def main():
    events = EventRecorder(lambda event: print(event.data["pid"], flush=True) if event.type == "begun" else None)
    async with ProcessExecutor(1, grace=0.1) as executor:
        await run(work.{body}, executor, sink=events)

import logging
logging.getLogger("stageflow.executors").setLevel("ERROR")
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    )
    one = program(source)
    pidfd = os.pidfd_open(int(one.line()))
    try:
        os.killpg(one.process.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        assert one.end() == (0, "interrupted\n", "")
        assert gone(pidfd)
    finally:
        os.close(pidfd)


def test_a_parent_that_makes_nothing_of_ctrl_c_keeps_its_children(program, tmp_path):
    source = (
        MAIN
        + """
import signal
signal.signal(signal.SIGINT, lambda number, frame: None)

async def main():
    events = EventRecorder(lambda event: print(event.data["pid"], flush=True) if event.type == "begun" else None)
    async with ProcessExecutor(1) as executor:
        results = await run(work.until_file, executor, sink=events, data={"until": "on"})
        print(results["a"].data["pid"], flush=True)

asyncio.run(main())
"""
    )
    one = program(source)
    pid = one.line()
    os.killpg(one.process.pid, signal.SIGINT)
    (tmp_path / "on").touch()
    assert one.end() == (0, f"{pid}\n", "")


@pytest.mark.parametrize("body", ["echo", "print_much"])
def test_a_program_that_ends_without_closing_leaves_nothing(program, gone, body):
    source = (
        MAIN
        + f"""
executor = ProcessExecutor(1)
asyncio.run(run(work.{body}, executor, input_text="x"))
print("pid", executor.pids[0], flush=True)
"""
    )
    one = program(source, "-W", "error")
    while not (line := one.line()).startswith("pid"):
        pass
    try:
        pidfd = os.pidfd_open(int(line.split()[1]))
    except ProcessLookupError:
        pidfd = None  # it has ended already
    status, _, err = one.end()
    assert (status, err.replace("complained\n", "")) == (0, "")
    if pidfd is not None:
        assert gone(pidfd)
        os.close(pidfd)


def test_an_output_that_takes_no_more_is_just_an_error(program):
    source = (
        MAIN
        + """
async def main():
    async with ProcessExecutor(1) as executor:
        print((await run(work.print_little, executor, raise_errors=False)).error.original.errno, file=sys.stderr)
        sys.stderr.write((await run(work.echo, executor, input_text="still here"))["a"].data["text"])

asyncio.run(main())
"""
    )
    with Path("/dev/full").open("w") as full:
        status, _, err = program(source, stdout=full).end()
    assert status == 0
    assert err.startswith(f"{errno.ENOSPC}\nstill here")
