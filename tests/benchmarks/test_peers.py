"""Peers are checked before they are measured, and what goes wrong with one is told in a line."""

from __future__ import annotations

import ast
import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import bench_peers
import peer_worker
import pytest
from bodies import inline
from environments import Peer, cause, read_peers
from workloads import workload

ADAPTERS = Path(__file__).with_name("peers")


@pytest.mark.parametrize("peer", read_peers(), ids=lambda peer: peer.name)
def test_a_peer_is_pinned_and_its_adapter_says_what_it_is_told_to_do(peer: Peer):
    tree = ast.parse((ADAPTERS / f"{peer.adapter}.py").read_text("utf-8"))
    assert ast.get_docstring(tree)
    assert "prepared" in {node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef)}
    assert all("==" in requirement and "://" not in requirement for requirement in peer.requirements)


def test_every_adapter_belongs_to_a_peer_or_to_us():
    ours = {bench_peers.OURS.adapter, bench_peers.LEAN.adapter, bench_peers.BARE.adapter}
    assert {path.stem for path in ADAPTERS.glob("*.py")} == ours | {peer.adapter for peer in read_peers()}


@pytest.mark.parametrize("adapter", ["bare_tasks", "stageflow_here", "stageflow_here_lean"])
def test_a_cell_holds_both_ratios(adapter: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peer_worker, "TURNS", 1)
    monkeypatch.setattr(peer_worker, "SECONDS", 0.0)
    found = asyncio.run(peer_worker.measured(adapter, "diamond-2", "inline"))
    assert found.keys() == {"cpu", "wall", "us_per_stage", "by_hand_us_per_stage"}


def test_a_peer_that_leaves_a_stage_out_is_not_measured():
    @asynccontextmanager
    async def prepared(dag, body):
        async def once() -> None:
            for name in [*dag][:-1]:
                await body(name)

        yield once

    with pytest.raises(AssertionError, match="reply ran 0 times"):
        asyncio.run(peer_worker.check(SimpleNamespace(prepared=prepared), workload("diamond-1")))


def test_a_peer_that_is_too_slow_says_how_slow(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peer_worker, "SLOWEST", -1.0)
    adapter = SimpleNamespace(prepared=__import__("peers.bare_tasks", fromlist=["prepared"]).prepared)
    assert asyncio.run(peer_worker.compare(adapter, workload("chain-2"), inline)) == {"error": "0 s a run"}


def test_an_adapter_that_raises_is_told_in_a_line():
    found = asyncio.run(peer_worker.measured("none_of_these", "diamond-1", "inline"))
    assert found == {"error": "ModuleNotFoundError: No module named 'peers.none_of_these'"}


def test_the_cause_of_a_failed_installation_holds_no_address():
    output = f"Looking in links\nERROR: no match for x==1 from https:{'//'}user:secret@host/simple/\nhint"
    assert cause(output) == "ERROR: no match for x==1 from ..."
    assert cause("") == "no output"


def test_a_peer_that_cannot_be_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    def refuse(peer: Peer, folder: Path) -> Path:
        if peer.name == "gone":
            raise bench_peers.InstallError("ERROR: no match for gone==1")
        return folder / peer.name

    monkeypatch.setattr(bench_peers, "environment", refuse)
    peers = [Peer(name, name, name, (f"{name}==1",)) for name in ("there", "gone")]
    pythons, left_out = bench_peers.install(peers)
    assert [*pythons] == ["there"]
    assert left_out == {"gone": "cannot be installed: ERROR: no match for gone==1"}


def test_rows_show_the_factor_to_ours_and_the_errors():
    peer = Peer("slow", "Slow", "slow", ("slow==1",))
    found = {
        "stageflow": {"chain-100 inline": {"cpu": [0.5, 0.5, 0.5, 9], "wall": [0.5, 0.5, 0.5, 9]}},
        "slow": {
            "chain-100 inline": {"cpu": [10.0, 9, 11, 9], "wall": [30.0, 20, 40, 9]},
            "chain-1000 inline": {"error": "over 90 s"},
        },
    }
    rows = bench_peers.rows([bench_peers.OURS, peer], found, "inline")
    assert rows == [
        ["", "chain-100", "chain-1000"],
        [bench_peers.OURS.title, "0.50", ""],
        ["Slow", "10 (20x)", "over 90 s"],
    ]
    assert list(bench_peers.remarks([bench_peers.OURS, peer], found)) == [
        "- slow, chain-100 inline: 30 in wall time",
        "- slow, chain-1000 inline: over 90 s",
    ]
