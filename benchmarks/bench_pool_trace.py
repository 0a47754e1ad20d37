"""Sizes that are never the same twice: how often memory is used again, and how much is held.

A trace of tensors whose sizes are log-normal, of which a few are alive at any time, through the bridge and through
torch's own host allocator; and through a bridge whose limit is half of what the trace needs at once. On the simulated
accelerator, whose driver counts allocations and bytes, whoever asked for them. No time is measured.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.baselines import SideStream
from torch_np_bridge.cli.bench.results import MIB, Bar, Figure, Measured

SEED = 20
ALIVE = 16
MEDIAN_BYTES, SIGMA = 256 * 1024, 1.5
LARGEST = 64 * MIB
BRIDGE, TORCH = "torch_np_bridge", "torch's host allocator"
FREE, TIGHT = "no limit in the way", "limit: half of the most that is live"


@dataclass
class Counts:
    """What a trace took."""

    steps: int = 0
    served: int = 0  # with page-locked memory
    allocations: int = 0
    most_live: int = 0
    most_held: int = 0
    held_at_end: int = 0

    @property
    def hit_rate(self) -> float:
        """The part of the steps, in per cent, that were served without asking the driver for memory."""
        return 100 * (self.served - self.allocations) / self.steps


def main() -> int:
    """Count, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """The trace by every way."""
    steps = 100 if quick else 5000
    source = torch.arange(LARGEST // 8).to(device).view(torch.uint8)
    side_stream = SideStream(device)
    theirs = follow(fake, lambda tensor: side_stream([tensor])[0], source, steps)
    with tnb.Bridge(engine="native") as bridge:
        mine = follow(fake, bridge.to_numpy, source, steps)
    limit = mine.most_live // 2
    with tnb.Bridge(engine="native", pinned_limit=limit) as bridge:
        tight = follow(fake, bridge.to_numpy, source, steps, lambda: bridge.stats().unpooled_leaves)
    figures = [
        Figure(FREE, "the most that is live", mine.most_live, "bytes"),
        *of(FREE, BRIDGE, mine),
        *of(FREE, TORCH, theirs),
        Figure(TIGHT, "the limit", limit, "bytes"),
        *of(TIGHT, BRIDGE, tight),
        Figure(TIGHT, f"in ordinary memory, {BRIDGE}", 100 * (1 - tight.served / steps), "%"),
    ]
    bars = [
        Bar("hit rate beside torch's allocator", mine.hit_rate, "at least", theirs.hit_rate, "%"),
        Bar("the most held beside torch's allocator", mine.most_held, "at most", theirs.most_held, "bytes"),
        Bar("the most held under a limit", tight.most_held, "at most", limit, "bytes"),
    ]
    notes = [
        f"{steps} steps, seed {SEED}, {ALIVE} arrays alive; sizes log-normal with median {MEDIAN_BYTES // 1024} KiB "
        f"and sigma {SIGMA}, {LARGEST // MIB} MiB at most. A hit is a step that is served with page-locked memory and "
        "asks the driver for none."
    ]
    return Measured(figures, bars, notes)


def trace(steps: int) -> Iterator[tuple[int, int]]:
    """Size in bytes of each step, and which of the arrays alive it replaces; the same each time."""
    chance = random.Random(SEED)
    for _ in range(steps):
        size = math.ceil(chance.lognormvariate(math.log(MEDIAN_BYTES), SIGMA))
        yield min(size, LARGEST), chance.randrange(ALIVE)


def follow(
    fake: ModuleType,
    convert: Callable[[torch.Tensor], Any],
    source: torch.Tensor,
    steps: int,
    unserved: Callable[[], int] = lambda: 0,
) -> Counts:
    """What the trace takes by one way; a sample of each array is compared with what it has to be."""
    harness.without_page_locked_memory(fake)
    expected = source[:256].cpu().numpy()
    counts = Counts(steps=steps)
    alive: list[Any] = [None] * ALIVE
    for size, place in trace(steps):
        array = convert(source[:size])
        if array.nbytes != size or (array[:256] != expected[:size]).any():
            raise AssertionError("expected the source's bytes, got others")
        alive[place] = array
        counts.held_at_end = harness.page_locked_bytes(fake)
        counts.most_held = max(counts.most_held, counts.held_at_end)
        counts.most_live = max(counts.most_live, sum(array.nbytes for array in alive if array is not None))
    counts.allocations = fake.counters().host_allocations
    counts.served = steps - unserved()
    return counts


def of(case: str, name: str, counts: Counts) -> list[Figure]:
    """The figures of one way."""
    return [
        Figure(case, f"hit rate, {name}", counts.hit_rate, "%"),
        Figure(case, f"allocations, {name}", counts.allocations, ""),
        Figure(case, f"the most held, {name}", counts.most_held, "bytes"),
        Figure(case, f"held at the end, {name}", counts.held_at_end, "bytes"),
    ]


if __name__ == "__main__":
    sys.exit(main())
