"""Compares Stageflow with other frameworks on the same graphs: ``make bench-peers``.

Each peer is installed into an environment of its own below ``.bench-peers/``, and measured there, next to the DAG by
hand in the same process. A peer that cannot be installed is named and left out. Each cell has a process of its own,
which is ended when it takes too long, and what is too slow at one size is not tried at a bigger one.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bodies import BODIES
from environments import InstallError, Peer, environment, read_peers
from report import about_this_machine
from table import number, render_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parents[1] / ".bench-peers"
WORKLOADS = ("chain-100", "chain-1000", "fan-1000", "random-1000", "layered-20x50", "diamond-100")
LIMIT = 90  # seconds for one cell, with importing and checking the peer
OURS = Peer("stageflow", "**Stageflow, default chain and a sink**", "stageflow_here", ())
LEAN = Peer("stageflow-lean", "**Stageflow, no interceptors, no sink**", "stageflow_here_lean", ())
BARE = Peer("bare-tasks", "bare Tasks", "bare_tasks", ())

Cells = dict[str, dict[str, Any]]
"""What was found for each peer, by workload and body."""


def main() -> None:
    peers = {peer.name: peer for peer in read_peers()}
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=peers, metavar="PEER", help=", ".join(peers))
    parser.add_argument(
        "--all", action="store_true", help="also those that are optional, since they take minutes"
    )
    parser.add_argument("--workloads", nargs="+", default=WORKLOADS, metavar="NAME")
    parser.add_argument("--bodies", nargs="+", choices=BODIES, default=[*BODIES])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything here")
    given = parser.parse_args()
    chosen = [
        peer
        for peer in peers.values()
        if (peer.name in given.only if given.only else given.all or not peer.optional)
    ]
    about = about_this_machine()
    pythons, left_out = install(chosen)
    installed = [peer for peer in chosen if peer.name in pythons]
    special = dict.fromkeys(work for peer in installed for work in peer.workloads)
    usual = () if installed and all(peer.workloads for peer in installed) else tuple(given.workloads)
    found: Cells = {}
    for peer in (OURS, LEAN, BARE):
        found[peer.name] = dict(cells(peer, Path(sys.executable), (*special, *usual), given.bodies))
    for peer in installed:
        found[peer.name] = dict(cells(peer, pythons[peer.name], peer.workloads or usual, given.bodies))
    subjects = [OURS, LEAN, BARE, *installed]
    for body in given.bodies:
        print(f"**Stages with the body `{body}`** (CPU, as a ratio to the TaskGroup DAG)\n")
        print(render_rows(rows(subjects, found, body)), end="\n\n")
    print("\n".join([*remarks(subjects, found), *(f"- {name}: {why}" for name, why in left_out.items())]))
    if given.json:
        whole = {"about": about, "left_out": left_out, "cells": found}
        given.json.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")


def install(peers: list[Peer]) -> tuple[dict[str, Path], dict[str, str]]:
    """Make what environments are missing; return the interpreters, and why there is none."""
    pythons: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    for peer in peers:
        say(f"{peer.name}: installing {' '.join(peer.requirements)}, unless it is there")
        try:
            pythons[peer.name] = environment(peer, FOLDER)
        except InstallError as error:
            left_out[peer.name] = f"cannot be installed: {error}"
            say(f"{peer.name}: left out, {left_out[peer.name]}")
    return pythons, left_out


def cells(
    peer: Peer, python: Path, workloads: tuple[str, ...], bodies: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure a peer on everything, but no bigger graph of a family of which one was too much."""
    for body in bodies:
        failed: set[str] = set()
        for work in workloads:
            family = work.partition("-")[0]
            if family in failed:
                result: dict[str, Any] = {"error": "not tried, since a smaller one failed"}
            else:
                result = cell(python, peer.adapter, work, body)
            if "error" in result:
                failed.add(family)
            say(f"{peer.name}: {work} {body}: {result.get('error') or number(result['cpu'][0])}")
            yield f"{work} {body}", result


def cell(python: Path, adapter: str, work: str, body: str) -> dict[str, Any]:
    """Measure one cell in a process of its own, with a home of its own, where peers may keep what they like."""
    home = FOLDER / "home"
    home.mkdir(parents=True, exist_ok=True)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE_"))}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        process = subprocess.Popen(
            [str(python), str(HERE / "peer_worker.py"), adapter, work, body, str(result)],
            cwd=folder,
            env=env | {"HOME": str(home), "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what it starts ends with it
        )
        try:
            process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            return {"error": f"over {LIMIT} s"}
        finally:
            end(process)
        if not result.exists():
            return {"error": f"ended with {process.returncode}"}
        return json.loads(result.read_text("utf-8"))


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and what it has left behind in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows(peers: list[Peer], found: Cells, body: str) -> list[list[str]]:
    """Return the table of one body: a ratio, and in brackets how many times that of our default chain it is."""
    keys = dict.fromkeys(key for one in found.values() for key in one if key.endswith(f" {body}"))
    table = [["", *(key.removesuffix(f" {body}") for key in keys)]]
    ours = found[OURS.name]
    for peer in peers:
        texts = [text(found[peer.name].get(key, {}), ours.get(key, {}), peer) for key in keys]
        table.append([peer.title, *texts])
    return table


def text(result: Mapping[str, Any], ours: Mapping[str, Any], peer: Peer) -> str:
    """Return one cell."""
    if not result:
        return ""
    if "error" in result:
        return result["error"] if len(result["error"]) < 20 else "failed"
    ratio = result["cpu"][0]
    factor = (
        "" if peer in {OURS, LEAN, BARE} or "cpu" not in ours else f" ({number(ratio / ours['cpu'][0])}x)"
    )
    return f"{number(ratio)}{factor}"


def remarks(peers: list[Peer], found: Cells) -> Iterator[str]:
    """Name the errors in full, and the peers that take much more time than CPU."""
    for peer in peers:
        for key, result in found[peer.name].items():
            if "error" in result:
                yield f"- {peer.name}, {key}: {result['error']}"
            elif result["wall"][0] > 1.5 * result["cpu"][0]:
                yield f"- {peer.name}, {key}: {number(result['wall'][0])} in wall time"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
