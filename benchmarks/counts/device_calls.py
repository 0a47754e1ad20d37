"""How often one transfer calls the device, in a loop that is warm: the simulated accelerator counts, exactly."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import harness
import torch

import torch_np_bridge as tnb

WARM, TURNS = 4, 20
# Of its counters those that no schedule of threads changes: how often one polls an event is not among them.
COUNTED = {
    "events created": "event_creates",
    "events recorded": "event_records",
    "waits of a stream": "event_waits",
    "events synchronised": "event_synchronizes",
    "streams synchronised": "stream_synchronizes",
    "devices synchronised": "device_synchronizes",
    "allocations on the device": "device_requests",
    "page-locked allocations": "host_allocations",
    "page-locked memory freed": "host_frees",
    "copies to the host": "copies_d2h",
    "copies on the device": "copies_d2d",
    "launches": "launches",
}


def counts(fake: ModuleType, device: torch.device) -> dict[str, dict[str, float]]:
    """Of each case, the calls of one transfer."""
    found = {}
    for name, (packer, transfer) in transfers(device).items():
        harness.set_packer(packer)
        for _ in range(WARM):
            transfer()
        torch.accelerator.synchronize()
        fake.reset_counters()
        for _ in range(TURNS):
            transfer()
        counted = fake.counters()
        found[f"{name}, calls of the device"] = {
            label: getattr(counted, counter) / TURNS for label, counter in COUNTED.items()
        }
    harness.set_packer(False)
    return found


def transfers(device: torch.device) -> dict[str, tuple[bool, Callable[[], Any]]]:
    """By name: whether the device has a packer, and the call with its wait."""
    one = torch.ones(16, device=device)
    strided = torch.ones(64, 64, device=device)[:, ::2]
    tree = {f"tensor {index}": torch.ones(64, device=device) for index in range(1000)}
    return {
        "one tensor": (False, lambda: tnb.to_numpy(one)),
        "one tensor, asynchronous": (False, lambda: tnb.to_numpy_async(one).result()),
        "one tensor, snapshot": (False, lambda: tnb.to_numpy_async(one, snapshot=True).result()),
        "one strided tensor": (False, lambda: tnb.to_numpy(strided)),
        "one tensor, cast": (False, lambda: tnb.to_numpy(one, dtype="float16")),
        "1,000 tensors, packed": (True, lambda: tnb.to_numpy(tree)),
        "1,000 tensors, one by one": (False, lambda: tnb.to_numpy(tree)),
    }
