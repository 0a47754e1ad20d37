"""A fake accelerator for tests: the torch device type "fake", asynchronous and as strict as CUDA is.

Importing this package builds the device if need be and registers it. `FAKE_DEVICES` in the environment, or
`configure()` before the first use, sets how many devices there are (two by default, eight at most). README.md says
what it models.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.backend_registration import rename_privateuse1_backend

from . import device_module
from .build import library_path
from .control import (
    Failure,
    Latch,
    call_names,
    clear_failures,
    compute,
    configure,
    empty_host_cache,
    fail,
    foreign_tensor,
    hold,
    hold_copies,
    last_error,
    lock_pages,
    restore_defaults,
    set_copy_cost,
    set_host_memory,
    set_queue_limit,
    unlock_pages,
    without,
)
from .graph_capture import Capture, capture, capture_mode, capture_status, current_capture_mode
from .measure import Counters, counters, reset_counters

__all__ = [
    "SIMULATED",
    "Capture",
    "Counters",
    "Failure",
    "Latch",
    "bench_controls",
    "call_names",
    "capture",
    "capture_mode",
    "capture_status",
    "clear_failures",
    "compute",
    "configure",
    "counters",
    "current_capture_mode",
    "empty_host_cache",
    "fail",
    "foreign_tensor",
    "hold",
    "hold_copies",
    "last_error",
    "library_path",
    "lock_pages",
    "prepare_demo",
    "reset_counters",
    "restore_defaults",
    "set_copy_cost",
    "set_host_memory",
    "set_queue_limit",
    "unlock_pages",
    "without",
]

# What the package's commands ask a module that they load: nothing that they show is the speed of any hardware.
SIMULATED = True


def prepare_demo() -> Callable[[torch.Tensor], None]:
    """Makes copies take time, and with what it returns, called for each batch of features, computing too."""
    set_copy_cost(bandwidth=40e6, latency=20e-6)
    return lambda features: compute(features, 0.006)


def bench_controls() -> Any:
    """What `bench` may do to the device. It is the package's protocol, so the package is imported only for it."""
    from .benching import FakeControls, give_driver

    give_driver()
    return FakeControls()


rename_privateuse1_backend("fake")
torch._register_device_module("fake", device_module)

if _devices := os.environ.get("FAKE_DEVICES"):
    if not _devices.isdecimal():
        raise ValueError(f"expected FAKE_DEVICES to be a number of devices from 1 to 8, got {_devices!r}")
    configure(devices=int(_devices))
