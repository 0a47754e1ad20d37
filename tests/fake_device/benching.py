"""What `python -m torch_np_bridge bench` may do to the fake accelerator, and ask of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import torch

from torch_np_bridge import Bridge, engine_info
from torch_np_bridge.cli.bench.controls import Locked

from .control import compute, hold, set_copy_cost
from .measure import counters


class FakeControls:
    """Latches, costs and the driver's own counters."""

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Nothing on the current stream runs until the end of the block."""
        with hold():
            yield

    def compute(self, tensor: torch.Tensor, seconds: float) -> None:
        """Occupies the current stream for exactly so long."""
        compute(tensor, seconds)

    @contextmanager
    def slow_copies(self, *, seconds: float = 0.0, bandwidth: float | None = None) -> Iterator[None]:
        """What each copy costs in the block, and nothing after it."""
        set_copy_cost(latency=seconds, bandwidth=bandwidth)
        try:
            yield
        finally:
            set_copy_cost()

    def locked(self, bridge: Bridge | None) -> Locked:
        """What the driver has page-locked, whoever asked for it."""
        counted = counters()
        return Locked(
            int(counted.host_bytes_live + counted.locked_pages_bytes), counted.host_allocations, counted.event_creates
        )


def give_driver() -> None:
    """The device type has a driver with a packer from now on, as CUDA's has, where there is an engine for it."""
    if engine_info().engine == "native":
        import_module("fake_driver").register(packer=True)
