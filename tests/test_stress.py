"""Contracts 3 to 12 at once: random transfers by several threads, no wrong byte, and nothing left over.

`TNB_STRESS_TRANSFERS` says how many (`make stress`: 100000), and `TNB_STRESS_SEED` repeats the choices of an
earlier run. They have a process of their own, whose threads, descriptors and memory are nobody else's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from helpers import ROOT

TRANSFERS = int(os.environ.get("TNB_STRESS_TRANSFERS", "3000"))
SEED = os.environ.get("TNB_STRESS_SEED")
# For a run that hangs. 10,000 transfers take some ten seconds.
TIME_LIMIT = 120 + TRANSFERS // 100


def stress(*arguments: str) -> tuple[int, str, str]:
    """The status, output and errors of `python -m stress`; one that hangs says where its threads stand."""
    process = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-W", "error", "-m", "stress", *arguments],
        cwd=ROOT / "tests",
        # OpenMP's threads, which torch starts as it likes, would be counted too.
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output, errors = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        output, errors = process.communicate()
        errors = f"not done within {TIME_LIMIT} s:\n{errors}"
    return process.returncode, output, errors


@pytest.mark.usefixtures("native", "fake")
def test_random_transfers(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, errors = stress("--transfers", str(TRANSFERS), *(["--seed", SEED] if SEED else []))
    with capsys.disabled():
        print(f"\n{output}" if "TNB_STRESS_TRANSFERS" in os.environ else "", end="")
    assert (status, errors) == (0, ""), output
    summary: dict[str, Any] = json.loads(output[output.index("{\n") :])
    assert summary["transfers"] == TRANSFERS
    assert summary["complaints"] == []
    assert (summary["wrong_bytes"], summary["events_created"]) == (0, 0)
    # It is the real thing: every way and fate was taken, failures and reported changes among them.
    rare = {"injected failures met", "changes told of", "short-lived bridges", "in a cycle"}
    assert rare <= summary["outcomes"].keys()
    assert summary["outcomes"]["results checked"] > TRANSFERS // 2
