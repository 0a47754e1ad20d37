"""What people write by hand, done right: the ways that the bridge is measured against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


def cpu_numpy(tensors: Sequence[torch.Tensor]) -> list[Array]:
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

    def __call__(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """The arrays of the tensors, all of them on this device."""
        self._ready.record(torch.accelerator.current_stream(self._device))
        self._stream.wait_event(self._ready)
        with self._stream:
            copies = [tensor.detach().to("cpu", non_blocking=True) for tensor in tensors]
            self._copied.record(self._stream)
        self._copied.synchronize()
        return [copy.numpy() for copy in copies]


def in_tree(way: Any, tree: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """What ``way`` makes of the tensors of a dict, as a dict."""
    return dict(zip(tree, way(list(tree.values())), strict=True))
