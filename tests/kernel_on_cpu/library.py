"""The kernels on the CPU, for Python: leaves of NumPy memory in, bytes and a report of every access out."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .build import library_path

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
PLANTED = ("no fault", "overlap", "gap", "read outside", "written outside", "misaligned store", "misaligned load")
HOST_MEMORY, MANAGED_MEMORY = 1, 3
CALLS = (
    "current_device", "driver_version", "launch", "stream_is_capturing", "exchange_capture_mode", "lock_pages",
    "unlock_pages", "allocate_pages", "free_pages", "kind_of_pointer", "device_address", "copy_to_host",
)  # fmt: skip
_TEXT_BYTES = 4096


class CLeaf(ctypes.Structure):
    """`tnb_pack_leaf` of csrc/cuda/pack.h."""

    _fields_ = (
        ("source", ctypes.c_void_p),
        ("destination", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("source_strides", ctypes.c_void_p),
        ("destination_strides", ctypes.c_void_p),
        ("rank", ctypes.c_int32),
        ("source_type", ctypes.c_int8),
        ("destination_type", ctypes.c_int8),
    )


class Driver(ctypes.Structure):
    """What the runtime in the place of CUDA's answers, and what it was asked; csrc/fake_runtime.h."""

    _fields_ = (
        ("device", ctypes.c_int32),
        ("version", ctypes.c_int32),
        ("pointer_kind", ctypes.c_int32),
        ("capture_status", ctypes.c_int32),
        ("errors", ctypes.c_int32 * len(CALLS)),
        ("launches_before_error", ctypes.c_int32),
        ("seed", ctypes.c_uint32),
        ("launches", ctypes.c_int32),
        ("errors_cleared", ctypes.c_int32),
        ("blocks", ctypes.c_uint32),
        ("threads", ctypes.c_uint32),
        ("argument_bytes", ctypes.c_uint32),
        ("calls", ctypes.c_int32 * len(CALLS)),
    )

    def fail(self, call: str, code: int) -> None:
        """Every such call answers `code` from now on; 0 for none."""
        self.errors[CALLS.index(call)] = code

    def called(self) -> dict[str, int]:
        """How often each call was made, without those that were not."""
        return {name: count for name, count in zip(CALLS, self.calls, strict=True) if count}


