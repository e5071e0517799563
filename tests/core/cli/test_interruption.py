"""Ctrl-C and SIGTERM: the run ends cleanly, says what became of it, and can still be killed."""

import json
import signal
import subprocess
import sys

import pytest

SOURCE = """
import asyncio, sys, time
from stageflow import Pipeline, StageKind, stage, use


def say(text):
    print(text, file=sys.stderr, flush=True)


@stage(kind=StageKind.GUARD)
async def quick() -> int:
    return 1


@stage
async def slow(number: int = use(quick)) -> int:
    try:
        say("running")
        await asyncio.sleep(600)
    finally:
        say("cleaned up")
    return number


@stage
async def after(number: int = use(slow)) -> int:
    return number


@stage
async def deaf() -> int:
    say("running")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            say("ignored")


@stage
async def blocking() -> int:
    say("running")
    time.sleep(600)
    return 1


slowly = Pipeline.from_stages(quick, slow, after, name="slowly")
never = Pipeline.from_stages(deaf, name="never")
blocked = Pipeline.from_stages(blocking, name="blocked")
"""


@pytest.fixture
def start(write, tmp_path, environment):
    """Start a run, wait until its stage is running, and return the process."""
    write("waiting.py", SOURCE)
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        # Whoever runs the tests in the background, with nohup for one, has them ignore Ctrl-C, and all they start.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            [sys.executable, "-m", "stageflow.cli", "run", *arguments],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        signal.signal(signal.SIGINT, before)
        started.append(process)
        read_until(process, "running")
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], word: str) -> None:
    seen = ""
    for line in process.stderr:
        seen += line
        if word in line:
            return
    pytest.fail(f"ended without {word!r}: {seen}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_first_signal_cancels_the_run_and_says_what_was_cancelled(start, number) -> None:
    process = start("waiting.py:slowly", "--json")
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 130
    assert "cleaned up" in err
    assert f"Interrupted by {signal.Signals(number).name}. Cancelled: 'slow' (after " in err
    assert "Never started: 'after'. Had settled: 'quick' (ok)." in err
    assert "Traceback" not in err
    found = json.loads(out)
    assert found["status"] == "cancelled"
    assert found["error"]["code"] == "SF-RUN-CANCELLED"
    assert found["outputs"] == {"quick": {"value": 1}}


def test_a_second_signal_ends_a_run_that_does_not_listen(start) -> None:
    process = start("waiting.py:never")
    process.send_signal(signal.SIGINT)
    read_until(process, "ignored")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT


def test_a_second_signal_ends_a_run_whose_event_loop_is_blocked(start) -> None:
    process = start("waiting.py:blocked")
    process.send_signal(signal.SIGINT)
    read_until(process, "Cancelling")
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_before_the_run(write, tmp_path, environment, number) -> None:
    write(
        "importing.py", "import sys, time\nprint('running', file=sys.stderr, flush=True)\ntime.sleep(600)\n"
    )
    command = [sys.executable, "-m", "stageflow.cli", "run", "importing.py"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, **pipes) as process:
        read_until(process, "running")
        process.send_signal(number)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, "", "\nInterrupted.\n")
