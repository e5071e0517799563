"""``stageflow run``: the answer, the JSON, the errors."""

import json
import os
import pty
import sys
from xml.etree import ElementTree as ET

import pytest


def record(done_or_out: str) -> dict:
    return json.loads(done_or_out)


def test_an_answer_is_printed_with_its_citations(call, answering) -> None:
    code, out, err = call("run", answering)
    assert code == 0
    assert out == "It is passed on.\n\n  [1] with, line 3: If an exception\n"
    assert err.startswith("asking: completed in ")
    assert "█" in err


def test_the_json_of_a_pipeline_that_answers(call, answering) -> None:
    code, out, err = call("run", answering, "--json")
    assert (code, err) == (0, "")
    found = record(out)
    assert found["status"] == "ok"
    assert found["answer"] == "It is passed on."
    assert found["citations"] == [{"topic": "with", "line": 3, "text": "If an exception"}]
    assert list(found["stages"]) == ["find", "answer", "keep"]
    assert found["stages"]["find"]["status"] == "ok"
    assert found["stages"]["find"]["duration_ms"] >= 0
    assert found["duration_ms"] > 0
    assert found["run_id"]
    assert "outputs" not in found


def test_the_json_says_where_the_time_went_and_it_adds_up(call, answering) -> None:
    _, out, _ = call("run", answering, "--json")
    found = record(out)
    for stage in found["stages"].values():
        parts = stage["parts_ns"]
        assert sum(parts.values()) / 1e6 == pytest.approx(
            stage["duration_ms"] + stage["waited_ms"], abs=0.002
        )
    steps = found["critical_path"]
    assert [step["stage"] for step in steps] == ["find", "answer", "keep"]
    total = sum(step["duration_ns"] for step in steps) + found["tail_ns"]
    assert round(total / 1e6, 3) == found["duration_ms"]
    assert {gain["part"] for gain in found["gains"]} <= {"queue", "run"}
    assert all(gain["gain_ns"] > 0 for gain in found["gains"])


def test_to_find_nothing_is_no_failure(call, answering) -> None:
    code, out, _ = call("run", answering, "--json", "--input", "unknown")
    assert code == 0
    assert record(out)["status"] == "nothing_found"


def test_any_other_pipeline_gives_its_outputs_by_stage(call, greeting) -> None:
    code, out, err = call(
        "run", greeting, "--json", "--input", "Ada", "--set", "mark=!", "--set", "other=a=b"
    )
    assert code == 0
    assert err == "a print of the user's\n"
    found = record(out)
    assert found["outputs"] == {"check": {"value": "Ada"}, "greet": {"value": "Hello, Ada!"}}
    assert "answer" not in found


def test_several_last_stages_are_all_shown(call, write) -> None:
    write(
        "two_ends.py",
        """
        from stageflow import Pipeline, stage

        @stage
        async def one() -> int:
            return 1

        @stage
        async def two() -> dict[str, int]:
            return {"a": 1, "b": 2}

        pipeline = Pipeline.from_stages(one, two)
        """,
    )
    _, out, _ = call("run", "two_ends.py", "-q")
    assert out.startswith("one: 1\ntwo: {")


NOISY = """
import os, subprocess, sys
from stageflow import Pipeline, stage
print("while importing")

@stage
async def noisy() -> str:
    print("print")
    sys.stdout.write("write")
    os.write(1, b"descriptor")
    subprocess.run(["echo", "child"], check=True)
    return "quiet"

pipeline = Pipeline.from_stages(noisy)
"""


def test_standard_output_holds_only_json_whatever_the_stages_print(stageflow, write) -> None:
    write("noisy.py", NOISY)
    done = stageflow("run", "noisy.py", "--json")
    assert record(done.stdout)["outputs"] == {"noisy": {"value": "quiet"}}
    for said in ("while importing", "print", "write", "descriptor", "child"):
        assert said in done.stderr


