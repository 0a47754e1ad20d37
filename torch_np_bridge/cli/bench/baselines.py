"""What people write by hand, done right: the ways that the bridge is measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
Arrays = list[Array]

BRIDGE = "to_numpy"
CPU_NUMPY = ".detach().cpu().numpy()"
NUMPY = ".numpy()"
ONE_LINER = "non_blocking, side stream"
PINNED_LOOP = "bare pinned copies, the limit"
BARE_CPP = "a bare pinned copy in C++, the limit"


def cpu_numpy(tensors: Sequence[torch.Tensor]) -> Arrays:
    """The usual way: one blocking copy a tensor, into ordinary memory."""
    return [tensor.detach().cpu().numpy() for tensor in tensors]


class SideStream:
    """``.to("cpu", non_blocking=True)`` on a stream of its own, behind the producer's work, and one wait at the end.

    torch takes the destination from its page-locked host memory. The sources live until the wait is over, because the
    caller holds them. Stream and events are made once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.Stream(device=device)
        self._ready = torch.Event(device=device)
        self._copied = torch.Event(device=device)

    def __call__(self, tensors: Sequence[torch.Tensor]) -> Arrays:
        """The arrays of the tensors, all of them on this device."""
        self._ready.record(torch.accelerator.current_stream(self._device))
        self._stream.wait_event(self._ready)
        with self._stream:
            copies = [tensor.detach().to("cpu", non_blocking=True) for tensor in tensors]
            self._copied.record(self._stream)
        self._copied.synchronize()
        return [copy.numpy() for copy in copies]


class PinnedLoop:
    """The limit: the same tensors into page-locked memory that was made before, one event, no side stream.

    Nothing can be kept: the next call overwrites the arrays of this one.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        # Dense in the source's own order, or torch would wait for each copy.
        self._pairs = [
            (tensor, torch.empty_like(tensor, device="cpu", pin_memory=True, memory_format=torch.preserve_format))
            for tensor in tensors
        ]
        self._copied = torch.Event(device=tensors[0].device)
        self._arrays = [buffer.numpy() for _, buffer in self._pairs]

    def __call__(self) -> Arrays:
        """The same arrays each time, filled anew."""
        for tensor, buffer in self._pairs:
            buffer.copy_(tensor, non_blocking=True)
        self._copied.record()
        self._copied.synchronize()
        return self._arrays


class HandMadeTransfer:
    """One copy on its way into a page-locked buffer. Holds the source until it has ended."""

    __slots__ = ("_copied", "_give_back", "_source", "buffer")

    def __init__(
        self,
        source: torch.Tensor,
        buffer: torch.Tensor,
        copied: torch.Event,
        give_back: Callable[[torch.Tensor, torch.Event], None],
    ) -> None:
        self._source: torch.Tensor | None = source
        self.buffer = buffer
        self._copied = copied
        self._give_back = give_back

    def result(self) -> Array:
        """The array, after waiting; it shares the buffer and must not outlive ``release()``."""
        self._copied.synchronize()
        self._source = None
        return self.buffer.numpy()

    def release(self) -> None:
        """Let the buffer be used again. The caller promises that nobody has its array."""
        self._give_back(self.buffer, self._copied)


class HandMadeCopier:
    """Copies single tensors as the bridge does: side stream, page-locked buffers that are used again, events that are.

    In a steady loop it allocates nothing and creates no event. What the bridge does beside that, and this does not:
    arrays that give their buffer back when they die, a limit, any dtype and layout, a check that the source stayed as
    it was, other devices, other threads, and failure.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.Stream(device=device)
        self._ready = torch.Event(device=device)
        self._idle: dict[tuple[torch.Size, torch.dtype], list[tuple[torch.Tensor, torch.Event]]] = {}

    def submit(self, source: torch.Tensor) -> HandMadeTransfer:
        """Start the copy of a contiguous tensor of this device, behind its current stream's work."""
        idle = self._idle.get((source.shape, source.dtype))
        buffer, copied = idle.pop() if idle else self._new(source)
        self._ready.record(torch.accelerator.current_stream(self._device))
        self._stream.wait_event(self._ready)
        with self._stream:
            buffer.copy_(source, non_blocking=True)
        copied.record(self._stream)
        return HandMadeTransfer(source, buffer, copied, self._give_back)

    def _new(self, source: torch.Tensor) -> tuple[torch.Tensor, torch.Event]:
        return torch.empty(source.shape, dtype=source.dtype, pin_memory=True), torch.Event(device=self._device)

    def _give_back(self, buffer: torch.Tensor, copied: torch.Event) -> None:
        self._idle.setdefault((buffer.shape, buffer.dtype), []).append((buffer, copied))


def by_hand(tensors: Sequence[torch.Tensor]) -> dict[str, Callable[[], Arrays]]:
    """All that can be written by hand for a list of tensors of one accelerator."""
    side_stream = SideStream(tensors[0].device)
    return {
        CPU_NUMPY: lambda: cpu_numpy(tensors),
        ONE_LINER: lambda: side_stream(tensors),
        PINNED_LOOP: PinnedLoop(tensors),
    }


def in_dict(way: Callable[[], Arrays], tree: Mapping[str, torch.Tensor]) -> Callable[[], dict[str, Array]]:
    """The same way for a dict of the tensors."""
    return lambda: dict(zip(tree, way(), strict=True))


def alone(way: Callable[[], Arrays]) -> Callable[[], Array]:
    """The same way for a list of one."""
    return lambda: way()[0]
