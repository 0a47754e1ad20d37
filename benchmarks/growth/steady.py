"""One loop for a long time: what it holds, and how fast it goes, should be the same at its end as at its beginning."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import MIB

SAMPLES, IN_FLIGHT = 60, 4


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
