"""What can be done to a device, and asked of it, beyond torch's generic interface.

A module that `--load` imports may bring its own, by a function `bench_controls()`, as the tests' simulated one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from ...bridge import Bridge
from ..target import Target

BUSY_SECONDS = 0.005  # far longer than what is timed meanwhile
SIDE = 2048  # of the matrices whose product occupies a device


@dataclass(frozen=True)
class Locked:
    """Page-locked memory: what is held, how often it was allocated so far, and how many events were made so far.

    ``events`` is ``None`` where nobody counts them.
    """

    bytes: int
    allocations: int
    events: int | None


class Controls(Protocol):
    """What the measurements ask for."""

    def busy(self) -> AbstractContextManager[None]:
        """The current stream has work to do that lasts longer than the block."""

    def compute(self, tensor: torch.Tensor, seconds: float) -> None:
        """Occupy the current stream of the tensor's device for about so long, and do not wait for it."""

    def slow_copies(self, *, seconds: float = 0.0, bandwidth: float | None = None) -> AbstractContextManager[None]:
        """Copies take so long in the block, and as long as so many bytes a second take, where that can be chosen."""

    def locked(self, bridge: Bridge | None) -> Locked:
        """What a bridge has page-locked, or torch's host allocator has; where a driver counts, whoever it was."""


class HardwareControls:
    """For any accelerator: products of matrices occupy it. Page-locked memory of torch's is counted on CUDA alone."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._one: torch.Tensor | None = None
        self._seconds = 0.0  # of a product

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Products on the current stream; the end of the block waits for them."""
        self._occupy(BUSY_SECONDS)
        done = torch.accelerator.current_stream(self._device).record_event()
        yield
        if done.query():
            raise RuntimeError(f"expected {self._device} to be busy for {BUSY_SECONDS} s, it was done before")
        done.synchronize()

    def compute(self, tensor: torch.Tensor, seconds: float) -> None:
        """Products, then the tensor is written, so that its copies come after them."""
        self._occupy(seconds)
        tensor.add_(1)

    def slow_copies(self, *, seconds: float = 0.0, bandwidth: float | None = None) -> AbstractContextManager[None]:
        """Copies take what they take."""
        return nullcontext()

    def locked(self, bridge: Bridge | None) -> Locked:
        """By the bridge's own account, or by torch's."""
        if bridge is not None:
            stats = bridge.stats()
            return Locked(stats.held_bytes, stats.allocations, None)
        if self._device.type != "cuda":
            return Locked(0, 0, None)
        counted = torch.cuda.host_memory_stats()
        return Locked(int(counted["allocated_bytes.current"]), int(counted["num_host_alloc"]), None)

    def _occupy(self, seconds: float) -> None:
        if self._one is None:
            self._one = torch.full((SIDE, SIDE), 1 / SIDE, device=self._device)
            self._seconds = self._time(self._one)
        for _ in range(max(1, round(seconds / self._seconds))):
            torch.mm(self._one, self._one)

    def _time(self, one: torch.Tensor) -> float:
        """Seconds of a product, by the device's own clock."""
        for count in (3, 20):  # the first ones choose a kernel and warm up
            start, end = (torch.Event(device=self._device, enable_timing=True) for _ in range(2))
            start.record()
            for _ in range(count):
                torch.mm(one, one)
            end.record()
            end.synchronize()
        return max(start.elapsed_time(end) / 1e3 / count, 1e-6)


def controls_of(target: Target) -> Controls:
    """Those of the module that brought the device, else those for hardware."""
    brought: Callable[[], Controls] | None = getattr(target.module, "bench_controls", None)
    if brought is not None and not target.is_cpu:
        return brought()
    return HardwareControls(target.device)
