"""Measure the bridge beside what one would write by hand, on this machine."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from . import cases, machine, tune
from .target import Target, UsageError, add_device_argument, add_load_argument, choose
from .timing import DifferentResultsError, ratios, summarize, take_turns

# A ratio of medians this far above one is a loss, below it noise.
NOISE = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``."""
    add_device_argument(parser)
    add_load_argument(parser)
    parser.add_argument("--quick", action="store_true", help="tiny cases, whose times say nothing")
    parser.add_argument("--only", nargs="+", choices=cases.ALL, metavar="CASE", help=f"of {', '.join(cases.ALL)}")
    parser.add_argument(
        "--tune", action="store_true", help="measure instead what sizes the CUDA kernel should have on this GPU"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to this file")


def run(options: argparse.Namespace) -> int:
    """Measure, print the tables and write the file; 1 if two ways gave different arrays, else 0."""
    if options.tune:
        return _tune(options)
    if options.json is not None and not options.json.parent.is_dir():
        raise UsageError(f"--json: expected a file in a folder that exists, got {options.json}")
    try:
        report = measure(choose(options), options.only or list(cases.ALL), options.quick)
    except DifferentResultsError as difference:
        print(f"FAILED: {difference}")
        return 1
    print(render(report))
    if options.json is not None:
        write(report, options.json)
    return 0


def _tune(options: argparse.Namespace) -> int:
    if options.only or options.json is not None:
        raise UsageError("--tune: expected neither --only nor --json beside it; it prints what it measures")
    target = choose(options)
    if target.is_cpu:
        raise UsageError("--tune: expected a GPU to measure on, got cpu; name another device by --device")
    try:
        return tune.run(target, quick=options.quick)
    except DifferentResultsError as difference:
        print(f"FAILED: {difference}")
        return 1


def measure(target: Target, names: list[str], quick: bool) -> dict[str, Any]:
    """All figures of the named cases, and the machine that they are of, as plain values."""
    report: dict[str, Any] = {"machine": machine.describe(target), "quick": quick, "cases": []}
    for name in names:
        report["cases"] += [_measure_case(case) for case in cases.ALL[name](target, quick)]
    return report


def write(report: dict[str, Any], file: Path) -> None:
    """Keep a report."""
    file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")


def _measure_case(case: cases.Case) -> dict[str, Any]:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    seconds = take_turns(case.ways, runs=case.runs, calls=case.calls)
    ways = {}
    for name, times in seconds.items():
        summary = summarize(times)
        ways[name] = {"median_s": summary.median, "iqr_s": summary.iqr, "p99_s": summary.p99}
    against = {}
    for name in list(seconds)[1:]:
        median, iqr = ratios(seconds[cases.BRIDGE], seconds[name])
        against[name] = {"median": median, "iqr": iqr}
    return {"name": case.name, "runs": case.runs, "calls_per_run": case.calls, "ratios": against, "ways": ways}


def losses(report: dict[str, Any]) -> list[str]:
    """Where the bridge is slower than another way."""
    return [
        f"{case['name']}: {ratio['median']:.2f} × {name}"
        for case in report["cases"]
        for name, ratio in case["ratios"].items()
        if ratio["median"] > 1 + NOISE
    ]


def render(report: dict[str, Any]) -> str:
    """The report as plain text, ratios first."""
    lines = ["Time of the bridge / time of the other way: median of the runs' ratios (interquartile range)"]
    lines += _table(
        [
            [case["name"], name, f"{ratio['median']:.3f}", f"({ratio['iqr']:.3f})"]
            for case in report["cases"]
            for name, ratio in case["ratios"].items()
        ]
    )
    lines += ["", "Times in µs: median, interquartile range, 99th percentile, runs × calls a run"]
    lines += _table(
        [
            [
                case["name"],
                name,
                *(f"{way[key] * 1e6:.2f}" for key in ("median_s", "iqr_s", "p99_s")),
                f"{case['runs']} × {case['calls_per_run']}",
            ]
            for case in report["cases"]
            for name, way in case["ways"].items()
        ]
    )
    slower = losses(report)
    lines += ["", f"Slower than another way by more than {NOISE:.0%}: {'' if slower else 'nowhere'}".rstrip()]
    lines += [f"  {line}" for line in slower]
    lines += ["", *_describe(report)]
    return "\n".join(lines)


def _describe(report: dict[str, Any]) -> list[str]:
    facts = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    load = " ".join(f"{value:.2f}" for value in facts["load_average"] or ())
    lines = [
        f"Device: {facts['device']} ({facts['device_name'] or 'no name'}), NVIDIA driver: {facts['driver'] or 'none'}",
        f"CPU: {facts['cpu']}, {facts['cpus']} threads, load average at the start: {load or 'unknown'}",
        f"Engine: {facts['engine']} ({facts['engine_reason']}), kernels: {facts['kernels']}",
        f"{facts['system']}, {versions}, commit {facts['commit'] or 'unknown'}",
    ]
    if report["quick"]:
        lines.append("These are the tiny cases of --quick: their times say nothing.")
    if facts["simulated"]:
        lines.append("The device is simulated: its times say nothing about any hardware.")
    elif facts["device"] == "cpu":
        lines.append("No accelerator was used: nothing was copied, and nothing here says how fast a copy is.")
    return lines


def _table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in cells)
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
