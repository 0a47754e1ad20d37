"""How many page-locked bytes a loop with stable shapes holds, and what it allocates in each step.

Beside it the same loop over torch's own host allocator, as `.to("cpu", non_blocking=True)` uses it. Each step
converts one tree and keeps the arrays of the last two, so three sets of arrays are alive at once. On the simulated
accelerator, whose driver counts: bytes are what it has page-locked, whoever asked for them. No time is measured.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
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
SMALLEST_SLAB = 1 << 20
BRIDGE, TORCH = "torch_np_bridge", "torch's host allocator"
RING_CASE = "the staging ring, beside the above"
Tensors = list[torch.Tensor]


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
        figures.append(Figure(case, "live in arrays", live, "bytes"))
        for name, (held, allocations, events) in {BRIDGE: mine, TORCH: theirs}.items():
            figures += [
                Figure(case, f"page-locked, {name}", held, "bytes"),
                Figure(case, f"page-locked / live, {name}", held / live, "×"),
                Figure(case, f"allocations in {steps} steps, {name}", allocations, ""),
                Figure(case, f"events created in {steps} steps, {name}", events, ""),
            ]
        held, allocations, events = mine
        bars += [
            Bar(f"N8, page-locked, {case}", held, "at most", most_held(tensors, live), "bytes"),
            Bar(f"N8, allocations, {case}", allocations, "at most", 0, ""),
            Bar(f"N8, events created, {case}", events, "at most", 0, ""),
        ]
    figures.append(Figure(RING_CASE, f"page-locked, {BRIDGE}", ring_bytes(fake, device), "bytes"))
    notes = [
        "The most that N8 allows: 1.125 × what is live, 128 bytes an array, and one slab, which is the power of two "
        "that holds the largest array, 1 MiB at least.",
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


def most_held(tensors: Tensors, live: int) -> int:
    """The most that may be held for arrays of these tensors."""
    slab = max(SMALLEST_SLAB, 1 << (max(tensor.nbytes for tensor in tensors) - 1).bit_length())
    return int(WASTE * live) + ALIGNMENT * (KEPT + 1) * len(tensors) + slab


def loop(fake: ModuleType, convert: Callable[[Tensors], Any], tensors: Tensors, steps: int) -> tuple[int, int, int]:
    """Page-locked bytes in the steady state, and host allocations and new events in so many steps of it."""
    harness.without_page_locked_memory(fake)
    kept: deque[Any] = deque(maxlen=KEPT)
    for _ in range(10):
        kept.append(convert(tensors))
    fake.reset_counters()
    for _ in range(steps):
        kept.append(convert(tensors))
    counted = fake.counters()
    return harness.page_locked_bytes(fake), counted.host_allocations, counted.event_creates


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
