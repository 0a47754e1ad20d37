"""What the fake accelerator's driver can do for the native engine, registered as the device type's own functions."""

from __future__ import annotations

import ctypes

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


def register(*, own_pages: bool = False, packer: bool = False, without: frozenset[str] = frozenset()) -> None:
    """Registers all functions but `without`, and the locking of pages and the packer only where asked for.

    For what is submitted, and for pools that are made, from now on.
    """
    import fake_device  # builds it, where it is not: not before it is asked for

    library = ctypes.CDLL(str(fake_device.library_path()))
    names = set(_FUNCTIONS) - without - (frozenset() if own_pages else PAGES) - (frozenset() if packer else PACKER)
    addresses = {name: ctypes.cast(getattr(library, _FUNCTIONS[name]), ctypes.c_void_p).value for name in names}
    module = extension().module
    assert module is not None
    module.register_device("fake", addresses)
