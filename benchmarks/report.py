"""Writes the tables of docs/benchmarks.md from benchmarks/results; `--check` only says whether they agree."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import harness

RESULTS = harness.ROOT / "benchmarks" / "results"
PAGE = harness.ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- from benchmarks/results, by benchmarks/report.py -->", "<!-- end -->"


def main() -> int:
    """Rewrite the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 where the page is another")
    options = parser.parse_args()
    found = PAGE.read_text()
    expected = page(found, [json.loads(file.read_text()) for file in sorted(RESULTS.glob("bench_*.json"))])
    if options.check:
        if found != expected:
            print(
                f"expected {PAGE.name} to be what the results say, got another text; run: python benchmarks/report.py"
            )
        return int(found != expected)
    PAGE.write_text(expected)
    return 0


def page(text: str, reports: list[dict[str, Any]]) -> str:
    """The page with the tables of these reports between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"expected the lines {BEGIN} and {END} in {PAGE.name}, got a page without them")
    sections = [summary(reports), *map(section, reports)]
    return f"{before}{BEGIN}\n\n" + "\n\n".join(sections) + f"\n\n{END}{after}"


def summary(reports: list[dict[str, Any]]) -> str:
    """Every bar, and whether it is met."""
    rows = [
        [Path(report["benchmark"]).name, bar["name"], *sides(bar), "met" if bar["met"] else "**missed**"]
        for report in reports
        for bar in report["bars"]
    ]
    return table(["benchmark", "bar", "expected", "got", ""], rows)


def sides(bar: dict[str, Any]) -> list[str]:
    """What was expected and what was got."""
    limit, got = (harness.text_of(bar[key], bar["unit"]) for key in ("limit", "value"))
    return [f"{bar['rule']} {limit}", got]


def section(report: dict[str, Any]) -> str:
    """All figures of one benchmark."""
    rows = [
        [
            figure["case"],
            figure["name"],
            harness.text_of(figure["value"], figure["unit"]),
            "" if figure["spread"] is None else harness.text_of(figure["spread"], figure["unit"]),
        ]
        for figure in report["figures"]
    ]
    about = [f"- {line}" for line in [*report["notes"], *harness.about_machine(report)]]
    figures = table(["case", "figure", "value", "interquartile range"], rows)
    return "\n\n".join([f"## {report['benchmark']}", report["title"], figures, "\n".join(about)])


def table(headings: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
