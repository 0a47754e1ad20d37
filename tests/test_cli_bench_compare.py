"""`bench compare`: what is worse beyond the spread is an exit status; what is not alike is said."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from torch_np_bridge.__main__ import main
from torch_np_bridge.cli.bench.comparison import compare
from torch_np_bridge.cli.bench.results import FORMAT, Bar, Entry, Figure, Measured, Report
from torch_np_bridge.cli.target import UsageError

MACHINE: dict[str, Any] = {
    "date": "2026-01-01", "cpu": "a processor", "cpus": 2, "load_average": [1.0, 1.0, 1.0],
    "load_average_after": [1.0, 1.0, 1.0], "real_time_priority": False, "system": "Linux", "device": "cpu",
    "device_name": "a processor", "simulated": False, "driver": None, "engine": "native", "kernels": "none",
    "versions": {"torch": "2.13.0", "torch_np_bridge": "0.1.0"}, "commit": None,
}  # fmt: skip


def ratio(value: float, spread: float | None = 0.0, case: str = "case") -> Figure:
    return Figure(case, "time, mine / other", value, "×", spread, beside="other")


def report(figures: Sequence[Figure], bars: Sequence[Bar] = (), **machine: Any) -> Report:
    return Report({**MACHINE, **machine}, False, [Entry("N1", "A title.", "accelerator", Measured(figures, bars))])


@pytest.fixture
def status(tmp_path: Path) -> Any:
    """The exit status of the command for two reports."""

    def run(before: Report, after: Report) -> int:
        files = [tmp_path / "before.json", tmp_path / "after.json"]
        for file, it in zip(files, (before, after), strict=True):
            it.write(file)
        return main(["bench", "compare", *map(str, files)])

    return run


@pytest.mark.parametrize(
    ("before", "after", "regression"),
    [
        (ratio(0.5), ratio(0.5), False),
        (ratio(0.5), ratio(0.25), False),
        (ratio(0.5), ratio(0.509), False),  # less than noise
        (ratio(0.5), ratio(0.511), True),
        (ratio(0.5, 0.1), ratio(0.54, 0.0), False),  # half of 0.1 is a tenth of the ratio
        (ratio(0.5, 0.1), ratio(0.56, 0.0), True),
        (ratio(0.5, 0.0), ratio(0.56, 0.14), False),  # half of 0.14 is an eighth
        (ratio(0.5, 0.1), ratio(0.57, 0.14), False),  # both together
        (ratio(0.5, None), ratio(0.56, None), True),
    ],
)
def test_worse_beyond_the_spread_is_a_regression(
    before: Figure, after: Figure, regression: bool, status: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(report([before]), report([after])) == int(regression)
    said = capsys.readouterr().out
    assert ("REGRESSION" in said) is regression
    assert f"Regressions: {1 if regression else 'none'}" in said
    assert f"{after.value / before.value:.3f}" in said


@pytest.mark.parametrize(
    ("rule", "before", "after", "regression"),
    [
        ("at most", 100.0, 103.0, True),
        ("at most", 100.0, 101.0, False),
        ("at most", 0.0, 0.0, False),
        ("at most", 0.0, 1.0, True),
        ("at least", 100.0, 97.0, True),
        ("at least", 97.0, 100.0, False),
    ],
)
def test_bars_are_compared_too(rule: Any, before: float, after: float, regression: bool, status: Any) -> None:
    def with_bar(value: float) -> Report:
        return report([], [Bar("a bar", value, rule, 50.0, "bytes")])

    assert status(with_bar(before), with_bar(after)) == int(regression)


def test_a_bar_of_a_ratio_is_counted_once() -> None:
    figure = ratio(0.5)
    found = compare(*[report([figure], [Bar.of("a bar", figure, "at most", 1.0)])] * 2)
    assert [row.name for row in found.rows] == [figure.name]


def test_times_alone_are_no_regression(status: Any) -> None:
    def with_time(value: float) -> Report:
        return report([ratio(0.5), Figure("case", "time, mine", value, "ms", 0.0)])

    assert status(with_time(1.0), with_time(2.0)) == 0


def test_what_became_better_is_said(status: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(report([ratio(0.5)]), report([ratio(0.4)])) == 0
    assert "better" in capsys.readouterr().out


def test_different_machines_and_versions_are_said(status: Any, capsys: pytest.CaptureFixture[str]) -> None:
    other: dict[str, Any] = {"cpu": "another", "versions": {"torch": "2.14.0", "torch_np_bridge": "0.2.0"}}
    assert status(report([ratio(0.5)]), report([ratio(0.5)], **other)) == 0
    said = capsys.readouterr().out
    assert "Different machines: cpu: a processor, then another\n" in said
    assert "Different versions: torch: 2.13.0, then 2.14.0\n" in said
    assert "torch_np_bridge:" not in said  # it is what one compares


def test_a_missing_case_is_said(status: Any, capsys: pytest.CaptureFixture[str]) -> None:
    both = [ratio(0.5), ratio(0.5, case="another")]
    assert status(report(both), report(both[:1])) == 0
    assert "Not in the second file: N1, another: time, mine / other" in capsys.readouterr().out
    assert status(report(both[1:]), report(both)) == 0
    assert "Not in the first file: N1, case: time, mine / other" in capsys.readouterr().out


def test_a_case_that_failed_is_said(status: Any, capsys: pytest.CaptureFixture[str]) -> None:
    both = [ratio(0.5), ratio(0.5, case="another")]
    assert status(report(both), replace(report(both[:1]), failed={"N2": "DifferentResultsError: others"})) == 0
    assert "Failed in the second file: N2: DifferentResultsError: others\n" in capsys.readouterr().out


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(UsageError, match="a case in common"):
        compare(report([ratio(0.5)]), report([ratio(0.5, case="another")]))


def test_tiny_figures_are_refused() -> None:
    tiny = Report(MACHINE, True, [Entry("N1", "A title.", "cpu", Measured([ratio(0.5)]))])
    with pytest.raises(UsageError, match="tiny figures of --quick"):
        compare(report([ratio(0.5)]), tiny)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("{", "that `bench --json` wrote"),
        ("[]", "format None"),
        (json.dumps({"format": 1}), "format 1; measure again"),
        (json.dumps({"format": FORMAT}), "with less: KeyError('entries')"),
    ],
)
def test_what_is_no_report_is_refused(
    text: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    if text is not None:
        file.write_text(text)
    assert main(["bench", "compare", str(file), str(file)]) == 2
    assert words in capsys.readouterr().err


def test_compare_needs_two_files(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "compare", "one.json"])
    assert "after" in capsys.readouterr().err
