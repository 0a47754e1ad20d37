"""The steps of the bridge, written by hand with torch in Python as well as they can be: what it is measured against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


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


def loop_with_one_event(tree: dict[str, torch.Tensor]) -> dict[str, Array]:
    """A dict of tensors of one device by torch alone: a copy each, into page-locked memory of torch's own, one event.

    What serving engines do by hand, on the current stream. Torch keeps the memory for the next call.
    """
    host = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tree.items()}
    copied = torch.Event(device=next(iter(tree.values())).device)
    copied.record()
    copied.synchronize()
    return {name: tensor.numpy() for name, tensor in host.items()}