ODD = """
import datetime, enum, pathlib, uuid
from dataclasses import dataclass
from stageflow import Pipeline, StageKind, StageOutput

class Colour(enum.Enum):
    RED = "red"

@dataclass(frozen=True)
class Point:
    x: int

class Rude:
    def __repr__(self):
        raise RuntimeError

async def odd(ctx):
    return StageOutput.ok(
        nan=float("nan"), raw=b"x", when=datetime.date(2020, 1, 2), path=pathlib.PurePosixPath("/a"),
        id=uuid.UUID(int=1),
        colour=Colour.RED, point=Point(1), rude=Rude(), keys={(1, 2): "t"}, set={1}, surrogate="\\udc80", huge=10**30,
    )

pipeline = Pipeline().with_stage("odd", odd, StageKind.TRANSFORM)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_values_that_json_does_not_know_are_shown_all_the_same(stageflow, write, encoding: str) -> None:
    write("odd.py", ODD)
    done = stageflow("run", "odd.py", "--json", PYTHONIOENCODING=encoding)
    found = record(done.stdout)["outputs"]["odd"]
    assert found.pop("rude").startswith("<Rude, which cannot be shown")
    assert found == {
        "nan": "nan",
        "raw": "b'x'",
        "when": "2020-01-02",
        "path": "/a",
        "id": "00000000-0000-0000-0000-000000000001",
        "colour": "red",
        "point": {"x": 1},
        "keys": {"(1, 2)": "t"},
        "set": [1],
        "surrogate": "\udc80",
        "huge": 10**30,
    }


def test_a_failed_stage_is_a_paragraph_with_the_users_line(call, failing) -> None:
    code, out, err = call("run", failing, "-q")
    assert (code, out) == (1, "")
    (paragraph,) = err.splitlines()
    assert paragraph.startswith("[SF-RUN-STAGE-FAILED] Stage 'split' failed: ZeroDivisionError")
    assert "failing.py:12" in paragraph


def test_the_json_of_a_failed_run(call, failing) -> None:
    code, out, err = call("run", failing, "--json")
    assert code == 1
    assert len(err.splitlines()) == 1
    found = record(out)
    assert found["status"] == "failed"
    assert set(found["error"]) == {"code", "message", "where", "fix", "docs"}
    assert found["error"]["code"] == "SF-RUN-STAGE-FAILED"
    assert found["outputs"] == {"load": {"value": 1}}
    assert [stage["status"] for stage in found["stages"].values()] == ["ok", "fail", "skip"]


def test_verbose_shows_the_traceback_of_the_stage(call, failing) -> None:
    _, out, err = call("run", failing, "--json", "-v")
    assert "Traceback" in err
    assert "number // 0" in err
    assert record(out)["status"] == "failed"


def test_an_error_before_the_run_is_json_too(call) -> None:
    code, out, _ = call("run", "nothere.py", "--json")
    assert code == 1
    found = record(out)
    assert found["status"] == "failed"
    assert found["error"]["code"] == "SF-CONFIG-TARGET"


def test_a_pipeline_that_does_not_build_names_every_problem(call, write) -> None:
    write(
        "unsound.py",
        """
        from stageflow import Pipeline, StageKind

        async def body(ctx): ...

        pipeline = Pipeline().with_stage("a", body, StageKind.WORK, ["b"]).with_stage("a", body, StageKind.WORK)
        """,
    )
    code, out, err = call("run", "unsound.py", "--json")
    assert code == 1
    codes = [problem["code"] for problem in record(out)["error"]["problems"]]
    assert sorted(codes) == ["SF-BUILD-DUPLICATE", "SF-BUILD-UNKNOWN-DEPENDENCY"]
    assert "SF-BUILD-DUPLICATE" in err


def test_a_stage_that_leaves_the_program_has_failed(call, write) -> None:
    write(
        "leaving.py",
        """
        import sys
        from stageflow import Pipeline, stage

        @stage
        async def leave() -> None:
            sys.exit(0)

        pipeline = Pipeline.from_stages(leave)
        """,
    )
    code, out, err = call("run", "leaving.py", "--json")
    assert code == 1
    assert "sys.exit(0)" in err
    assert record(out)["status"] == "failed"


SLOW = """
import asyncio
from stageflow import Pipeline, StageOutput, StageKind

async def slow(ctx):
    await asyncio.sleep(60)

async def stop(ctx):
    return StageOutput.cancel("enough")

