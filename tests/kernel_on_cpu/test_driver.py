"""CUDA's entries of csrc/device.h, over a runtime that answers what a test wants: each of them, each of its errors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from .library import HOST_MEMORY, MANAGED_MEMORY, Kernels

MEMORY = ctypes.create_string_buffer(64)
ADDRESS = ctypes.addressof(MEMORY)
NOT_SUPPORTED, CAPTURE_IMPLICIT, INVALID_DEVICE = 801, 906, 101

Entry = Callable[[Kernels], int]


def lock(kernels: Kernels) -> int:
    return int(kernels.library.tnb_cuda_lock_pages(ctypes.c_void_p(ADDRESS), ctypes.c_size_t(64)))


def unlock(kernels: Kernels) -> int:
    return int(kernels.library.tnb_cuda_unlock_pages(ctypes.c_void_p(ADDRESS), ctypes.c_size_t(64)))


def allocate(kernels: Kernels) -> int:
    address = ctypes.c_void_p(ADDRESS)
    return int(kernels.library.tnb_cuda_allocate_pages(ctypes.byref(address), ctypes.c_size_t(64)))


def free(kernels: Kernels) -> int:
    return int(kernels.library.tnb_cuda_free_pages(ctypes.c_void_p(ADDRESS)))


def is_page_locked(kernels: Kernels) -> int:
    locked = ctypes.c_int(-1)
    code = int(kernels.library.tnb_cuda_is_page_locked(ctypes.c_void_p(ADDRESS), ctypes.byref(locked)))
    assert locked.value == int(code == 0 and kernels.driver.pointer_kind == HOST_MEMORY)
    return code


def device_address(kernels: Kernels, device: int = 0) -> int:
    seen = ctypes.c_void_p()
    code = int(kernels.library.tnb_cuda_device_address(ctypes.c_void_p(ADDRESS), device, ctypes.byref(seen)))
    assert code != 0 or seen.value == ADDRESS
    return code


def copy(kernels: Kernels) -> int:
    addresses = [ctypes.c_void_p(ADDRESS), ctypes.c_void_p(ADDRESS)]
    return int(kernels.library.tnb_cuda_copy_to_host(*addresses, ctypes.c_size_t(64), None))


def exchange(kernels: Kernels) -> int:
    mode = ctypes.c_int(2)
    return int(kernels.library.tnb_cuda_exchange_capture_mode(ctypes.byref(mode)))


def is_capturing(kernels: Kernels) -> int:
    return capture_status(kernels)[0]


def capture_status(kernels: Kernels) -> tuple[int, int]:
    status = ctypes.c_int(0)
    code = int(kernels.library.tnb_cuda_stream_is_capturing(None, ctypes.byref(status)))
    return code, status.value


# With the calls of the runtime that it makes where all is well.
ENTRIES: dict[Entry, tuple[str, ...]] = {
    lock: ("lock_pages", "kind_of_pointer"),
    unlock: ("unlock_pages",),
    allocate: ("allocate_pages", "kind_of_pointer"),
    free: ("free_pages",),
    is_page_locked: ("kind_of_pointer",),
    device_address: ("current_device", "device_address"),
    copy: ("copy_to_host",),
    exchange: ("exchange_capture_mode",),
    is_capturing: ("stream_is_capturing",),
}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_an_entry_makes_these_calls(kernels: Kernels, entry: Entry) -> None:
    assert entry(kernels) == 0
    assert kernels.driver.called() == dict.fromkeys(ENTRIES[entry], 1)
    assert kernels.driver.errors_cleared == 0


@pytest.mark.parametrize(
    ("entry", "call"),
    [(entry, call) for entry, calls in ENTRIES.items() for call in calls],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_the_error_of_each_call_is_the_answer_and_is_cleared(kernels: Kernels, entry: Entry, call: str) -> None:
    """Whatever launches next would be told of it."""
    kernels.driver.fail(call, 46)
    assert entry(kernels) == 46
    assert kernels.driver.errors_cleared == 1


@pytest.mark.parametrize(("entry", "undone_by"), [(lock, "unlock_pages"), (allocate, "free_pages")])
@pytest.mark.parametrize("failing", ["managed", "unknown"])
def test_what_is_not_page_locked_is_given_back(kernels: Kernels, entry: Entry, undone_by: str, failing: str) -> None:
    """Managed memory, as under confidential computing; or nobody can tell."""
    if failing == "managed":
        kernels.driver.pointer_kind = MANAGED_MEMORY
    else:
        kernels.driver.fail("kind_of_pointer", 46)
    assert entry(kernels) == (NOT_SUPPORTED if failing == "managed" else 46)
    assert kernels.driver.called()[undone_by] == 1
    before = kernels.driver.errors_cleared
    kernels.driver.fail(undone_by, 4)
    assert entry(kernels) == (NOT_SUPPORTED if failing == "managed" else 46)
    assert kernels.driver.errors_cleared == 2 * before + 1


@pytest.mark.parametrize("kind", [0, 2, MANAGED_MEMORY])
def test_only_page_locked_memory_is(kernels: Kernels, kind: int) -> None:
    kernels.driver.pointer_kind = kind
    assert is_page_locked(kernels) == 0


def test_an_address_is_that_for_the_current_device(kernels: Kernels) -> None:
    assert device_address(kernels, device=1) == INVALID_DEVICE
    assert "device_address" not in kernels.driver.called()
    kernels.driver.device = 1
    assert device_address(kernels, device=1) == 0


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_capture_is_told(kernels: Kernels, status: int) -> None:
    kernels.driver.capture_status = status
    assert capture_status(kernels) == (0, status)


def test_a_default_stream_beside_a_capture_counts_as_captured(kernels: Kernels) -> None:
    """The driver answers that to ask would end the capture; work on the stream would, too."""
    kernels.driver.fail("stream_is_capturing", CAPTURE_IMPLICIT)
    assert capture_status(kernels) == (0, 1)
    assert kernels.driver.errors_cleared == 1


@pytest.mark.parametrize("code", [35, 36, 209, 222])
def test_no_kernels_is_a_sentence(kernels: Kernels, code: int) -> None:
    kernels.library.tnb_cuda_why_no_kernels.restype = ctypes.c_char_p
    why = kernels.library.tnb_cuda_why_no_kernels(code)
    assert b"; update it" in why or b"; build with" in why
    assert kernels.library.tnb_cuda_why_no_kernels(code + 1000) is None


@pytest.mark.parametrize("code", [0, 1, 2, 101, 700, 719])
def test_other_answers_do_not_turn_kernels_off(kernels: Kernels, code: int) -> None:
    kernels.library.tnb_cuda_why_no_kernels.restype = ctypes.c_char_p
    assert kernels.library.tnb_cuda_why_no_kernels(code) is None
