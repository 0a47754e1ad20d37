"""`bench`: every way is measured and compared, and losses are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_command

from torch_np_bridge.__main__ import main
from torch_np_bridge.cli import bench, cases
from torch_np_bridge.cli.target import Target
from torch_np_bridge.cli.timing import ratios, summarize, take_turns


def test_bench_writes_what_it_measured(engine: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    arguments = ["--quick", "--device", "cpu", "--json", str(file)]
    done = run_command("bench", *arguments, TORCH_NP_BRIDGE_ENGINE=engine)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Slower than another way" in done.stdout
    assert "their times say nothing" in done.stdout
    report = json.loads(file.read_text())
    assert report["quick"] is True
    assert report["machine"]["engine"] == engine
    assert {"cpu", "load_average", "device", "device_name", "driver", "versions", "commit"} <= report["machine"].keys()
    measured = [case["name"].split(",")[0] for case in report["cases"]]
    assert sorted(set(measured)) == sorted(cases.ALL)
    for case in report["cases"]:
        assert case["ratios"].keys() == case["ways"].keys() - {cases.BRIDGE}
        assert all(way["median_s"] > 0 and way["p99_s"] >= way["median_s"] for way in case["ways"].values())


def test_bench_measures_only_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--device", "cpu", "--only", "cpu_view"]) == 0
    output = capsys.readouterr().out
    assert "cpu_view" in output
    assert "one_tensor" not in output


def test_bench_refuses_a_file_in_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--quick", "--json", str(tmp_path / "none" / "report.json")]) == 2
    assert "folder" in capsys.readouterr().err


def test_bench_fails_where_ways_differ(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def wrong_case(target: Target, quick: bool) -> list[cases.Case]:
        return [cases.Case("wrong", {cases.BRIDGE: lambda: np.zeros(2), "other": lambda: np.ones(2)}, 1, 1)]

    monkeypatch.setitem(cases.ALL, "cpu_view", wrong_case)
    assert main(["bench", "--device", "cpu", "--only", "cpu_view"]) == 1
    assert "FAILED: expected equal arrays, got others by other than by to_numpy" in capsys.readouterr().out


def test_bench_says_where_the_bridge_loses() -> None:
    report = {
        "cases": [{"name": "case", "ratios": {"a": {"median": 1.5}, "b": {"median": 1.01}, "c": {"median": 0.5}}}]
    }
    assert bench.losses(report) == ["case: 1.50 × a"]


def test_ways_take_turns() -> None:
    order: list[str] = []

    def way(name: str) -> Callable[[], Any]:
        def note() -> Any:
            order.append(name)
            return np.zeros(1)

        return note

    seconds = take_turns({"a": way("a"), "b": way("b")}, runs=2, calls=2)
    assert "".join(order) == "ab" + "aabb" + "bbaa"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_summaries() -> None:
    summary = summarize([float(value) for value in range(101)])
    assert (summary.median, summary.iqr, summary.p99) == (50.0, 50.0, 99.0)
    assert ratios([1.0, 4.0, 3.0], [2.0, 2.0, 2.0])[0] == 1.5
