"""Memory, made alike for every run that needs fresh one."""

from __future__ import annotations

import ctypes
import gc
import mmap

import torch

from ...functions import trim


def fresh_memory(size: int) -> None:
    """Make so many bytes of the system's memory cheap to get, and none of them the process's own.

    What it freed before goes back to the system: a program that keeps everything it makes is never served with that,
    but its repetition would be. And a virtual machine gets memory from its own host at the first touch, may give it
    back when it is free for seconds, and takes ten times as long then as clearing does: whoever comes next would pay.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    for offset in range(0, size, mmap.PAGESIZE):
        memory[offset] = 1
    memory.close()


def release_page_locked() -> None:
    """Give back all that is idle, torch's own host allocator's cache included."""
    gc.collect()
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    trim()
