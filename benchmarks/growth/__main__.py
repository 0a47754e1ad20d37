"""How what a call takes grows with leaves, bytes, threads and devices.

On the simulated accelerator, at no cost per copy, and on the CPU: what grows is the work of the host, and copies of
memory. An exponent of 1 is linear, one of 0 constant. Sizes are as large as a third of the memory that is free.
"""

from __future__ import annotations

import os
import sys

import harness
import torch

from torch_np_bridge.cli.bench.results import Bar, Figure, Measured
from torch_np_bridge.cli.bench.timing import summarize, turns

from . import series
from .fit import axes, exponent
from .series import Series

RUNS, LONG_RUNS = 15, 5


def main() -> int:
    """Measure, print, and judge."""
    os.environ.setdefault("FAKE_DEVICES", str(max(series.DEVICES)))
    _, target = harness.simulated_accelerator()
    file = str(harness.ROOT / "benchmarks" / "growth")
    return harness.run(file, __doc__ or "", lambda: target, lambda quick: measured(target.device, quick))


def measured(device: torch.device, quick: bool) -> Measured:
    """All series, and the exponents of each."""
    figures: list[Figure] = []
    bars: list[Bar] = []
    all_series = series.all_series(device, quick=quick)
    for one in all_series:
        found = points(one, quick)
        figures += found
        bars += exponents(one, found)
    starts = ", ".join(f"{one.start:,} {one.name}" for one in all_series)
    notes = [
        f"{RUNS} runs in turns of all ways of a series and amount, {LONG_RUNS} of the largest; the median stands here.",
        f"Exponents are fitted from {starts} on.",
    ]
    return Measured(figures, bars, notes)


def points(one: Series, quick: bool) -> list[Figure]:
    """The time of each way at each amount."""
    found = []
    for amount in one.amounts:
        divisor = amount * series.CALLS if one.name == "threads" else 1
        with one.ways(amount) as ways:
            timed = {name: series.timed(way, divisor) for name, way in ways.items()}
            long = one.name == "bytes" and amount > series.LARGE
            seconds = turns(timed, harness.plan(quick, LONG_RUNS if long else RUNS))
        for name, times in seconds.items():
            summary = summarize(times)
            found.append(Figure(f"{one.name}, {name}", str(amount), summary.median * 1e6, "µs", summary.iqr * 1e6))
    return found


def exponents(one: Series, found: list[Figure]) -> list[Bar]:
    """One for each way of ours; a view on the CPU does not grow with its bytes."""
    bars = []
    for case in dict.fromkeys(figure.case for figure in found):
        if case == f"bytes, {series.TORCHS}":
            continue
        constant = case == f"bytes, {series.VIEW}"
        work, taken = axes(found, case)
        limit = series.CONSTANT if constant else one.limit
        bars.append(Bar(case, exponent(work, taken, start=0 if constant else one.start), "at most", limit, "exponent"))
    return bars


if __name__ == "__main__":
    sys.exit(main())
