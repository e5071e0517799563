"""What takes a process of its own is done once, also where several processes run the tests (pytest-xdist)."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from typing import Any

import pytest

Once = Callable[[str, Callable[[], Any]], Any]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Return what computes something that JSON can say, or waits until another process has."""

    def run(name: str, compute: Callable[[], Any]) -> Any:
        if "PYTEST_XDIST_WORKER" not in os.environ:
            return compute()
        kept = tmp_path_factory.getbasetemp().parent / f"{name}.json"  # of this run of the tests alone
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                kept.write_text(json.dumps(compute()), "utf-8")
            return json.loads(kept.read_text("utf-8"))

    return run
