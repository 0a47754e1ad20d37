"""How many page-locked bytes a loop with stable shapes holds, and what it allocates in each step.

Beside it the same loop over torch's own host allocator, as `.to("cpu", non_blocking=True)` uses it. Each step
converts one tree and keeps the arrays of the last two, so three sets of arrays are alive at once. The bytes are what
the driver has page-locked, where it can be asked, or what the bridge and torch say. No time is measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ....bridge import Bridge
from ..baselines import SideStream
from ..controls import Controls, Locked
from ..memory import release_page_locked
from ..results import MIB, Bar, Figure, Measured
from ..setting import Setting
from ..timing import equals

KEPT = 2
WASTE = 1.125
ALIGNMENT = 128
MINE, TORCH = "torch_np_bridge", "torch's host allocator"
RING_CASE = "the staging ring, beside the above"
Tensors = list[torch.Tensor]
Convert = Callable[[Tensors], Any]


@dataclass(frozen=True)
class Counts:
    """What a loop holds page-locked, in bytes, its largest piece, and what its steady steps ask of the driver."""

    held: int
    largest_allocation: int
    allocations: int
    events: int | None


def measure(setting: Setting) -> Measured:
    """The counts of every tree by both ways, and the ring that only transfers beyond the limit use."""
    steps = 5 if setting.quick else 200
    figures: list[Figure] = []
    bars: list[Bar] = []
    for case, make in trees(setting.quick).items():
        setting.say(case)
        found, judged = measure_tree(setting, case, [tensor.to(setting.device) for tensor in make()], steps)
        figures += found
        bars += judged
    figures.append(Figure(RING_CASE, f"page-locked, {MINE}", ring_bytes(setting), "bytes"))
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


def measure_tree(setting: Setting, case: str, tensors: Tensors, steps: int) -> tuple[list[Figure], list[Bar]]:
    """Both ways for one tree."""
    live = (KEPT + 1) * sum(tensor.nbytes for tensor in tensors)
    release_page_locked()
    with Bridge(engine="native") as bridge:
        mine = loop(setting.controls, bridge, bridge.to_numpy, tensors, steps)
    release_page_locked()
    theirs = loop(setting.controls, None, SideStream(setting.device), tensors, steps)
    most = int(WASTE * live) + ALIGNMENT * (KEPT + 1) * len(tensors) + mine.largest_allocation
    figures = [Figure(case, "live in arrays", live, "bytes")]
    for name, counts in {MINE: mine, TORCH: theirs}.items():
        figures += [
            Figure(case, f"page-locked, {name}", counts.held, "bytes"),
            Figure(case, f"page-locked / live, {name}", counts.held / live, "×"),
            Figure(case, f"largest allocation, {name}", counts.largest_allocation, "bytes"),
            Figure(case, f"allocations in {steps} steps, {name}", counts.allocations, ""),
        ]
        if counts.events is not None:
            figures.append(Figure(case, f"events created in {steps} steps, {name}", counts.events, ""))
    bars = [
        Bar(f"N8, page-locked, {case}", mine.held, "at most", most, "bytes"),
        Bar(f"N8, allocations, {case}", mine.allocations, "at most", 0, ""),
    ]
    if mine.events is not None:
        bars.append(Bar(f"N8, events created, {case}", mine.events, "at most", 0, ""))
    return figures, bars


def loop(controls: Controls, bridge: Bridge | None, convert: Convert, tensors: Tensors, steps: int) -> Counts:
    """The counts of so many steps in the steady state; the last arrays are compared.

    At first the tensors are converted one by one, in the order of the tree, so that each allocation is seen.
    """
    locked: Callable[[], Locked] = partial(controls.locked, bridge)
    nothing = locked().bytes
    kept: deque[Any] = deque(maxlen=KEPT)
    largest = 0

    def one(tensor: torch.Tensor) -> Any:
        nonlocal largest
        before = locked().bytes
        array = convert([tensor])
        largest = max(largest, locked().bytes - before)
        return array

    for _ in range(2 * KEPT):
        kept.append([one(tensor) for tensor in tensors])
    for _ in range(10):
        kept.append(convert(tensors))
    before = locked()
    for _ in range(steps):
        kept.append(convert(tensors))
    after = locked()
    equals([tensor.cpu().numpy() for tensor in tensors], MINE if bridge else TORCH)(kept[-1])
    events = None if after.events is None or before.events is None else after.events - before.events
    return Counts(after.bytes - nothing, largest, after.allocations - before.allocations, events)


def ring_bytes(setting: Setting) -> int:
    """What is page-locked for transfers that find no room under the limit."""
    release_page_locked()
    beyond = torch.ones(64 * MIB, dtype=torch.uint8).to(setting.device)
    with Bridge(engine="native", pinned_limit=32 * MIB) as bridge:
        bridge.to_numpy(beyond)
        if bridge.stats().unpooled_leaves != 1:
            raise RuntimeError(f"expected one leaf in ordinary memory, got {bridge.stats()}")
        return bridge.stats().held_bytes
