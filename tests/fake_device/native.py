"""The compiled module, built and loaded on first import. Everything else in the package takes it from here."""

from typing import TYPE_CHECKING

import torch

__all__ = ["device_index", "fake"]

if TYPE_CHECKING:
    from . import _fake as fake
else:
    from .build import load

    fake = load()


def device_index(device: torch.device | str | int | None) -> int:
    """The index of a fake device; the current one for None and for a device without an index."""
    if device is None:
        return fake.current_device()
    if isinstance(device, int):
        return device
    device = torch.device(device)
    if device.type != "fake":
        raise ValueError(f"expected a fake device, got {device}")
    return fake.current_device() if device.index is None else device.index
