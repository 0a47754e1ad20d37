"""A job on a cluster of two nodes, whose actors are killed in the middle, loses no row and has none twice."""

from __future__ import annotations

import json
from typing import Any

import pytest
from commands import run_python
from conftest import require
from helpers import ROOT

require("ray")
ROWS = list(range(800))


@pytest.fixture(scope="module")
def outcome() -> dict[str, Any]:
    """What the jobs of `ray_cluster.py` gave; the cluster is started once for all tests."""
    require("fake")
    done = run_python(str(ROOT / "tests" / "ray_cluster.py"), RAY_USAGE_STATS_ENABLED="0")
    assert done.returncode == 0, done.stderr[-5000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_both_nodes_compute(outcome: dict[str, Any]) -> None:
    assert outcome["alive"] == outcome["sync"]["nodes"] == outcome["async"]["nodes"] == 2
    assert outcome["sync"]["processes"] >= 2


@pytest.mark.parametrize(("kind", "killed"), [("sync", 2), ("async", 1)])
def test_every_row_comes_once_though_actors_are_killed(outcome: dict[str, Any], kind: str, killed: int) -> None:
    assert outcome[kind]["killed"] == killed
    assert outcome[kind]["rows"] == ROWS
    assert outcome[kind]["right"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_no_block_holds_is_refused_in_the_actor(outcome: dict[str, Any], kind: str) -> None:
    """The driver is told by our sentence; that bfloat16 is cast where `dtype=` says so, the jobs above show."""
    expected = (
        "TypeError: output['output']: expected a dtype that Ray's blocks hold, got bfloat16, which they would store"
    )
    assert expected in outcome["refused"][kind]
