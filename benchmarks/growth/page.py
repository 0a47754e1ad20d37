"""What docs/performance.md shows of the committed results: what to expect, how it grows, and the picture of it.

``--check`` changes nothing, and says whether the page agrees with the results.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import harness
from report import table

from torch_np_bridge.cli.bench.results import MIB, Entry, Figure, Report, about, text_of

from . import steady
from .fit import axes

RESULTS = harness.ROOT / "benchmarks" / "results"
MEASURED, STEADY = (Path(__file__).with_name(name) for name in ("measured.json", "steady.json"))
PAGE = harness.ROOT / "docs" / "performance.md"
PICTURE = PAGE.with_name("growth.svg")
MARKS = "<!-- {}, by benchmarks/growth/page.py -->", "<!-- end -->"
PANELS = ("leaves", "bytes", "threads", "devices")


def main() -> int:
    """Rewrite the page and draw, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit status 1 where the page is another")
    options = parser.parse_args()
    found = PAGE.read_text()
    expected = page(found, RESULTS, MEASURED, STEADY)
    if options.check:
        if found != expected:
            print(f"expected {PAGE.name} to be what the results say, got another text; run: make docs")
        return int(found != expected)
    PAGE.write_text(expected)
    grown, over_time = report(MEASURED), report(STEADY)
    if grown is not None and over_time is not None:
        draw(grown, over_time, PICTURE)
    return 0


def report(file: Path) -> Report | None:
    """A committed result, or None where there is none yet."""
    return Report.read(file) if file.exists() else None


def page(text: str, results: Path, measured: Path, over_time: Path) -> str:
    """The page, with what the results say between its marks."""
    expected = expectations(report(results / "bench_tree.json"), submission(results))
    grown = growth(report(measured), report(over_time))
    return between(between(text, "what to expect", expected), "growth", grown)


def submission(results: Path) -> Report | None:
    """The report that has N7 beside the simulated accelerator, with that alone."""
    for file in sorted(results.glob("*.json")):
        found = Report.read(file)
        if entries := [entry for entry in found.entries if entry.name == "N7" and found.kind(entry) == "simulated"]:
            return replace(found, entries=entries)
    return None


def between(text: str, name: str, content: str) -> str:
    """The text with other content between the marks of this name."""
    begin, end = (mark.format(name) for mark in MARKS)
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"expected the lines {begin} and {end} in {PAGE.name}, got a page without them")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def expectations(tree: Report | None, submit: Report | None) -> str:
    """A row for each count and size, a column for each way."""
    if tree is None or submit is None:
        return "Not measured yet: `benchmarks/bench_tree.py`, `bench --only N7`."
    grid = re.compile(r"[\d,]+ × ")
    times = [
        row for row in figures(tree) if row.unit == "µs" and grid.match(row.case) and row.name.startswith("time, ")
    ]
    ways = list(dict.fromkeys(row.name for row in times))
    cells = {(row.case, row.name): f"{row.value:,.0f} µs" for row in times}
    rows = [[case, *(cells.get((case, way), "") for way in ways)] for case in dict.fromkeys(row.case for row in times)]
    headings = ["leaves × size", *(way.removeprefix("time, ") for way in ways)]
    returned = [
        f"- {row.name}, {row.case}: {text_of(row.value, row.unit)}" for row in figures(submit) if row.unit == "µs"
    ]
    of_submit = f"The times until a call returns are of N7, commit {submit.machine['commit']}"
    return "\n\n".join(
        [table(headings, rows), "\n".join(returned), f"{of_submit}; the table is of bench_tree:", facts(tree)]
    )


def growth(grown: Report | None, over_time: Report | None) -> str:
    """The picture and the exponents, then what stays as it is over time."""
    if grown is None or over_time is None:
        return "Not measured yet: `make growth`."
    picture = f"![What a call takes, by leaves, bytes, threads, devices and time]({PICTURE.name})"
    parts = [
        picture,
        judged(grown, "exponent"),
        facts(grown),
        judged(over_time, "from first to last"),
        facts(over_time),
    ]
    return "\n\n".join(parts)


def judged(found: Report, heading: str) -> str:
    """A row a bar."""
    rows = [
        [bar.name, text_of(bar.value, bar.unit), text_of(bar.limit, bar.unit), "" if bar.met else "more"]
        for bar in only(found).measured.bars
    ]
    return table(["", heading, "at most", ""], rows)


def only(found: Report) -> Entry:
    """The measurement of a report that has one."""
    [entry] = found.entries
    return entry


def figures(found: Report) -> Sequence[Figure]:
    """What it found."""
    return only(found).measured.figures


def facts(found: Report) -> str:
    """What the figures are of."""
    return "\n".join(f"- {line}" for line in [*only(found).measured.notes, *about(found)])


def draw(grown: Report, steadied: Report, path: Path) -> None:
    """A panel a series, on white, so that it can be read on dark pages too."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(
        {"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
    ):
        figure, grid = plt.subplots(2, 3, figsize=(12, 7), layout="constrained", facecolor="white")
        panels = list(grid.flat)
        exponents = {bar.name: bar.value for bar in only(grown).measured.bars}
        for panel, name in zip(panels, PANELS, strict=False):
            for case in cases(grown, name):
                fitted = f" ({exponents[case]:.2f})" if case in exponents else ""
                label = case.removeprefix(f"{name}, ") + fitted
                panel.loglog(*axes(figures(grown), case), marker="o", markersize=3, label=label)
            panel.set(xlabel=name, ylabel="µs a call", title=f"by {name}")
            panel.legend(fontsize=7)
        over_time, rate = panels[len(PANELS) :]
        for case in (steady.RESIDENT, steady.PAGE_LOCKED):
            seconds, taken = axes(figures(steadied), case)
            minutes = [second / 60 for second in seconds]
            over_time.plot(minutes, [value / MIB for value in taken], label=case.removeprefix("steady, "))
        over_time.set(xlabel="minutes", ylabel="MiB", title="memory of a steady loop", ylim=(0, None))
        over_time.legend(fontsize=7)
        seconds, taken = axes(figures(steadied), steady.RATE)
        rate.plot([second / 60 for second in seconds], taken)
        rate.set(xlabel="minutes", ylabel="transfers a second", title="its speed", ylim=(0, None))
        machine = grown.machine
        versions = f"torch {machine['versions']['torch']}, commit {machine['commit']}"
        figure.suptitle(
            f"Simulated accelerator and CPU, {machine['cpu']}, {versions}; in brackets: exponents", fontsize=9
        )
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def cases(grown: Report, name: str) -> Sequence[str]:
    """The cases of a series, in their order."""
    return list(dict.fromkeys(row.case for row in figures(grown) if row.case.startswith(f"{name}, ")))


if __name__ == "__main__":
    sys.exit(main())
