"""The real program: as a process of its own, or called in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from stageflow import StageKind, StageSpec
from stageflow.cli.pictures import Chart
from stageflow.executors import ThreadExecutor
from stageflow.runtime.timeline import StageStamps, Timeline
from stageflow.stages import Effect, Overflow, StreamEdge
from stageflow.stages.part import Part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = [sys.executable, "-W", "error", "-m", "stageflow.cli"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment that asks for nothing: no colours, no plugins switched on or off."""
    dropped = ("STAGEFLOW_", "NO_COLOR", "FORCE_COLOR", "PYTHONPATH", "PYTHONIOENCODING", "PYTHONUNBUFFERED")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "TERM": "xterm-256color"}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file into the folder in which the program will run."""

    def write(name: str, source: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(source), "utf-8")
        return file

    return write


@pytest.fixture
def stageflow(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program in a process of its own, in the test's folder, without a standard input unless one is given."""

    def run(*arguments: str, text: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"stdin": subprocess.DEVNULL} if text is None else {"input": text}
        return subprocess.run(
            [*PROGRAM, *arguments],
            cwd=tmp_path,
            env=environment | variables,
            capture_output=True,
            encoding="utf-8",
            check=False,
            **given,
        )

    return run


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Call the program in this process, where it is quicker and coverage sees it."""
    from stageflow.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for variable in ("STAGEFLOW_PLUGINS", "STAGEFLOW_STRICT_PLUGINS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("STAGEFLOW_DISABLED_PLUGINS", "*")
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115, PTH123 - closed by the next line
    stdin = sys.stdin

    def call(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(arguments)
        out, err = capfd.readouterr()
        return code, out, err

    yield call
    stdin.close()


@pytest.fixture
def install(tmp_path: Path, environment: dict[str, str]) -> Callable[..., None]:
    """Install a distribution with one plugin, where processes of this test find it."""
    site = tmp_path / "site"
    site.mkdir()
    environment["PYTHONPATH"] = str(site)

    def install(name: str, source: str, *, requires: str = "") -> None:
        header = "from stageflow.plugins import *\nfrom stageflow.plugins import hookimpl\nstageflow_api_version = 1\n"
        (site / f"{name}_plugin.py").write_text(header + dedent(source), "utf-8")
        info = site / f"dist_{name}-1.0.dist-info"
        info.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.0\n{needs}", "utf-8"
        )
        (info / "entry_points.txt").write_text(f"[stageflow]\n{name} = {name}_plugin\n", "utf-8")

    return install


GREETING = """
from stageflow import Pipeline, StageContext, StageKind, stage, use


@stage(kind=StageKind.GUARD)
async def check(ctx: StageContext) -> str:
    print("a print of the user's")
    return ctx.input_text or "nobody"


@stage
async def greet(ctx: StageContext, name: str = use(check)) -> str:
    return f"Hello, {name}{ctx.snapshot.metadata.get('mark', '')}"


pipeline = Pipeline.from_stages(check, greet, name="greeting")
"""

ANSWERING = """
from stageflow import Pipeline, StageKind, StageOutput


async def find(ctx):
    return StageOutput.ok(hits=["with"])


async def answer(ctx):
    found = ctx.input_text != "unknown"
    if not found:
        return StageOutput.ok(answer="Nothing found.", status="nothing_found", citations=[])
    citation = {"topic": "with", "line": 3, "text": "If an exception"}
    return StageOutput.ok(answer="It is passed on.", citations=[citation])


async def keep(ctx):
    return StageOutput.ok(rows=1)


pipeline = (
    Pipeline("asking")
    .with_stage("find", find, StageKind.ENRICH)
    .with_stage("answer", answer, StageKind.TRANSFORM, ["find"])
    .with_stage("keep", keep, StageKind.WORK, ["answer"])
)
"""

FAILING = """
from stageflow import Pipeline, stage, use


@stage
async def load() -> int:
    return 1


@stage
async def split(number: int = use(load)) -> int:
    return number // 0


@stage
async def join(number: int = use(split)) -> int:
    return number


