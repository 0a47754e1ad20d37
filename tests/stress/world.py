"""What the actors of a round share: bridges, sources, and a mailbox for what dies on another thread."""

from __future__ import annotations

import random
import threading
from collections import Counter, deque
from dataclasses import dataclass, field

import torch

import torch_np_bridge as tnb

from .device import Device
from .sources import HUGE, LARGE, SMALL, Expected, Source, random_source

STREAMS = 4  # a device, beside the default one: the fake's whole pool, our copy stream too
# Room for all; for the ring and for little else; for less than a ring; for nothing.
LIMITS: dict[str, int | str] = {"roomy": "64MiB", "ring": "33MiB", "tight": "2MiB", "none": 0}
COMPLAINTS = 20  # that are kept


@dataclass(frozen=True)
class Item:
    """Arrays that have to be what is expected, in the hands of whoever has the item."""

    result: tnb.Transfer | list[object]
    expected: list[Expected]
    way: str  # in which it was converted; after "changed" SourceMutatedError is an answer too


@dataclass
class World:
    """Shared by the threads of one round."""

    device: Device
    bridges: dict[str, tnb.Bridge]
    sources: list[Source]
    large: list[Source]
    huge: list[Source]
    streams: dict[int, list[torch.Stream]]
    mailbox: deque[Item] = field(default_factory=lambda: deque(maxlen=64))
    outcomes: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    wrong_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    def complain(self, text: str, wrong_bytes: int = 0) -> None:
        with self.lock:
            self.wrong_bytes += wrong_bytes
            if len(self.complaints) < COMPLAINTS:
                self.complaints.append(text)

    def total(self, outcomes: Counter[str]) -> None:
        with self.lock:
            self.outcomes += outcomes


def make_bridges() -> dict[str, tnb.Bridge]:
    return {name: tnb.Bridge(engine="native", pinned_limit=limit) for name, limit in LIMITS.items()}


def make_streams(device: Device) -> dict[int, list[torch.Stream]]:
    """The default stream of each device, and some of its pool."""
    return {
        index: [torch.accelerator.current_stream(index), *(torch.Stream(name) for _ in range(STREAMS))]
        for index, name in enumerate(device.names)
    }


def make_world(
    dice: random.Random, device: Device, bridges: dict[str, tnb.Bridge], streams: dict[int, list[torch.Stream]]
) -> World:
    world = World(
        device,
        bridges,
        [random_source(dice, dice.choice(SMALL), device.names) for _ in range(150)],
        [random_source(dice, dice.choice(LARGE), device.names) for _ in range(6)],
        [random_source(dice, HUGE, device.names)],
        streams,
    )
    for index in range(len(device.names)):
        torch.accelerator.synchronize(index)
    return world
