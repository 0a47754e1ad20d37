"""What the benchmarks share: options, the simulated accelerator, turns, and reports as tables and as JSON."""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import mmap
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
# What is measured is this checkout, whatever package is installed. Every benchmark imports this module first.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from torch_np_bridge.cli import machine  # noqa: E402
from torch_np_bridge.cli.target import Target  # noqa: E402
from torch_np_bridge.cli.timing import ratios, summarize  # noqa: E402

MIB = 1 << 20
NARROWEST = 110  # columns that a table of figures needs


@dataclass(frozen=True)
class Figure:
    """One number, and what it is of. ``spread`` is an interquartile range, in the same unit."""

    case: str
    name: str
    value: float
    unit: str
    spread: float | None = None


@dataclass(frozen=True)
class Bar:
    """A figure that has to reach something."""

    name: str
    value: float
    rule: Literal["at most", "at least"]
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit if self.rule == "at most" else self.value >= self.limit


@dataclass(frozen=True)
class Measured:
    """What one benchmark found. ``notes`` are sentences without which the figures would mislead."""

    figures: Sequence[Figure]
    bars: Sequence[Bar]
    notes: Sequence[str] = ()


def simulated_accelerator() -> tuple[ModuleType, Target]:
    """The tests' simulated accelerator with its driver, at no cost per copy, and its first device."""
    fake = importlib.import_module("fake_device")
    fake.restore_defaults()
    importlib.import_module("fake_driver").register()
    return fake, Target(torch.device("fake", 0), fake)


def set_packer(present: bool) -> None:
    """The simulated accelerator's device type has a packer from now on, or none."""
    importlib.import_module("fake_driver").register(packer=present)


def without_page_locked_memory(fake: ModuleType) -> None:
    """Give all of it back and count anew.

    Torch's allocator gives back what the device has done with, so an array that is alive makes this fail.
    """
    torch.accelerator.synchronize()
    fake.empty_host_cache()
    if page_locked_bytes(fake):
        raise AssertionError(f"expected no page-locked memory at the start, got {page_locked_bytes(fake)} bytes")
    fake.reset_counters()


def page_locked_bytes(fake: ModuleType) -> int:
    """What the simulated driver has page-locked, whoever asked for it."""
    counted = fake.counters()
    return int(counted.host_bytes_live + counted.locked_pages_bytes)


def fresh_memory(size: int) -> None:
    """Make so many bytes of the system's memory cheap to get, and none of them the process's own.

    What it freed before goes back to the system: a program that keeps everything it makes is never served with that,
    but its repetition would be. And a virtual machine gets memory from its own host at the first touch, may give it
    back when it is free for seconds, and takes ten times as long then as clearing does: whoever comes next would pay.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1
    memory.close()


def run(file: str, about: str, target: Callable[[], Target], measure: Callable[[bool], Measured]) -> int:
    """The command line of a benchmark.

    Args:
        file: the benchmark's own file, whose name the report bears.
        about: its docstring; the first line is the report's title.
        target: what the figures are of.
        measure: makes the figures; tiny ones that say nothing about speed where its argument is true.

    Returns:
        The exit status: 1 where a bar was missed, except for tiny figures, which are not judged.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny figures, which say nothing and are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to this file")
    options = parser.parse_args()
    if options.json is not None and not options.json.parent.is_dir():
        parser.error(f"--json: expected a file in a folder that exists, got {options.json}")
    described = machine.describe(target())
    measured = measure(options.quick)
    report = {
        "benchmark": Path(file).stem,
        "title": about.splitlines()[0],
        "quick": options.quick,
        "machine": {
            **described,
            "load_average_after": list(os.getloadavg()),
            "real_time_priority": real_time_priority(),
        },
        "figures": [asdict(figure) for figure in measured.figures],
        "bars": [{**asdict(bar), "met": bar.met} for bar in measured.bars],
        "notes": list(measured.notes),
    }
    show(report)
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return int(not options.quick and not all(bar.met for bar in measured.bars))


