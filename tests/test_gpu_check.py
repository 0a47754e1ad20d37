"""scripts/gpu_check.sh: its steps in their order, and how they share the time. What they run is a stand-in here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT

# The script's own Python is real; what a step runs is written down, and takes as long as it is told to.
STAND_IN = """#!/bin/sh
case "$1" in
    - | -c) exec {python} "$@" ;;
esac
echo "$@" >>{called}
case "$*" in
    *"$SLOW"*) exec sleep 60 ;;
esac
"""
STEPS = ["gpu", "modules", "build", "doctor", "tests", "memcheck", "racecheck", "synccheck", "initcheck"]
STEPS += ["tune", "bench", "soak"]


def check(folder: Path, **environ: str) -> tuple[int, dict[str, Any], list[str]]:
    """The exit status of a dry run, its results, and what it called Python with."""
    tools, called = folder / "tools", folder / "called"
    tools.mkdir()
    called.touch()
    (tools / "python3").write_text(STAND_IN.format(python=sys.executable, called=called))
    (tools / "python3").chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "gpu_check.sh"), "--dry-run", str(folder / "out")],
        env={**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "SLOW": "nothing", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, json.loads((folder / "out" / "results.json").read_text()), called.read_text().splitlines()


@pytest.fixture(autouse=True)
def _bash() -> None:
    if shutil.which("bash") is None:
        pytest.skip("expected bash, which the script is written for, found none")


def test_the_steps(tmp_path: Path) -> None:
    status, results, called = check(tmp_path)
    assert (status, list(results)) == (0, STEPS)
    ran = {name for name, entry in results.items() if entry["status"] == "passed"}
    assert {"build", "doctor", "tests", "bench", "soak"} <= ran
    assert called[-1].startswith("-X faulthandler -m stress --device fake --minutes ")
    assert float(called[-1].split()[7]) == pytest.approx((240 - 20) / 60, abs=0.01)  # the most that one step may take


def test_the_soak_takes_what_is_left(tmp_path: Path) -> None:
    _, _, called = check(tmp_path, BUDGET="140")
    assert 0 < float(called[-1].split()[7]) <= (140 - 20) / 60


def test_without_time_for_a_soak_there_is_none_and_that_is_said(tmp_path: Path) -> None:
    status, results, called = check(tmp_path, BUDGET="25")
    assert (status, list(results)) == (0, STEPS)
    assert results["soak"]["status"].startswith("missing: time, ")
    assert "stress" not in called[-1]


def test_a_step_that_takes_too_long_leaves_the_others_what_is_left(tmp_path: Path) -> None:
    status, results, _ = check(tmp_path, STEP_LIMIT="5", SLOW="-m pytest")
    assert status == 1
    assert results["tests"]["status"] == "stopped after 5 s"
    assert results["bench"]["status"] == "passed"


def test_no_step_is_begun_when_the_budget_is_used(tmp_path: Path) -> None:
    status, results, called = check(tmp_path, BUDGET="0")
    assert (status, list(results), called) == (0, STEPS, [])
    assert results["bench"]["status"] == "missing: time, all 0 s of BUDGET are used"
