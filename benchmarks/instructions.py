"""User-mode instructions of the calling thread, where the kernel and the machine count them."""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_SYSCALLS = {"x86_64": 298, "aarch64": 241}
_HARDWARE, _INSTRUCTIONS = 0, 1
_EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 5, 1 << 6
_ATTRIBUTE_BYTES = 112


class InstructionCounter:
    """Counts by ``perf_event_open``.

    Raises:
        OSError: nothing counts here: another system, not permitted, or a virtual machine without counters.
    """

    def __init__(self) -> None:
        number = _SYSCALLS.get(platform.machine()) if platform.system() == "Linux" else None
        if number is None:
            raise OSError(f"perf_event_open is not known on {platform.system()} {platform.machine()}")
        attribute = struct.pack(
            "=IIQQQQQ", _HARDWARE, _ATTRIBUTE_BYTES, _INSTRUCTIONS, 0, 0, 0, _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
        )
        buffer = ctypes.create_string_buffer(attribute, _ATTRIBUTE_BYTES)
        syscall = ctypes.CDLL(None, use_errno=True).syscall
        syscall.restype = ctypes.c_long
        this_thread, any_cpu, no_group, no_flags = 0, -1, -1, 0
        self._file = int(syscall(ctypes.c_long(number), buffer, this_thread, any_cpu, no_group, no_flags))
        if self._file < 0:
            error = ctypes.get_errno()
            raise OSError(error, f"perf_event_open: {os.strerror(error)}")

    def read(self) -> int:
        """Instructions since the counter was made."""
        return int(struct.unpack("=Q", os.read(self._file, 8))[0])

    def close(self) -> None:
        """Stop counting."""
        os.close(self._file)
