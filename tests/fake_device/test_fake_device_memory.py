"""Device memory, page-locked memory, and what becomes of them when they are freed."""

import ctypes

import pytest
import torch

import fake_device

from .handles import stream_handle

POISON = 0xDB


def read_later(address: int, size: int) -> torch.Tensor:
    """A copy of device memory by address, as a kernel that outlived its tensor would read it."""
    library = ctypes.CDLL(str(fake_device.library_path()))
    host = torch.zeros(size, dtype=torch.uint8).pin_memory()
    stream = torch.accelerator.current_stream()
    copied = library.fake_copy_to_host(
        ctypes.c_void_p(host.data_ptr()), ctypes.c_void_p(address), size, stream_handle(stream)
    )
    assert copied == 0
    stream.synchronize()
    return host


def test_freed_memory_is_poisoned_in_stream_order() -> None:
    x = torch.full((512,), 7, dtype=torch.uint8, device="fake")
    address = x.data_ptr()
    torch.accelerator.synchronize()
    side = torch.Stream("fake")
    with fake_device.hold():
        del x
        with side:
            assert read_later(address, 512).eq(7).all()
    assert read_later(address, 512).eq(POISON).all()


def test_new_memory_is_poisoned_too() -> None:
    assert torch.empty(4096 + 512, dtype=torch.uint8, device="fake").cpu().eq(POISON).all()


def test_a_block_goes_only_to_the_stream_that_it_came_from() -> None:
    size = 513 * 1024
    x = torch.empty(size, dtype=torch.uint8, device="fake")
    address = x.data_ptr()
    del x
    with torch.Stream("fake"):
        assert torch.empty(size, dtype=torch.uint8, device="fake").data_ptr() != address
    assert torch.empty(size, dtype=torch.uint8, device="fake").data_ptr() == address


def test_record_stream_keeps_the_bytes_until_the_stream_has_passed() -> None:
    x = torch.full((512,), 7, dtype=torch.uint8, device="fake")
    address = x.data_ptr()
    side = torch.Stream("fake")
    torch.accelerator.synchronize()
    with fake_device.hold(side):
        x.record_stream(side)
        del x
        assert read_later(address, 512).eq(7).all()
    side.synchronize()
    assert read_later(address, 512).eq(POISON).all()


def test_foreign_memory_is_poisoned_at_once_and_unknown_to_record_stream() -> None:
    x = fake_device.foreign_tensor(torch.full((512,), 7, dtype=torch.uint8))
    address = x.data_ptr()
    side = torch.Stream("fake")
    assert read_later(address, 512).eq(7).all()
    with fake_device.hold(), fake_device.hold(side):
        x.record_stream(side)
        del x
        with torch.Stream("fake"):
            assert read_later(address, 512).eq(POISON).all()


def test_a_loop_allocates_nothing_after_its_first_turn() -> None:
    def turn() -> None:
        y = torch.ones(3000, device="fake") * 2
        y.cpu()

    turn()
    before = fake_device.counters(0)
    for _ in range(5):
        turn()
    after = fake_device.counters(0)
    assert after.device_allocations == before.device_allocations
    assert after.device_requests > before.device_requests
    assert after.device_bytes_live == before.device_bytes_live


def test_running_out_of_memory_is_torchs_error() -> None:
    with pytest.raises(torch.OutOfMemoryError, match="fake:1 is out of memory"):
        torch.empty(1 << 36, dtype=torch.uint8, device="fake:1")


def test_emptying_the_cache_gives_blocks_to_every_stream() -> None:
    size = 700 * 1024
    address = torch.empty(size, dtype=torch.uint8, device="fake").data_ptr()
    torch.accelerator.empty_cache()
    with torch.Stream("fake"):
        assert torch.empty(size, dtype=torch.uint8, device="fake").data_ptr() == address


def test_pinned_memory_is_the_devices_own_and_rounded() -> None:
    before = fake_device.counters()
    x = torch.empty(5_000_001, dtype=torch.uint8).pin_memory()
    after = fake_device.counters()
    assert x.is_pinned()
    assert not torch.empty(1).is_pinned()
    assert after.host_allocations == before.host_allocations + 1
    assert after.host_bytes_live - before.host_bytes_live == 8_388_608


def test_the_rounding_of_pinned_memory_can_be_switched_off() -> None:
    fake_device.set_host_memory(powers_of_two=False)
    before = fake_device.counters().host_bytes_live
    x = torch.empty(5_000_003, dtype=torch.uint8).pin_memory()
    assert x.is_pinned()
    assert fake_device.counters().host_bytes_live - before == 5_000_003


def test_emptying_the_host_cache_frees_what_is_idle() -> None:
    x = torch.empty(1 << 20, dtype=torch.uint8).pin_memory()
    del x
    before = fake_device.counters()
    fake_device.empty_host_cache()
    after = fake_device.counters()
    assert after.host_frees > before.host_frees
    assert after.host_bytes_live < before.host_bytes_live


def test_pages_locked_in_place_count_as_pinned_until_unlocked() -> None:
    pages = torch.zeros(8192, dtype=torch.uint8)
    fake_device.lock_pages(pages.data_ptr(), 8192)
    assert pages.is_pinned()
    assert fake_device.counters().locked_pages_bytes == 8192
    with pytest.raises(RuntimeError, match="lock_pages failed"):
        fake_device.lock_pages(pages.data_ptr() + 4096, 4096)
    assert "expected pages that are not locked yet" in str(fake_device.last_error())
    fake_device.unlock_pages(pages.data_ptr(), 8192)
    assert not pages.is_pinned()
    with pytest.raises(RuntimeError, match="unlock_pages failed"):
        fake_device.unlock_pages(pages.data_ptr(), 8192)
    assert "locked in place" in str(fake_device.last_error())


def test_a_last_error_is_reported_by_the_next_launch() -> None:
    x = torch.zeros(1, device="fake")
    with pytest.raises(RuntimeError):
        fake_device.unlock_pages(12345, 1)
    with pytest.raises(RuntimeError, match="the error that an earlier call left"):
        x.add_(1)
    x.add_(1)
    assert x.item() == 1