class _Range(ctypes.Structure):
    _fields_ = (("begin", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


class _Report(ctypes.Structure):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("text_bytes", ctypes.c_size_t),
        ("loads", ctypes.c_uint64 * 5),
        ("stores", ctypes.c_uint64 * 5),
        ("writers", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Leaf:
    """One leaf, by addresses; the types are values of c10::ScalarType, the items their bytes."""

    source: int
    destination: int
    sizes: Sequence[int]
    source_strides: Sequence[int]
    destination_strides: Sequence[int]
    types: tuple[int, int]
    items: tuple[int, int]


@dataclass(frozen=True)
class Report:
    """What one call did: its answer, what is wrong with its accesses, and how many there were by their bytes."""

    code: int
    faults: str
    loads: dict[int, int]
    stores: dict[int, int]
    writers: np.ndarray[Any, np.dtype[np.uint32]]  # of each byte of the destination: 0, or a thread of the grid and one


class Kernels:
    """The compiled library. One call at a time: the driver's answers belong to all."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.kernel_on_cpu_driver.restype = ctypes.POINTER(Driver)
        self.library.kernel_on_cpu_locate.restype = ctypes.c_uint64

    @property
    def driver(self) -> Driver:
        driver: Driver = self.library.kernel_on_cpu_driver().contents
        return driver

    def reset(self, **answers: int) -> Driver:
        """The driver as it is at first, but for these answers."""
        driver = self.driver
        ctypes.memset(ctypes.byref(driver), 0, ctypes.sizeof(driver))
        driver.version, driver.pointer_kind = 13000, HOST_MEMORY
        for name, value in answers.items():
            setattr(driver, name, value)
        return driver

    def packs(self, source_type: int, destination_type: int) -> bool:
        return bool(self.library.tnb_cuda_packs(source_type, destination_type))

    def pack(self, leaves: Sequence[Leaf], source: Bytes, destination: Bytes) -> Report:
        """Copies the leaves, all of which lie in the two arrays; each access is looked at."""
        described, kept = _describe(leaves)
        items = np.array([leaf.items for leaf in leaves], np.int32)
        report, text, writers = _new_report(destination)
        code = self.library.kernel_on_cpu_pack(
            described, ctypes.c_size_t(len(leaves)), ctypes.c_void_p(items.ctypes.data), _range(source),
            _range(destination), None, ctypes.byref(report),
        )  # fmt: skip
        del kept
        return _read(report, text, writers, code)

    def pack_unwatched(self, leaves: Sequence[Leaf], device: int = 0) -> int:
        """The same wherever they lie; the answer of `tnb_cuda_pack`."""
        described, kept = _describe(leaves)
        code: int = self.library.tnb_cuda_pack(described, ctypes.c_size_t(len(leaves)), device, None)
        del kept
        return code

    def pack_in_shape(self, leaves: Sequence[Leaf], blocks: int, threads: int) -> int:
        """The same in a grid of so many blocks and threads at most."""
        described, kept = _describe(leaves)
        code: int = self.library.tnb_cuda_pack_in_shape(
            described, ctypes.c_size_t(len(leaves)), 0, None, ctypes.c_uint(blocks), ctypes.c_uint(threads)
        )
        del kept
        return code

    def gather(self, leaf: Leaf, *, wide: bool) -> None:
        """Copies a leaf by the index arithmetic alone, item by item, without a kernel; `wide`: in 64 bits anyway."""
        described, kept = _describe([leaf])
        self.library.kernel_on_cpu_gather(described, ctypes.c_int64(leaf.items[0]), int(wide))
        del kept

    def locate(self, index: int, sizes: Sequence[int], strides: Sequence[int]) -> int:
        """Where the index arithmetic puts an item, in 64 bits, innermost dimension first."""
        numbers = [np.array(values, np.uint64) for values in (sizes, strides)]
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in numbers]
        located: int = self.library.kernel_on_cpu_locate(ctypes.c_uint64(index), len(sizes), *addresses)
        return located

    def planted(self, fault: str, source: Bytes, destination: Bytes) -> Report:
        """A kernel with that fault copies all 16-byte units but the last, which it has no business with."""
        report, text, writers = _new_report(destination)
        self.library.kernel_on_cpu_planted(
            PLANTED.index(fault), _range(source), _range(destination), ctypes.byref(report)
        )
        return _read(report, text, writers, 0)


@cache
def kernels(*, sanitized: bool = False, toolkit: int | None = None) -> Kernels:
    """The library of this process, as compiled by a toolkit of that version."""
    return Kernels(library_path(sanitized=sanitized, toolkit=toolkit))


@cache
def connected_kernels() -> Kernels:
    """A library of its own, for whose runtime a simulated accelerator is to answer."""
    path = library_path()
    with tempfile.TemporaryDirectory() as folder:
        return Kernels(Path(shutil.copy(path, folder)))


def _describe(leaves: Sequence[Leaf]) -> tuple[Any, list[Any]]:
    """An array of `tnb_pack_leaf`, and what has to live as long."""
    kept = [
        tuple(np.array(numbers, np.int64) for numbers in (leaf.sizes, leaf.source_strides, leaf.destination_strides))
        for leaf in leaves
    ]
    described = [
        CLeaf(leaf.source, leaf.destination, *(numbers.ctypes.data for numbers in arrays), len(leaf.sizes), *leaf.types)
        for leaf, arrays in zip(leaves, kept, strict=True)
    ]
    return (CLeaf * len(leaves))(*described), kept


def _range(memory: Bytes) -> _Range:
    return _Range(memory.ctypes.data, memory.nbytes)


def _new_report(destination: Bytes) -> tuple[_Report, Any, Any]:
    text = ctypes.create_string_buffer(_TEXT_BYTES)
    writers = np.zeros(destination.nbytes, np.uint32)
    report = _Report(ctypes.cast(text, ctypes.c_char_p), _TEXT_BYTES)
    report.writers = writers.ctypes.data
    return report, text, writers


def _read(report: _Report, text: Any, writers: Any, code: int) -> Report:
    widths = (1, 2, 4, 8, 16)
    loads, stores = (dict(zip(widths, counts, strict=True)) for counts in (report.loads, report.stores))
    return Report(code, text.value.decode(), loads, stores, writers)
