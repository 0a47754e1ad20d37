"""How often one transfer calls the device, in a loop that is warm: the simulated accelerator counts, exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    for name, (driver, transfer) in transfers(device).items():
        driver()
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


def transfers(device: torch.device) -> dict[str, tuple[Callable[[], None], Callable[[], Any]]]:
    """By name: what gives the device its driver, and the call with its wait."""
    one_by_one, packed = partial(harness.set_packer, False), partial(harness.set_packer, True)
    one = torch.ones(16, device=device)
    strided = torch.ones(64, 64, device=device)[:, ::2]
    tree = {f"tensor {index}": torch.ones(64, device=device) for index in range(1000)}
    larger = {f"tensor {index}": torch.ones(4096, device=device) for index in range(1000)}
    block = dict(list(larger.items())[:64])
    return {
        "one tensor": (one_by_one, lambda: tnb.to_numpy(one)),
        "one tensor, asynchronous": (one_by_one, lambda: tnb.to_numpy_async(one).result()),
        "one tensor, snapshot": (one_by_one, lambda: tnb.to_numpy_async(one, snapshot=True).result()),
        "one strided tensor": (one_by_one, lambda: tnb.to_numpy(strided)),
        "one tensor, cast": (one_by_one, lambda: tnb.to_numpy(one, dtype="float16")),
        "1,000 tensors, packed": (packed, lambda: tnb.to_numpy(tree)),
        "1,000 tensors, one by one": (one_by_one, lambda: tnb.to_numpy(tree)),
        "64 tensors of 16 KiB, packed on the device": (harness.set_kernel, lambda: tnb.to_numpy(block)),
        "1,000 tensors of 16 KiB, packed on the device": (harness.set_kernel, lambda: tnb.to_numpy(larger)),
    }
