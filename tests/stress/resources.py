"""What the process holds: it has to be the same before and after any number of transfers."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from .device import Device, Simulated


class _MallocInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


def _malloc_bytes() -> int:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):  # another C library, or one before glibc 2.33
        return 0
    libc.mallinfo2.restype = _MallocInfo
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def resources(device: Device) -> dict[str, int]:
    """What is held, by what it is. The threads and descriptors of a GPU's driver are its own affair."""
    counted = device.held()
    if isinstance(device, Simulated):
        counted |= {
            "native_threads": len(os.listdir("/proc/self/task")),
            "file_descriptors": len(os.listdir("/proc/self/fd")),
        }
    return counted


def differences(before: Mapping[str, int], now: Mapping[str, int]) -> list[str]:
    """A sentence for each kind of which there is not as much as before."""
    return [f"expected {before[kind]} {kind} as before, got {now[kind]}" for kind in now if now[kind] != before[kind]]


@dataclass(frozen=True)
class Heap:
    """What the allocators have given out, caches and fragments of others included: flat, but not to the byte."""

    python_blocks: int
    malloc_bytes: int

    @classmethod
    def now(cls) -> Heap:
        gc.collect()
        return cls(sys.getallocatedblocks(), _malloc_bytes())
