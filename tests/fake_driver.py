"""What the fake accelerator's driver can do for the native engine, registered as the device type's own functions."""

from __future__ import annotations

import ctypes

from kernel_on_cpu.library import Kernels, connected_kernels

from torch_np_bridge.engine import extension

_FUNCTIONS = {
    "stream_is_capturing": "fake_stream_is_capturing",
    "exchange_capture_mode": "fake_exchange_capture_mode",
    "lock_pages": "fake_lock_pages",
    "unlock_pages": "fake_unlock_pages",
    "copy_to_host": "fake_copy_to_host",
    "describe_error": "fake_describe_error",
    "clear_error": "fake_clear_last_error",
    "packs": "fake_packs",
    "pack": "fake_pack",
    "device_address": "fake_device_address",
}
PAGES = frozenset({"lock_pages", "unlock_pages"})
PACKER = frozenset({"packs", "pack", "device_address"})
# CUDA's own entries, and its kernel, over a runtime that asks the fake accelerator (tests/kernel_on_cpu).
_CUDA_FUNCTIONS = {
    "stream_is_capturing": "tnb_cuda_stream_is_capturing",
    "exchange_capture_mode": "tnb_cuda_exchange_capture_mode",
    "lock_pages": "tnb_cuda_lock_pages",
    "unlock_pages": "tnb_cuda_unlock_pages",
    "allocate_pages": "tnb_cuda_allocate_pages",
    "free_pages": "tnb_cuda_free_pages",
    "is_page_locked": "tnb_cuda_is_page_locked",
    "copy_to_host": "tnb_cuda_copy_to_host",
    "describe_error": "tnb_cuda_describe_error",
    "packs": "tnb_cuda_packs",
    "pack": "kernel_on_cpu_pack_on_accelerator",
    "stages": "tnb_cuda_stages",
    "pack_in_shape": "tnb_cuda_pack_in_shape",
    "why_no_kernels": "tnb_cuda_why_no_kernels",
    "device_address": "tnb_cuda_device_address",
}


def register(*, own_pages: bool = False, packer: bool = False, without: frozenset[str] = frozenset()) -> None:
    """Registers all functions but `without`, and the locking of pages and the packer only where asked for.

    For what is submitted, and for pools that are made, from now on.
    """
    import fake_device  # builds it, where it is not: not before it is asked for

    names = set(_FUNCTIONS) - without - (frozenset() if own_pages else PAGES) - (frozenset() if packer else PACKER)
    library = ctypes.CDLL(str(fake_device.library_path()))
    _register(library, {name: _FUNCTIONS[name] for name in names})


def register_cuda(*, without: frozenset[str] = frozenset({"lock_pages", "allocate_pages"})) -> Kernels:
    """Registers the entries that are CUDA's, but `without`; the kernel runs on the fake accelerator's streams."""
    import fake_device

    found = connected_kernels()
    assert found.library.kernel_on_cpu_connect(str(fake_device.library_path()).encode()) == 0
    found.reset()
    _register(found.library, {name: symbol for name, symbol in _CUDA_FUNCTIONS.items() if name not in without})
    return found


def _register(library: ctypes.CDLL, symbols: dict[str, str]) -> None:
    module = extension().module
    assert module is not None
    addresses = {name: ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value for name, symbol in symbols.items()}
    module.register_device("fake", addresses)
