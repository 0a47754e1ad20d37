"""Writes what is made from benchmarks/results: the tables of docs/benchmarks.md, README's table and the picture.

`--check` changes nothing and only says whether they agree with the results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import harness

from torch_np_bridge.cli.bench import plot
from torch_np_bridge.cli.bench.results import Entry, Figure, Report, about, text_of

RESULTS = harness.ROOT / "benchmarks" / "results"
PAGE = harness.ROOT / "docs" / "benchmarks.md"
README = harness.ROOT / "README.md"
PICTURE = harness.ROOT / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- from benchmarks/results, by benchmarks/report.py -->", "<!-- end -->"
NO_GPU = "**Not yet measured on a GPU.**"
KINDS = {
    "accelerator": "On {device_name} ({device}), NVIDIA driver {driver}:",
    "cpu": "On the CPU, {cpu}:",
    "simulated": "The host's side alone, beside a **simulated accelerator**, on {cpu}. No figure of a GPU:",
}


def main() -> int:
    """Rewrite the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where a file is another")
    options = parser.parse_args()
    reports = read(sorted(RESULTS.glob("*.json")))
    different = []
    for file, expected in made_from(reports).items():
        if file.exists() and file.read_text(encoding="utf-8") == expected:
            continue
        different.append(file)
        if not options.check:
            file.write_text(expected, encoding="utf-8")
    if options.check and different:
        names = ", ".join(file.relative_to(harness.ROOT).as_posix() for file in different)
        print(f"expected what benchmarks/results say in {names}, got something else; run: make report")
    return int(options.check and bool(different))


def read(files: Sequence[Path]) -> list[Report]:
    """The reports in the order of their names, those of GPUs first; a measurement stands in one file a device."""
    reports = [Report.read(file) for file in files]
    seen: dict[tuple[str, str], Path] = {}
    for file, report in zip(files, reports, strict=True):
        for entry in report.entries:
            if (other := seen.setdefault((entry.name, _of(report, entry)), file)) is not file:
                raise ValueError(f"expected {entry.name} of one device once, got it in {other.name} and {file.name}")
    return sorted(reports, key=_place)


def _of(report: Report, entry: Entry) -> str:
    """What it is of: a file of a GPU has figures of the CPU beside it, which is another one even if its name is not."""
    kind, on_hardware = report.kind(entry), report.machine["device"] != "cpu" and not report.machine["simulated"]
    if kind == "simulated":
        return "simulated accelerator"
    device = str(report.machine["device_name"])
    return device if kind == "accelerator" else f"the CPU beside {device}" if on_hardware else "the CPU"


def _place(report: Report) -> tuple[bool, bool, int]:
    """GPUs first; N1 to N13 in the order of their numbers, the others behind."""
    name = report.entries[0].name
    number = int(name[1:]) if name[1:].isdecimal() else sys.maxsize
    return report.machine["simulated"] or report.machine["device"] == "cpu", report.machine["simulated"], number


def made_from(reports: Sequence[Report]) -> dict[Path, str]:
    """All files that are generated, with what they have to hold."""
    tables = [summary(reports), *(section(report, entry) for report in reports for entry in report.entries)]
    return {
        PAGE: between_marks(PAGE, "\n\n".join(tables)),
        README: between_marks(README, readme(reports)),
        PICTURE: plot.draw(reports),
    }


def between_marks(file: Path, text: str) -> str:
    """A file with this text between its two marks."""
    before, _, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"expected the lines {BEGIN} and {END} in {file.name}, got a file without them")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def readme(reports: Sequence[Report]) -> str:
    """For each measurement and other way the case that is worst for the bridge; what is measured on what, and when."""
    parts = [] if any(_rows(report, "accelerator") for report in reports) else [NO_GPU]
    for kind, heading in KINDS.items():
        groups: dict[str, list[list[str]]] = {}
        for report in reports:
            if rows := _rows(report, kind):
                groups.setdefault(heading.format(**report.machine), []).extend(rows)
        headings = ["", "the bridge's time", "beside", "spread", "measured"]
        parts += [f"{title}\n\n{table(headings, rows)}" for title, rows in groups.items()]
    parts.append(f"![The same ratios as bars]({PICTURE.relative_to(README.parent).as_posix()})")
    return "\n\n".join(parts)


def _rows(report: Report, kind: str) -> list[list[str]]:
    when = f"{report.machine['date']}, torch {report.machine['versions']['torch']}"
    rows = []
    for entry in report.entries:
        if report.kind(entry) == kind:
            for figure, count in _worst(entry):
                cases = f", the worst of {count} cases" if count > 1 else ""
                ratio = text_of(figure.value, "×")
                shown = f"**{ratio}, slower**" if figure.loss else ratio
                spread = "" if figure.spread is None else text_of(figure.spread, "×")
                what = figure.name.partition(", ")[0].removeprefix("time")
                what = f"{figure.case}, {what}" if what else figure.case
                rows.append([f"{entry.name}: {what}{cases}", shown, f"`{figure.beside}`", spread, when])
    return rows


def _worst(entry: Entry) -> Iterator[tuple[Figure, int]]:
    found: dict[str, list[Figure]] = {}
    for figure in entry.measured.figures:
        if figure.beside is not None:
            found.setdefault(figure.beside, []).append(figure)
    for figures in found.values():
        yield max(figures, key=lambda figure: figure.value), len(figures)


def summary(reports: Sequence[Report]) -> str:
    """Every bar, and whether it is met."""
    rows = [
        [
            entry.name,
            bar.name,
            f"{bar.rule} {text_of(bar.limit, bar.unit)}",
            text_of(bar.value, bar.unit),
            "met" if bar.met else "**missed**",
            _on(report, entry),
        ]
        for report in reports
        for entry in report.entries
        for bar in entry.measured.bars
    ]
    return table(["measurement", "bar", "expected", "got", "", "on"], rows)


def _on(report: Report, entry: Entry) -> str:
    kind = report.kind(entry)
    return (
        "simulated accelerator"
        if kind == "simulated"
        else str(report.machine["cpu" if kind == "cpu" else "device_name"])
    )


def section(report: Report, entry: Entry) -> str:
    """All figures of one measurement, ratios first."""
    rows = []
    for figure in sorted(entry.measured.figures, key=lambda figure: figure.unit != "×"):
        spread, p99 = ("" if value is None else text_of(value, figure.unit) for value in (figure.spread, figure.p99))
        loss = "slower" if figure.loss else ""
        rows.append([figure.case, figure.name, text_of(figure.value, figure.unit), spread, p99, loss])
    figures = table(["case", "figure", "median", "interquartile range", "99th percentile", ""], rows)
    of_this = Report(report.machine, report.quick, [entry])
    notes = "\n".join(f"- {line}" for line in [*entry.measured.notes, *about(of_this)])
    of = _of(report, entry)
    heading = f"## {entry.name}" if of == "the CPU" else f"## {entry.name}, {of}"
    return "\n\n".join([heading, entry.title, figures, notes])


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
