"""What the rounds are run on: the devices, what holds their streams, what may go wrong there, and what is counted."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Protocol

import torch

# Failures after which everything can go on. What fails to be freed is lost on a real device too, and an error on a
# stream ends the context: those have tests of their own. The events are all there before the first round.
FAILURES = [
    "device_alloc",
    "host_alloc",
    "event_record",
    "event_block",
    "event_query",
    "copy_d2h",
    "copy_d2d",
    "launch",
]


class Device(Protocol):
    """A device type."""

    names: list[str]

    def hold(self, stream: torch.Stream) -> AbstractContextManager[object]:
        """What is submitted to a stream within the block is late."""

    def disturb(self, dice: random.Random) -> None:
        """Something is about to go wrong, where that can be arranged."""

    def slow_down(self, dice: random.Random) -> None:
        """Copies take another time from now on, where that can be arranged."""

    def calm(self) -> None:
        """Nothing of that kind from now on."""

    def held(self) -> dict[str, int]:
        """What is in use, by what it is: counted exactly, so that one more after all is done is a leak."""

    def events_created(self) -> int:
        """How many were, as far as that is known."""


class Simulated:
    """The fake accelerator."""

    def __init__(self) -> None:
        self.names = ["fake:0", "fake:1"]
        self._fake = import_module("fake_device")

    def hold(self, stream: torch.Stream) -> AbstractContextManager[object]:
        latch: AbstractContextManager[object] = self._fake.hold(stream)
        return latch

    def disturb(self, dice: random.Random) -> None:
        self._fake.fail(dice.choice(FAILURES), after=dice.randrange(20))

    def slow_down(self, dice: random.Random) -> None:
        self._fake.set_copy_cost(latency=dice.choice((0.0, 0.0, 2e-5, 2e-4)))

    def calm(self) -> None:
        self._fake.clear_failures()
        self._fake.set_copy_cost()

    def held(self) -> dict[str, int]:
        counted = self._fake.counters()
        return {
            "device_bytes": counted.device_bytes_live,
            "host_bytes": counted.host_bytes_live,
            "locked_pages_bytes": counted.locked_pages_bytes,
            "events": counted.event_creates - counted.event_destroys,
        }

    def events_created(self) -> int:
        created: int = self._fake.counters().event_creates
        return created


class Cuda:
    """GPUs. Nothing fails there when asked to, and only torch's own memory is counted exactly."""

    def __init__(self) -> None:
        self.names = [f"cuda:{index}" for index in range(min(2, torch.cuda.device_count()))]

    def hold(self, stream: torch.Stream) -> AbstractContextManager[object]:
        """For a while only: what allocates may wait for the device, and would wait for this thread."""
        with stream:
            torch.cuda._sleep(2_000_000)  # a millisecond or two
        return nullcontext()

    def disturb(self, dice: random.Random) -> None:
        """It cannot be arranged."""

    def slow_down(self, dice: random.Random) -> None:
        """It cannot be arranged."""

    def calm(self) -> None:
        """It always is."""

    def held(self) -> dict[str, int]:
        return {"device_bytes": sum(torch.cuda.memory_allocated(name) for name in self.names)}

    def events_created(self) -> int:
        return 0


DEVICES: dict[str, type[Simulated] | type[Cuda]] = {"fake": Simulated, "cuda": Cuda}