pipeline = Pipeline.from_stages(load, split, join, name="failing")
"""


@pytest.fixture
def greeting(write: Callable[..., Path]) -> str:
    return write("greeting.py", GREETING).name


@pytest.fixture
def answering(write: Callable[..., Path]) -> str:
    return write("answering.py", ANSWERING).name


@pytest.fixture
def failing(write: Callable[..., Path]) -> str:
    return write("failing.py", FAILING).name


async def body(ctx): ...


@pytest.fixture
def guarded_stream() -> tuple[StageSpec, ...]:
    """A pipeline with all that pictures know: a gate, effects, streams, routes, executors."""
    kind, captions = StageKind, StreamEdge("llm", size=8, overflow=Overflow.DROP_OLDEST)
    return (
        StageSpec("listen", body, kind.TRANSFORM, executor="thread"),
        StageSpec("moderate", body, kind.GUARD, ["listen"], gates_effects=True),
        StageSpec("intent", body, kind.ROUTE, ["listen"], executor="inline"),
        StageSpec("llm", body, kind.AGENT, ["intent"], route="chat", executor=ThreadExecutor()),
        StageSpec("lookup", body, kind.ENRICH, ["intent"], route=["order", "intent:refund"]),
        StageSpec("captions", body, kind.TRANSFORM, streams=captions),
        StageSpec("speak", body, kind.WORK, streams="llm"),
        StageSpec("refund", body, kind.WORK, ["lookup"], effect=Effect.REVERSIBLE, conditional=True),
        StageSpec("save", body, kind.WORK, ["speak", "lookup"], effect=Effect.IDEMPOTENT),
        StageSpec("count", body, kind.WORK, ["save"], gated=False),
    )


@pytest.fixture
def guarded_chart() -> Chart:
    """A run of it, with every part of time that there is."""
    part, ms = Part, 1_000_000

    def stage(
        name: str, kind: StageKind, *stretches: tuple[Part, float, int], status: str = "ok", **more: Any
    ) -> StageStamps:
        more["notes"] = [
            (noted, start * ms, end * ms, attempt) for noted, start, end, attempt in more.get("notes", ())
        ]
        in_ns = [(of, int(until * ms), attempt) for of, until, attempt in stretches]
        return StageStamps(name, kind.value, status, in_ns, **more)

    waits, runs, gate = part.DEPENDENCIES, part.RUN, {"gates": ["moderate"]}
    there, back = (part.TRANSPORT, 2, 22, 1), (part.TRANSPORT, 110, 120, 1)
    slow, full = (part.STREAM, 600, 640, 1), (part.STREAM, 420, 505, 1)
    chunks = [(part.STREAM, 342, 400, 1), (part.STREAM, 410, 530, 1), (part.STREAM, 545, 760, 1)]
    stamps = [
        stage("listen", StageKind.TRANSFORM, (part.QUEUE, 2, 1), (runs, 120, 1), notes=[there, back]),
        stage("moderate", StageKind.GUARD, (waits, 120, 1), (runs, 500, 1), dependencies=["listen"]),
        stage(
            "intent",
            StageKind.ROUTE,
            *[(waits, 120, 1), (part.QUEUE, 140, 1), (runs, 180, 1), (part.BACKOFF, 260, 2), (runs, 300, 2)],
            dependencies=["listen"],
        ),
        stage(
            "llm",
            StageKind.AGENT,
            *[(waits, 300, 1), (part.QUEUE, 340, 1), (runs, 760, 1)],
            dependencies=["intent"],
            notes=[full],
        ),
        stage(
            "lookup",
            StageKind.ENRICH,
            *[(waits, 300, 1), (runs, 300, 1)],
            status="skip",
            dependencies=["intent"],
        ),
        stage(
            "captions", StageKind.TRANSFORM, (waits, 340, 1), (runs, 770, 1), streams=["llm"], notes=chunks
        ),
        stage(
            "speak",
            StageKind.WORK,
            *[(waits, 340, 1), (part.GATE, 500, 1), (part.QUEUE, 502, 1), (runs, 940, 1)],
            streams=["llm"],
            notes=[slow],
            **gate,
        ),
        stage("refund", StageKind.WORK, (waits, 300, 1), status="skip", dependencies=["lookup"]),
        stage(
            "save",
            StageKind.WORK,
            *[(waits, 940, 1), (runs, 1150, 1)],
            dependencies=["speak", "lookup"],
            notes=[(part.APPROVAL, 960, 1120, 1)],
            **gate,
        ),
        stage(
            "count", StageKind.WORK, (waits, 1150, 1), (runs, 1180, 1), dependencies=["save"], status="cancel"
        ),
    ]
    reasons = {"lookup": "route_not_taken", "refund": "branch_not_taken"}
    return Chart("guarded-stream", "cancelled", Timeline.of_stamps(0, 1184 * ms, stamps), reasons)
