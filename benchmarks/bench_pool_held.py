"""How many page-locked bytes a loop with stable shapes holds, and what it allocates in each step.

Beside it the same loop over torch's own host allocator, as `.to("cpu", non_blocking=True)` uses it. Each step
converts one tree and keeps the arrays of the last two, so three sets of arrays are alive at once. On the simulated
accelerator, whose driver counts: bytes are what it has page-locked, whoever asked for them. No time is measured.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import harness
import torch
from harness import Bar, Figure, Measured

import torch_np_bridge as tnb
from torch_np_bridge.cli.baselines import SideStream

KEPT = 2
WASTE = 1.125
ALIGNMENT = 128
BRIDGE, TORCH = "torch_np_bridge", "torch's host allocator"
RING_CASE = "the staging ring, beside the above"
Tensors = list[torch.Tensor]


@dataclass(frozen=True)
class Counts:
    """What a loop holds page-locked, in bytes, its largest piece, and what its steady steps ask of the driver."""

    held: int
    largest_allocation: int
    allocations: int
    events: int


def main() -> int:
    """Count, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """The counts of every tree by both ways, and the ring that only transfers beyond the limit use."""
    steps = 5 if quick else 200
    figures: list[Figure] = []
    bars: list[Bar] = []
    for case, make in trees(quick).items():
        tensors = [tensor.to(device) for tensor in make()]
        live = (KEPT + 1) * sum(tensor.nbytes for tensor in tensors)
        with tnb.Bridge(engine="native") as bridge:
            mine = loop(fake, bridge.to_numpy, tensors, steps)
        theirs = loop(fake, SideStream(device), tensors, steps)
        most = int(WASTE * live) + ALIGNMENT * (KEPT + 1) * len(tensors) + mine.largest_allocation
        figures.append(Figure(case, "live in arrays", live, "bytes"))
        for name, counts in {BRIDGE: mine, TORCH: theirs}.items():
            figures += [
                Figure(case, f"page-locked, {name}", counts.held, "bytes"),
                Figure(case, f"page-locked / live, {name}", counts.held / live, "×"),
                Figure(case, f"largest allocation, {name}", counts.largest_allocation, "bytes"),
                Figure(case, f"allocations in {steps} steps, {name}", counts.allocations, ""),
                Figure(case, f"events created in {steps} steps, {name}", counts.events, ""),
            ]
        bars += [
            Bar(f"N8, page-locked, {case}", mine.held, "at most", most, "bytes"),
            Bar(f"N8, allocations, {case}", mine.allocations, "at most", 0, ""),
            Bar(f"N8, events created, {case}", mine.events, "at most", 0, ""),
        ]
    figures.append(Figure(RING_CASE, f"page-locked, {BRIDGE}", ring_bytes(fake, device), "bytes"))
    notes = [
        "The most that N8 allows: 1.125 × what is live, 128 bytes an array, and one slab, for which "
        "the largest that was allocated is taken.",
        "The ring is made when the limit is reached, and not before.",
    ]
    return Measured(figures, bars, notes)


def trees(quick: bool) -> dict[str, Callable[[], Tensors]]:
    """What is converted: shapes that a power of two does not fit, one large and many small."""
    rows = 8 if quick else 1000
    return {
        f"one of {5_000 * rows + 1:,} bytes": lambda: [torch.ones(5_000 * rows + 1, dtype=torch.uint8)],
        f"a batch of {rows}": lambda: [
            torch.ones(rows, 1000),
            torch.ones(rows, 768, dtype=torch.bfloat16).view(torch.int16),
            torch.ones(rows, dtype=torch.int64),
        ],
        f"{rows} of 64×64 float32": lambda: [torch.ones(64, 64) for _ in range(rows)],
        f"three of {9 * rows:,} KiB": lambda: [torch.ones(9 * rows * 256) for _ in range(3)],
    }


def loop(fake: ModuleType, convert: Callable[[Tensors], Any], tensors: Tensors, steps: int) -> Counts:
    """The counts of so many steps in the steady state.

    At first the tensors are converted one by one, in the order of the tree, so that each allocation is seen.
    """
    harness.without_page_locked_memory(fake)
    kept: deque[Any] = deque(maxlen=KEPT)
    largest = 0

    def one(tensor: torch.Tensor) -> Any:
        nonlocal largest
        before = harness.page_locked_bytes(fake)
        array = convert([tensor])
        largest = max(largest, harness.page_locked_bytes(fake) - before)
        return array

    for _ in range(2 * KEPT):
        kept.append([one(tensor) for tensor in tensors])
    for _ in range(10):
        kept.append(convert(tensors))
    fake.reset_counters()
    for _ in range(steps):
        kept.append(convert(tensors))
    counted = fake.counters()
    return Counts(harness.page_locked_bytes(fake), largest, counted.host_allocations, counted.event_creates)


def ring_bytes(fake: ModuleType, device: torch.device) -> int:
    """What is page-locked for transfers that find no room under the limit."""
    harness.without_page_locked_memory(fake)
    beyond = torch.ones(64 * harness.MIB, dtype=torch.uint8).to(device)
    with tnb.Bridge(engine="native", pinned_limit=32 * harness.MIB) as bridge:
        bridge.to_numpy(beyond)
        if bridge.stats().unpooled_leaves != 1:
            raise AssertionError(f"expected one leaf in ordinary memory, got {bridge.stats()}")
        return bridge.stats().held_bytes


if __name__ == "__main__":
    sys.exit(main())