pipeline = Pipeline().with_stage("slow", slow, StageKind.WORK)
stopped = Pipeline().with_stage("stop", stop, StageKind.GUARD)
"""


def test_the_limit_of_a_run(call, write) -> None:
    write("slow.py", SLOW)
    code, out, err = call("run", "slow.py:pipeline", "--timeout", "0.05", "--json")
    assert code == 1
    assert record(out)["status"] == "cancelled"
    assert record(out)["error"]["code"] == "SF-RUN-TIMEOUT"
    assert "Raise --timeout" in err


def test_a_run_that_a_stage_cancels(call, write) -> None:
    write("slow.py", SLOW)
    code, out, _ = call("run", "slow.py:stopped", "--json")
    assert code == 1
    assert record(out)["status"] == "cancelled"
    assert "enough" in record(out)["error"]["message"]


@pytest.mark.parametrize("bad", ["0", "-1", "nan", "inf", "soon"])
def test_what_is_no_limit_is_a_usage_error(call, greeting, bad: str) -> None:
    code, out, err = call("run", greeting, f"--timeout={bad}")
    assert (code, out) == (2, "")
    assert "--timeout" in err


@pytest.mark.parametrize("bad", ["mark", "=x", " =x"])
def test_what_is_no_pair_is_a_usage_error(call, greeting, bad: str) -> None:
    assert call("run", greeting, "--set", bad)[0] == 2


def test_the_timeline_of_a_failed_run_is_kept(call, failing, tmp_path) -> None:
    code, _, _ = call("run", failing, "-q", "--timeline", "t.svg")
    assert code == 1
    root = ET.parse(tmp_path / "t.svg").getroot()  # noqa: S314 - ours
    text = "".join(root.itertext())
    assert "failed after" in text


def test_a_timeline_that_cannot_be_written_is_refused_before_the_run(call, greeting, write, tmp_path) -> None:
    write("file", "")
    for path in ("nothere/t.svg", "file/t.svg", "."):
        code, out, err = call("run", greeting, "--timeline", path)
        assert (code, out) == (1, "")
        assert err.startswith("[SF-CLI-OUTPUT] ")
        assert "a print of the user's" not in err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "greeting.py"]


def test_a_sink_that_the_module_sets_gets_the_events(call, write) -> None:
    write(
        "sinking.py",
        """
        import logging
        from stageflow import LoggingEventSink, Pipeline, set_event_sink, stage

        logging.basicConfig(level=logging.INFO)
        set_event_sink(LoggingEventSink())

        @stage
        async def one() -> int:
            return 1

        pipeline = Pipeline.from_stages(one)
        """,
    )
    import logging

    root = logging.getLogger()
    before, level = [*root.handlers], root.level
    try:
        root.handlers[:] = []
        _, _, err = call("run", "sinking.py", "-q")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert "stage.one.completed" in err


def on_terminal(arguments: list[str], cwd, environment: dict[str, str]) -> str:
    """Run the program on a terminal and return everything that it wrote there."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execve(sys.executable, [sys.executable, "-m", "stageflow.cli", *arguments], environment)  # noqa: S606 - ours
    written = b""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # how Linux says that the other side is gone
            break
        if not piece:
            break
        written += piece
    os.waitpid(pid, 0)
    os.close(descriptor)
    return written.decode()


WAITING = """
import asyncio
from stageflow import Pipeline, stage

@stage
async def dawdle() -> str:
    await asyncio.sleep(0.5)
    return "done"

pipeline = Pipeline.from_stages(dawdle, name="waiting")
"""


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_terminal_sees_progress_and_colours(write, tmp_path, environment) -> None:
    write("waiting.py", WAITING)
    seen = on_terminal(["run", "waiting.py"], tmp_path, environment)
    assert "0/1 stages" in seen
    assert "\x1b[" in seen
    assert "waiting: completed in" in seen
    assert "done" in seen


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_no_color_is_respected(failing, tmp_path, environment) -> None:
    environment["NO_COLOR"] = "1"
    seen = on_terminal(["run", failing], tmp_path, environment)
    assert "[SF-RUN-STAGE-FAILED]" in seen
    assert "\x1b[1;31m" not in seen
    assert "\x1b[31m" not in seen
