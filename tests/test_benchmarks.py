"""The programs in benchmarks/ run, and what is generated from the results shows what they say, and of what."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from commands import run_python
from conftest import require
from helpers import ROOT

from torch_np_bridge.cli.bench import plot
from torch_np_bridge.cli.bench.cases.registry import ALL
from torch_np_bridge.cli.bench.results import Bar, Entry, Figure, Measured, Report, text_of

BENCHMARKS = sorted((ROOT / "benchmarks").glob("bench_*.py"))
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
ON_THE_CPU = {"bench_import", "bench_tree_walk"}
NEEDS = {"bench_ray": "ray"}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda path: path.stem)
def test_a_quick_run(benchmark: Path, tmp_path: Path) -> None:
    for thing in ("native", "fake", *filter(None, [NEEDS.get(benchmark.stem)])):
        require(thing)
    file = tmp_path / "report.json"
    done = run_python(str(benchmark), "--quick", "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    report = Report.read(file)
    assert report.quick
    [entry] = report.entries
    assert entry.name == benchmark.stem
    assert report.kind(entry) == ("cpu" if benchmark.stem in ON_THE_CPU else "simulated")
    assert entry.measured.figures
    assert "they say nothing" in done.stdout
    assert ("not judged" in done.stdout) is bool(entry.measured.bars)
    assert ("The accelerator is simulated" in done.stdout) is (report.kind(entry) == "simulated")


def test_a_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    require("native")
    done = run_python(str(BENCHMARKS[0]), "--quick", "--json", str(tmp_path / "none" / "report.json"))
    assert done.returncode == 2
    assert "expected a file that can be written, in a folder that exists" in done.stderr


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
        "from torch_np_bridge.cli.bench.results import Bar, Measured; "
        f"measured = Measured([], [Bar('bar', {value}, {rule!r}, 0.5, '×')]); "
        "target = Target(torch.device('cpu'), None); "
        "sys.exit(harness.run('bench_x.py', 'About.', lambda: target, lambda quick: measured))"
    )
    done = run_python("-c", code)
    assert done.returncode == status, done.stderr
    verdict = "not judged" if arguments else "MISSED" if status else "met"
    assert f"bar: {verdict}: expected {rule} 0.500 ×" in done.stdout


def test_every_program_has_a_result() -> None:
    measured = {entry.name for file in RESULTS for entry in Report.read(file).entries}
    assert {benchmark.stem for benchmark in BENCHMARKS} <= measured
    assert measured <= {*ALL, *(benchmark.stem for benchmark in BENCHMARKS)}, "what nothing measures any more"


@pytest.mark.parametrize("result", RESULTS, ids=lambda path: path.stem)
def test_a_result(result: Path) -> None:
    text = result.read_text()
    report = Report.read(result)
    assert not report.quick
    assert re.fullmatch("[0-9a-f]{12}", report.machine["commit"]), "measured with changes that no commit has"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", report.machine["date"])
    assert not re.search(r'[" ]/(home|root|tmp|work|usr|opt)/', text), "a path of one machine"
    for entry in json.loads(text)["entries"]:
        for bar in entry["bars"]:
            reached = bar["value"] <= bar["limit"] if bar["rule"] == "at most" else bar["value"] >= bar["limit"]
            assert bar["met"] is reached


def test_readme_page_and_picture_show_the_results() -> None:
    done = run_python(str(ROOT / "benchmarks" / "report.py"), "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_of_integrations_says_what_was_measured() -> None:
    report = Report.read(ROOT / "benchmarks" / "results" / "bench_ray.json")
    found = {figure.name.removeprefix("time, "): figure.value for figure in report.entries[0].measured.figures}
    sync, other, plain = (f"{1e6 / found[name]:,.0f}" for name in ("Predictor", "AsyncPredictor", "plain callable"))
    said = " ".join((ROOT / "docs" / "integrations.md").read_text().split())
    for words in (
        f"`Predictor` {text_of(found['Predictor / plain callable'], '×')} the time",
        f"`AsyncPredictor` {text_of(found['AsyncPredictor / plain callable'], '×')}:",
        f"{sync} and {other} rows a second beside {plain}, on {report.machine['cpu']} (",
    ):
        assert words in said


@dataclass(frozen=True)
class Copy:
    """What report.py reads and writes, somewhere else."""

    root: Path
    results: Path
    main: Callable[..., int]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    harness, report = import_module("harness"), import_module("report")
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for file in (report.README, report.PAGE, report.PICTURE, *RESULTS):
        (tmp_path / file.relative_to(ROOT)).write_text(file.read_text())
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setattr(report, "RESULTS", results)
    for name in ("README", "PAGE", "PICTURE"):
        monkeypatch.setattr(report, name, tmp_path / getattr(report, name).relative_to(ROOT))

    def main(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["report.py", *arguments])
        return int(report.main())

    return Copy(tmp_path, results, main)


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md", "docs/benchmarks.svg"])
def test_a_figure_that_no_file_has_is_found(copy: Copy, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = copy.root / name
    text = file.read_text()
    file.write_text(re.sub(r"\b0\.\d{3} ×", "0.001 ×", text, count=1))
    assert file.read_text() != text, "no figure to change"
    assert copy.main("--check") == 1
    expected = f"expected what benchmarks/results say in {name}, got something else; run: make report\n"
    assert capsys.readouterr().out == expected
    assert copy.main() == 0
    assert file.read_text() == text
    assert copy.main("--check") == 0


def test_a_file_that_nothing_shows_is_found(copy: Copy) -> None:
    (copy.results / RESULTS[0].name).unlink()
    assert copy.main("--check") == 1


def test_a_measurement_stands_in_one_file(copy: Copy) -> None:
    first = RESULTS[0].name
    (copy.results / "zz.json").write_text((copy.results / first).read_text())
    with pytest.raises(ValueError, match=f"of one device once, got it in {first} and zz.json"):
        copy.main()


MACHINE: dict[str, Any] = {
    "date": "2026-12-24", "cpu": "a processor", "cpus": 2, "load_average": [1.0], "load_average_after": None,
    "real_time_priority": False, "system": "Linux", "device": "cuda:0", "device_name": "a GPU", "simulated": False,
    "driver": "580.1", "engine": "native", "kernels": "none", "versions": {"torch": "2.13.0"}, "commit": None,
}  # fmt: skip
RATIOS = [
    Figure(case, "time, mine / other", value, "×", 0.1, beside="other") for case, value in {"a": 0.5, "b": 1.5}.items()
]


def made(name: str, figures: Sequence[Figure] = RATIOS, on: Any = "accelerator", **machine: Any) -> Report:
    bars = [Bar.of("a bar", figures[0], "at most", 1.0)]
    return Report({**MACHINE, **machine}, False, [Entry(name, "A title.", on, Measured(figures, bars))])


def readme(copy: Copy, *reports: Report) -> str:
    """The generated part of README for these reports alone."""
    for file in copy.results.iterdir():
        file.unlink()
    for index, report in enumerate(reports):
        report.write(copy.results / f"{index}.json")
    assert copy.main() == 0
    text = (copy.root / "README.md").read_text()
    return text[text.index("<!-- from") : text.index("<!-- end")]


SIMULATED: dict[str, Any] = {"simulated": True, "device": "fake:0", "device_name": None, "driver": None}


def test_without_a_gpu_it_says_so_and_labels_what_is_simulated(copy: Copy) -> None:
    text = readme(copy, made("N1", **SIMULATED), made("N10", on="cpu", **SIMULATED))
    assert "**Not yet measured on a GPU.**" in text
    cpu, simulated = text.index("On the CPU, a processor:"), text.index("beside a **simulated accelerator**")
    assert cpu < text.index("| N10: b") < simulated < text.index("| N1: b")
    assert "a GPU (" not in text
    page = (copy.root / "docs" / "benchmarks.md").read_text()
    assert "## N1, simulated accelerator\n" in page
    assert "| N1 | a bar | at most 1.000 × | 0.500 × | met | simulated accelerator |" in page
    assert "| N10 | a bar | at most 1.000 × | 0.500 × | met | a processor |" in page


def test_a_gpu_is_named_with_driver_torch_and_date(copy: Copy) -> None:
    text = readme(copy, made("N1", **SIMULATED), made("N1"))
    assert "Not yet measured" not in text
    heading = text.index("On a GPU (cuda:0), NVIDIA driver 580.1:")
    assert heading < text.index("| N1: b") < text.index("simulated accelerator")
    row = "| N1: b, the worst of 2 cases | **1.500 ×, slower** | `other` | 0.100 × | 2026-12-24, torch 2.13.0 |"
    assert text.count(row) == 2


def test_the_file_of_a_gpu_has_figures_of_the_cpu_beside_it(copy: Copy) -> None:
    """They stand beside those of another file, though both processors have one name."""
    text = readme(copy, made("N10", on="cpu", **SIMULATED), made("N10", on="cpu"), made("N1"))
    assert text.count("| N10: b") == 2
    page = (copy.root / "docs" / "benchmarks.md").read_text()
    for heading in ("## N10\n", "## N10, the CPU beside a GPU\n", "## N1, a GPU\n"):
        assert page.count(heading) == 1


def test_a_measurement_of_one_cpu_stands_in_one_file(copy: Copy) -> None:
    with pytest.raises(ValueError, match=r"expected N10 of one device once, got it in 0\.json and 1\.json"):
        readme(copy, made("N10", on="cpu", **SIMULATED), made("N10", on="cpu", device="cpu", device_name="a processor"))


def test_the_picture_keeps_what_is_simulated_apart() -> None:
    found = plot.sections([made("N1", **SIMULATED), made("N1"), made("N10", on="cpu", **SIMULATED)])
    assert found == {
        "on a GPU, NVIDIA driver 580.1": {"N1: beside other": 1.5},
        "on the CPU": {"N10: beside other": 1.5},
        "the host's side, on a simulated accelerator: no figure of a GPU": {"N1: beside other": 1.5},
    }


def test_the_picture_is_one_whatever_the_ratios_are() -> None:
    extreme = [Figure("<a & b>", "time, mine / <other>", 50.0, "×", beside="<other>")]
    picture = ElementTree.fromstring(plot.draw([made("N1", extreme)]))
    widths = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert max(widths[1:]) <= plot.CHART
    said = "".join(picture.itertext())
    assert "50.000 ×" in said
    assert "torch 2.13.0, 2026-12-24" in said
