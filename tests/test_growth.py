"""The growth of calls is measured, fitted and shown. What it comes to is no test: benchmarks/results has it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import run_python
from conftest import require
from helpers import ROOT

pytest.importorskip("rich", reason="expected rich, which the benchmarks print with, found none; pip install rich")
from growth import page, steady
from growth.fit import exponent

from torch_np_bridge.cli.bench.results import MIB, Figure, Report

ON_PATH = os.pathsep.join(str(ROOT / folder) for folder in (".", "benchmarks", "tests"))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of a tiny run."""
    return tiny("growth", tmp_path_factory.mktemp("growth") / "growth.json")


@pytest.fixture(scope="module")
def over_time(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """That of the steady loop, for a moment."""
    return tiny("growth.steady", tmp_path_factory.mktemp("steady") / "steady.json")


def tiny(module: str, file: Path) -> Report:
    """What the program writes to the file."""
    require("native")
    require("fake")
    done = run_python("-m", module, "--quick", "--json", str(file), PYTHONPATH=ON_PATH)
    assert done.returncode == 0, done.stdout + done.stderr
    return Report.read(file)


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5])
def test_the_exponent(power: float) -> None:
    work = [1.0, 10.0, 100.0, 1000.0]
    assert exponent(work, [3 * x**power for x in work]) == pytest.approx(power, abs=1e-9)


def test_what_is_small_is_left_out_of_the_fit() -> None:
    work = [1.0, 10.0, 100.0, 1000.0]
    assert exponent(work, [50.0, 50.0, 100.0, 1000.0], start=100) == pytest.approx(1)
    with pytest.raises(ValueError, match="expected at least two points from 1000 on, got 1"):
        exponent(work, work, start=1000)


def an_hour(resident: float, page_locked: float = 0.0, created: int = 0) -> list[Figure]:
    """Samples of a steady loop that takes so many bytes more in that time, little by little."""
    found = []
    for minute in range(1, 61):
        at, share = f"{60 * minute}", (minute - 1) / 59
        found += [
            Figure("steady, resident", at, 400 * MIB + resident * share, "bytes"),
            Figure("steady, page-locked", at, 9 * MIB + page_locked * share, "bytes"),
            Figure("steady, events created", at, round(created * share), ""),
        ]
    return found


@pytest.mark.parametrize(
    ("grown", "missed"),
    [
        ({"resident": 0.0}, set()),
        ({"resident": 0.5 * MIB}, set()),
        ({"resident": 20.0 * MIB}, {"steady, resident, last less first"}),
        ({"resident": 400.0 * MIB}, {"steady, resident", "steady, resident, last less first"}),
        ({"resident": -20.0 * MIB, "page_locked": 4096.0}, {"steady, page-locked, last less first"}),
        ({"resident": 0.0, "created": 1}, {"steady, events created"}),
    ],
)
def test_a_loop_that_is_not_steady(grown: dict[str, Any], missed: set[str]) -> None:
    """A little more with each minute is told by bytes: its exponent is small."""
    assert {bar.name for bar in steady.bars(an_hour(**grown)) if not bar.met} == missed


def test_a_quick_run(quick: Report) -> None:
    assert quick.quick
    assert quick.machine["simulated"] is True
    cases = {figure.case for figure in page.figures(quick)}
    assert {case.split(",")[0] for case in cases} == set(page.PANELS)
    bars = page.only(quick).measured.bars
    assert {bar.name for bar in bars} == cases - {"bytes, .cpu().numpy()"}
    assert all(np.isfinite(bar.value) for bar in bars)


def test_a_moment_of_the_loop(over_time: Report) -> None:
    cases = {figure.case for figure in page.figures(over_time)}
    assert cases == {steady.RATE, steady.RESIDENT, steady.PAGE_LOCKED, steady.CREATED}
    assert {bar.name.removesuffix(", last less first") for bar in page.only(over_time).measured.bars} < cases


def test_the_picture(quick: Report, over_time: Report, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="expected matplotlib, which draws the picture, found none")
    page.draw(quick, over_time, tmp_path / "growth.svg")
    drawn = (tmp_path / "growth.svg").read_text()
    for case in {figure.case for figure in page.figures(quick)} | {steady.RESIDENT, steady.PAGE_LOCKED}:
        assert case.split(", ", 1)[1] in drawn


def test_the_section(quick: Report, over_time: Report, tmp_path: Path) -> None:
    text = page.PAGE.read_text()
    measured, loop = tmp_path / "growth.json", tmp_path / "steady.json"
    quick.write(measured)
    assert "Not measured yet: `make growth`." in page.page(text, tmp_path, measured, loop)
    over_time.write(loop)
    shown = page.page(text, tmp_path, measured, loop)
    assert "growth.svg" in shown
    for report in (quick, over_time):
        for bar in page.only(report).measured.bars:
            assert f"| {bar.name} | " in shown


def test_a_file_of_a_gpu_is_not_taken_for_the_simulated_one(tmp_path: Path) -> None:
    committed = Report.read(page.RESULTS / "simulated.json")
    committed.write(tmp_path / "simulated.json")
    replace(committed, machine={**committed.machine, "simulated": False}).write(tmp_path / "a_gpu.json")
    found = page.submission(tmp_path)
    assert found is not None
    assert found.machine == committed.machine


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the lines"):
        page.page("# Performance", tmp_path, tmp_path / "none.json", tmp_path / "none.json")


def test_the_page_shows_the_results() -> None:
    """And there is a picture where there is a result."""
    done = run_python("-m", "growth.page", "--check", PYTHONPATH=ON_PATH)
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [page.report(page.MEASURED), page.report(page.STEADY)]
    assert page.PICTURE.exists() is all(reports)
    assert not any(report.quick for report in reports if report is not None)
