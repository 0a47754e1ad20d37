"""How what a call takes grows with leaves, bytes, threads, devices and time.

On the simulated accelerator, at no cost per copy, and on the CPU: what grows is the work of the host, and copies of
memory. An exponent of 1 is linear, one of 0 constant. ``--minutes M`` is how long the steady loop goes on; sizes are as
large as a third of the memory that is free.
"""

from __future__ import annotations

import argparse
import os
import sys
from types import ModuleType

import harness
import torch

from torch_np_bridge.cli.bench.results import MIB, Bar, Figure, Measured
from torch_np_bridge.cli.bench.timing import summarize, turns

from . import series, steady
from .fit import exponent
from .series import Series

RUNS, LONG_RUNS = 15, 5
STEADY = 0.02  # the exponent of what is to stay as it is
# And its bytes: that exponent lets pass a growth by a twelfth from the first of 60 samples to the last. Some pages are
# the interpreter's and the heap's.
DRIFT = {"steady, resident": MIB, "steady, page-locked": 0}


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=1.0)
    options, sys.argv[1:] = parser.parse_known_args()
    os.environ.setdefault("FAKE_DEVICES", str(max(series.DEVICES)))
    fake, target = harness.simulated_accelerator()

    def measure(quick: bool) -> Measured:
        return measured(fake, target.device, quick, 0.02 if quick else options.minutes)

    return harness.run(str(harness.ROOT / "benchmarks" / "growth"), __doc__ or "", lambda: target, measure)


def measured(fake: ModuleType, device: torch.device, quick: bool, minutes: float) -> Measured:
    """All series, and the exponents of each."""
    # In a process that has measured nothing else: what that has freed would hide what the loop takes.
    over_time = steady_figures(fake, device, minutes)
    figures: list[Figure] = []
    bars: list[Bar] = []
    all_series = series.all_series(device, quick=quick)
    for one in all_series:
        found = points(one, quick)
        figures += found
        bars += exponents(one, found)
    bars += steady_bars(over_time)
    starts = ", ".join(f"{one.start:,} {one.name}" for one in all_series)
    notes = [
        f"{RUNS} runs in turns of all ways of a series and amount, {LONG_RUNS} of the largest; the median stands here.",
        f"Exponents are fitted from {starts} on.",
        f"The steady loop: {minutes:g} minutes, a tensor of 1 MiB and 100 of 256 bytes, {steady.IN_FLIGHT} in flight.",
    ]
    return Measured([*figures, *over_time], bars, notes)


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


def steady_bars(over_time: list[Figure]) -> list[Bar]:
    """What the long loop holds is to stay what it is, and no event is to be made."""
    bars = []
    for case, most in DRIFT.items():
        seconds, held = axes(over_time, case)
        bars.append(Bar(case, exponent(seconds, held), "at most", STEADY, "exponent"))
        bars.append(Bar(f"{case}, last less first", held[-1] - held[0], "at most", most, "bytes"))
    created = max(axes(over_time, "steady, events created")[1])
    return [*bars, Bar("steady, events created", created, "at most", 0, "")]


def axes(figures: list[Figure], case: str) -> tuple[list[float], list[float]]:
    """The amounts and the values of a case."""
    chosen = [figure for figure in figures if figure.case == case]
    return [float(figure.name) for figure in chosen], [figure.value for figure in chosen]


def steady_figures(fake: ModuleType, device: torch.device, minutes: float) -> list[Figure]:
    """The samples of the long loop; the name of a figure is the second."""
    found = []
    for sample in steady.samples(fake, device, 60 * minutes):
        at = f"{sample.seconds:.3f}"
        found += [
            Figure("steady, transfers a second", at, sample.transfers_a_second, ""),
            Figure("steady, resident", at, sample.resident, "bytes"),
            Figure("steady, page-locked", at, sample.page_locked, "bytes"),
            Figure("steady, events created", at, sample.events_created, ""),
        ]
    return found


if __name__ == "__main__":
    sys.exit(main())
