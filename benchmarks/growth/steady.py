"""One loop for a long time: what it holds, and how fast it goes, should be the same at its end as at its beginning.

On the simulated accelerator, at no cost per copy, for ``--minutes M``, 1 where nothing is said.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import MIB, Bar, Figure, Measured

from .fit import axes, exponent

SAMPLES, IN_FLIGHT = 60, 4
RESIDENT, PAGE_LOCKED = "steady, resident", "steady, page-locked"
CREATED, RATE = "steady, events created", "steady, transfers a second"
EXPONENT = 0.02  # of what is to stay as it is
# And its bytes: that exponent lets pass a growth by a twelfth from the first of 60 samples to the last. Some pages are
# the interpreter's and the heap's.
DRIFT = {RESIDENT: MIB, PAGE_LOCKED: 0}


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=1.0)
    options, sys.argv[1:] = parser.parse_known_args()
    fake, target = harness.simulated_accelerator()

    def measure(quick: bool) -> Measured:
        return measured(fake, target.device, 0.02 if quick else options.minutes)

    return harness.run(__file__, __doc__ or "", lambda: target, measure)


def measured(fake: ModuleType, device: torch.device, minutes: float) -> Measured:
    """The samples of the loop, and whether it is steady; the name of a figure is the second."""
    figures = []
    for sample in samples(fake, device, 60 * minutes):
        at = f"{sample.seconds:.3f}"
        figures += [
            Figure(RATE, at, sample.transfers_a_second, ""),
            Figure(RESIDENT, at, sample.resident, "bytes"),
            Figure(PAGE_LOCKED, at, sample.page_locked, "bytes"),
            Figure(CREATED, at, sample.events_created, ""),
        ]
    notes = [f"The steady loop: {minutes:g} minutes, a tensor of 1 MiB and 100 of 256 bytes, {IN_FLIGHT} in flight."]
    return Measured(figures, bars(figures), notes)


def bars(figures: list[Figure]) -> list[Bar]:
    """What the loop holds is to stay what it is, and no event is to be made."""
    found = []
    for case, most in DRIFT.items():
        seconds, held = axes(figures, case)
        found.append(Bar(case, exponent(seconds, held), "at most", EXPONENT, "exponent"))
        found.append(Bar(f"{case}, last less first", held[-1] - held[0], "at most", most, "bytes"))
    created = max(axes(figures, CREATED)[1])
    return [*found, Bar(CREATED, created, "at most", 0, "")]


@dataclass(frozen=True)
class Sample:
    """``seconds`` after the beginning."""

    seconds: float
    transfers_a_second: float
    resident: int
    page_locked: int
    events_created: int


def samples(fake: ModuleType, device: torch.device, seconds: float) -> list[Sample]:
    """A pipeline with some transfers in flight, for so long."""
    turn = pipeline(device)
    for _ in range(100):
        turn()
    fake.reset_counters()
    found = []
    begin = last = monotonic()
    for number in range(1, SAMPLES + 1):
        turns = 0
        while monotonic() - begin < seconds * number / SAMPLES:
            turn()
            turns += 1
        now = monotonic()
        created = fake.counters().event_creates
        rate = turns / (now - last)
        found.append(Sample(now - begin, rate, resident(), harness.page_locked_bytes(fake), created))
        last = now
    return found


def pipeline(device: torch.device) -> Callable[[], None]:
    """A turn submits one tree and takes the oldest one's arrays."""
    tree = {"large": torch.zeros(MIB, dtype=torch.uint8, device=device)}
    tree |= {f"small {index}": torch.zeros(64, device=device) for index in range(100)}
    flying: list[tnb.Transfer] = []

    def turn() -> Any:
        flying.append(tnb.to_numpy_async(tree))
        if len(flying) > IN_FLIGHT:
            flying.pop(0).result()

    return turn


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
