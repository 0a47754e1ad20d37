"""What the process holds: it has to be the same before and after any number of transfers."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from dataclasses import dataclass, fields

import fake_device


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


@dataclass(frozen=True)
class Resources:
    """Counted exactly: one more after all is done is a leak."""

    device_bytes: int
    host_bytes: int
    locked_pages_bytes: int
    events: int
    native_threads: int
    file_descriptors: int

    @classmethod
    def now(cls) -> Resources:
        counted = fake_device.counters()
        return cls(
            device_bytes=counted.device_bytes_live,
            host_bytes=counted.host_bytes_live,
            locked_pages_bytes=counted.locked_pages_bytes,
            events=counted.event_creates - counted.event_destroys,
            native_threads=len(os.listdir("/proc/self/task")),
            file_descriptors=len(os.listdir("/proc/self/fd")),
        )

    def differences(self, before: Resources) -> list[str]:
        """A sentence for each kind of which there is not as much as before."""
        found = []
        for field in fields(self):
            was, is_now = getattr(before, field.name), getattr(self, field.name)
            if was != is_now:
                found.append(f"expected {was} {field.name} as before, got {is_now}")
        return found


@dataclass(frozen=True)
class Heap:
    """What the allocators have given out, caches and fragments of others included: flat, but not to the byte."""

    python_blocks: int
    malloc_bytes: int

    @classmethod
    def now(cls) -> Heap:
        gc.collect()
        return cls(sys.getallocatedblocks(), _malloc_bytes())
