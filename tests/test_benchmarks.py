"""The benchmarks run, their reports say what they measured, and the page shows what the results say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import run_python
from conftest import require
from helpers import ROOT

BENCHMARKS = sorted((ROOT / "benchmarks").glob("bench_*.py"))
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("bench_*.json"))
ON_THE_CPU = {"bench_cpu_view", "bench_tree_walk"}
REPORT = {"benchmark", "title", "quick", "machine", "figures", "bars", "notes"}
MACHINE = {"cpu", "cpus", "load_average", "load_average_after", "simulated", "engine", "versions", "commit"}
FIGURE = {"case", "name", "value", "unit", "spread"}
BAR = {"name", "value", "rule", "limit", "unit", "met"}


def assert_report(report: dict[str, Any], benchmark: Path) -> None:
    assert report.keys() == REPORT
    assert report["benchmark"] == benchmark.stem
    assert report["machine"].keys() >= MACHINE
    assert report["machine"]["simulated"] is (benchmark.stem not in ON_THE_CPU)
    assert {"torch", "python", "numpy"} <= report["machine"]["versions"].keys()
    assert report["figures"]
    assert report["bars"]
    assert all(figure.keys() == FIGURE for figure in report["figures"])
    for bar in report["bars"]:
        assert bar.keys() == BAR
        reached = bar["value"] <= bar["limit"] if bar["rule"] == "at most" else bar["value"] >= bar["limit"]
        assert bar["met"] is reached


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.stem)
def test_a_quick_run(benchmark: Path, tmp_path: Path) -> None:
    require("native")
    require("fake")
    file = tmp_path / "report.json"
    done = run_python(str(benchmark), "--quick", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(file.read_text())
    assert report["quick"] is True
    assert_report(report, benchmark)
    assert "they say nothing" in done.stdout
    assert "not judged" in done.stdout
    assert ("The accelerator is simulated" in done.stdout) is report["machine"]["simulated"]


def test_a_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    require("native")
    done = run_python(str(BENCHMARKS[0]), "--quick", "--json", str(tmp_path / "none" / "report.json"))
    assert done.returncode == 2
    assert "expected a file in a folder that exists" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "rule", "value", "status"),
    [
        ([], "at most", 0.5, 0),
        ([], "at most", 0.501, 1),
        ([], "at least", 0.5, 0),
        ([], "at least", 0.499, 1),
        (["--quick"], "at most", 0.501, 0),
    ],
)
def test_a_missed_bar_is_an_exit_status(arguments: list[str], rule: str, value: float, status: int) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'benchmarks')!r}); sys.argv = ['bench_x.py', *{arguments!r}]; "
        "import harness, torch; from torch_np_bridge.cli.target import Target; "
        f"measured = harness.Measured([], [harness.Bar('bar', {value}, {rule!r}, 0.5, '×')]); "
        "target = Target(torch.device('cpu'), None); "
        "sys.exit(harness.run('bench_x.py', 'About.', lambda: target, lambda quick: measured))"
    )
    done = run_python("-c", code)
    assert done.returncode == status, done.stderr
    verdict = "not judged" if arguments else "MISSED" if status else "met"
    assert f"bar: {verdict}: expected {rule} 0.500 ×" in done.stdout


def test_every_benchmark_has_a_result() -> None:
    assert [file.stem for file in RESULTS] == [benchmark.stem for benchmark in BENCHMARKS]


@pytest.mark.parametrize("result", RESULTS, ids=lambda path: path.stem)
def test_a_result(result: Path) -> None:
    text = result.read_text()
    report = json.loads(text)
    assert_report(report, ROOT / "benchmarks" / f"{result.stem}.py")
    assert report["quick"] is False
    assert re.fullmatch("[0-9a-f]{12}", report["machine"]["commit"]), "measured with changes that no commit has"
    assert not re.search(r'[" ]/(home|root|tmp|work|usr|opt)/', text), "a path of one machine"


def test_the_page_shows_the_results() -> None:
    done = run_python(str(ROOT / "benchmarks" / "report.py"), "--check")
    assert done.returncode == 0, done.stdout + done.stderr
