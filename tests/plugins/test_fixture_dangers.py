"""Distributions whose import, or hook, stops or ends the program that imports them: they are named all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)

PROGRAM = """
import sys

from stageflow.cli.main import main
from stageflow.plugins import watchdog

watchdog.PATIENCE = float(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""
LIMIT = "3"
ON = {
    "hangs": (
        "Importing 'acme_hangs' did not end within 3 s; it waits in acme_hangs.py:3",
        "Allow it more with --import-timeout if it is only slow, or disable it with STAGEFLOW_DISABLED_PLUGINS=hangs",
    ),
    "hook-hangs": (
        "Hook 'stageflow_stages' did not end within 3 s; it waits in acme_hook_hangs.py:10",
        (
            "Allow it more with --import-timeout if it is only slow, or disable it with "
            "STAGEFLOW_DISABLED_PLUGINS=hook-hangs"
        ),
    ),
    "vanishes": (
        "Importing 'acme_vanishes' ended the process with exit code 0, without a word",
        "Update acme-vanishes or tell its authors, or disable it with STAGEFLOW_DISABLED_PLUGINS=vanishes",
    ),
    "aborts": (
        "Importing 'acme_aborts' killed the process with SIGABRT",
        "Update acme-aborts or tell its authors, or disable it with STAGEFLOW_DISABLED_PLUGINS=aborts",
    ),
    "interrupts": (
        "Importing 'acme_interrupts' raised KeyboardInterrupt",
        "Update acme-interrupts or tell its authors, or disable it with STAGEFLOW_DISABLED_PLUGINS=interrupts",
    ),
}


def command(*arguments: str, patience: int = 60) -> list[str]:
    return [sys.executable, "-W", "error", "-c", PROGRAM, str(patience), *arguments]


@contextmanager
def ended(process: subprocess.Popen[str]):
    """End a process that hangs although it should not."""
    with process:
        try:
            yield
        finally:
            process.kill()


def test_doctor_names_each_and_imports_none_of_them_itself(unpacked, surroundings, tmp_path):
    site = unpacked("sound", *(name.replace("-", "_") for name in ON))
    done = subprocess.run(
        command("doctor", "--json", "--import-timeout", LIMIT),
        cwd=tmp_path,
        env=surroundings(site),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    found = json.loads(done.stdout)
    assert found["problems"] == [
        {
            "message": f"plugin '{name}' (acme-{name} 1.0) has failed: {ON[name][0]}",
            "fix": ON[name][1],
        }
        for name in sorted(ON)
    ]
    states = {one["name"]: one["state"] for one in found["plugins"]}
    assert {name: states[name] for name in ("sound", *ON)} == {"sound": "loaded"} | dict.fromkeys(
        ON, "failed"
    )
    assert {one["plugin"]: one["ended"] for one in found["imports"]} == {"sound": True} | dict.fromkeys(
        ON, False
    )
    assert found["warnings"] == []


@pytest.mark.parametrize(
    ("name", "doing"), [("hangs", "being imported"), ("hook_hangs", "in its hook 'stageflow_stages'")]
)
def test_whoever_waits_is_told_for_whom_and_ctrl_c_ends_it_with_that_name(
    unpacked, surroundings, tmp_path, name, doing
):
    plugin = name.replace("_", "-")
    process = subprocess.Popen(
        command("plugins", "list", patience=1),
        cwd=tmp_path,
        env=surroundings(unpacked("sound", name)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with ended(process):
        # The warning is the sign that it hangs: from then on it can be interrupted there.
        assert process.stderr.readline() == (
            f"Warning: Plugin '{plugin}' (acme-{plugin} 1.0) is still {doing} after 1 s. What to do: wait, or "
            f"interrupt it with Ctrl-C and disable it with STAGEFLOW_DISABLED_PLUGINS={plugin}.\n"
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out) == (130, "")
    assert err.strip() == (
        f"Interrupted. It was plugin '{plugin}' (acme-{plugin} 1.0) that was {doing}; to go on without it, disable it "
        f"with STAGEFLOW_DISABLED_PLUGINS={plugin}."
    )


def test_an_import_that_raises_what_ctrl_c_raises_is_named(unpacked, surroundings, tmp_path):
    done = subprocess.run(
        command("plugins", "list"),
        cwd=tmp_path,
        env=surroundings(unpacked("sound", "interrupts")),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == (
        "Interrupted. It was plugin 'interrupts' (acme-interrupts 1.0) that was being imported; to go on without it, "
        "disable it with STAGEFLOW_DISABLED_PLUGINS=interrupts."
    )


@pytest.mark.parametrize("name", ["hangs", "vanishes", "aborts", "interrupts"])
def test_disabled_it_does_no_harm(unpacked, surroundings, tmp_path, name):
    disabled = f"auth,otel,tools,voice,{name}"
    done = subprocess.run(
        command("plugins", "list", "--json"),
        cwd=tmp_path,
        env=surroundings(unpacked("sound", name), STAGEFLOW_DISABLED_PLUGINS=disabled),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    states = {one["name"]: one["state"] for one in json.loads(done.stdout)["plugins"]}
    assert (states["sound"], states[name]) == ("loaded", "disabled")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_ctrl_c_ends_doctor_and_the_processes_it_has_started(unpacked, surroundings, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        command("doctor", "--import-timeout", "600"),
        cwd=tmp_path,
        env=surroundings(unpacked("hangs"), TMPDIR=str(scratch)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with ended(process):
        while not any(scratch.glob("*/*/doing")):  # the child has begun
            assert process.poll() is None
            os.sched_yield()
        assert any(children(scratch))
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err.strip()) == (130, "", "Interrupted.")
    assert [*children(scratch)] == []
    assert [*scratch.iterdir()] == []


def children(scratch: Path):
    """Yield the processes that were started with a folder below *scratch*."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(scratch).encode() in file.read_bytes():
                yield file.parent.name
        except OSError:  # it has just ended
            continue