def real_time_priority() -> bool:
    """Whether this process goes before all that have no such priority, so that their load hardly shows."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)


def turns(ways: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """``runs`` times of each way, in seconds, as the ways themselves measure them.

    A run of every way is made before the next run of any, and each turn another way goes first, so that what changes
    on the machine meanwhile meets all of them. Garbage is not collected meanwhile: the next run would find cold caches.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        ways[name]()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(runs):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds[name].append(ways[name]())
    finally:
        if collecting:
            gc.enable()
    return seconds


def times(case: str, seconds: Mapping[str, list[float]], what: str, unit: Literal["µs", "ms"]) -> list[Figure]:
    """The time of each way: the median of its runs."""
    scale = {"µs": 1e6, "ms": 1e3}[unit]
    summaries = {name: summarize(runs) for name, runs in seconds.items()}
    return [
        Figure(case, f"{what}, {name}", summary.median * scale, unit, summary.iqr * scale)
        for name, summary in summaries.items()
    ]


def ratio(case: str, seconds: Mapping[str, list[float]], mine: str, other: str, what: str) -> Figure:
    """How much of the other way's time mine takes: the median of the ratios of runs made next to each other."""
    value, spread = ratios(seconds[mine], seconds[other])
    return Figure(case, f"{what}, {mine} / {other}", value, "×", spread)


def show(report: dict[str, Any]) -> None:
    """Print a report as tables, the machine below them."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = max(console.width, NARROWEST)
    table = Table(title=report["title"])
    for column in ("case", "figure"):
        table.add_column(column)
    for column in ("value", "interquartile range"):
        table.add_column(column, justify="right")
    for row in report["figures"]:
        spread = "" if row["spread"] is None else text_of(row["spread"], row["unit"])
        table.add_row(row["case"], row["name"], text_of(row["value"], row["unit"]), spread)
    console.print(table)
    for bar in report["bars"]:
        verdict = "not judged" if report["quick"] else "met" if bar["met"] else "MISSED"
        console.print(f"{bar['name']}: {verdict}: {wording(bar)}")
    for line in [*report["notes"], *about_machine(report)]:
        console.print(line)


def wording(bar: dict[str, Any]) -> str:
    """What a bar asks for, and what was got."""
    got, limit = (text_of(bar[key], bar["unit"]) for key in ("value", "limit"))
    return f"expected {bar['rule']} {limit}, got {got}"


def text_of(value: float, unit: str) -> str:
    """A figure as people write it."""
    if unit == "bytes":
        return f"{value / MIB:,.2f} MiB" if value >= MIB else f"{value:,.0f} bytes"
    if unit in ("%", "ms"):
        return f"{value:,.1f} {unit}"
    if unit == "×":
        return f"{value:,.3f} ×"
    if unit == "µs":
        return f"{value:,.2f} µs"
    if unit == "exponent":
        return f"{value:.2f}"
    return f"{value:,.0f}"


def about_machine(report: dict[str, Any]) -> list[str]:
    """What a figure is of, as sentences."""
    facts = report["machine"]
    before, after = (" ".join(f"{value:.1f}" for value in facts[key]) for key in ("load_average", "load_average_after"))
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"Machine: {facts['cpu']}, {facts['cpus']} threads, {facts['system']}; "
        f"load average {before} before, {after} after",
        f"Engine: {facts['engine']}; {versions}, commit {facts['commit'] or 'unknown'}",
    ]
    if facts["real_time_priority"]:
        lines.append("It ran at real-time priority, before what else ran on the machine.")
    if facts["simulated"]:
        lines.append(
            "The accelerator is simulated: these are costs on the host, and nothing here is a figure of a GPU."
        )
    if report["quick"]:
        lines.append("These are the tiny figures of --quick: they say nothing.")
    return lines
