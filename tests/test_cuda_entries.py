"""What the engine makes of the answers of CUDA's entries: kernels that are off, and where page-locked memory is."""

from __future__ import annotations

from types import ModuleType

import fake_driver
import pytest
from kernel_on_cpu.library import MANAGED_MEMORY, Kernels
from test_packing import assert_right
from test_packing_kernel import assert_all, small_and_large

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

NO_KERNELS = {
    35: "there is no driver for the CUDA toolkit that compiled them",
    36: "the driver is too old for a call that they need",
    209: "they were compiled for other GPUs",
    222: "the driver is too old to compile them for this GPU",
}


@pytest.mark.parametrize("code", NO_KERNELS)
def test_an_answer_that_turns_kernels_off(
    native_bridge: tnb.Bridge, fake: ModuleType, cuda_entries: Kernels, code: int
) -> None:
    """Said once and for each device; nothing else changes."""
    tensors = small_and_large(4)
    cuda_entries.driver.fail("launch", code)
    fake.reset_counters()
    for turn in range(3):
        arrays = native_bridge.to_numpy(tensors)
        assert_right(arrays, tensors)
        assert cuda_entries.driver.called()["launch"] == 1, turn  # it is not asked again
    assert (fake.counters().launches, fake.last_error()) == (0, None)
    kernels = tnb.engine_info().kernels
    assert f"; not used on fake:0: {NO_KERNELS[code]}" in kernels
    assert "fake:1" not in kernels
    cuda_entries.driver.fail("launch", 0)
    other = small_and_large(4, "fake:1")
    assert_right(native_bridge.to_numpy(other), other)
    assert cuda_entries.driver.launches == 1
    fake_driver.register_cuda()
    assert "not used" not in tnb.engine_info().kernels


def test_another_answer_is_an_error(native_bridge: tnb.Bridge, cuda_entries: Kernels) -> None:
    cuda_entries.driver.fail("launch", 719)
    with pytest.raises(RuntimeError, match="pack 4 tensors of fake:0 for the host, got status 719"):
        native_bridge.to_numpy(small_and_large(4))
    cuda_entries.driver.fail("launch", 0)
    assert_all(native_bridge.to_numpy(small_and_large(4)), 4)
    assert "not used" not in tnb.engine_info().kernels


PAGES = ("lock_pages", "allocate_pages")


@pytest.mark.parametrize("refused", [(), PAGES[:1], PAGES])
def test_page_locked_memory_comes_from_where_it_can_be_had(
    native: EngineChoice, fake: ModuleType, cuda_entries: Kernels, refused: tuple[str, ...]
) -> None:
    """Pages of ours, locked in place; else the driver's; else those of torch's host allocator."""
    fake_driver.register_cuda(without=frozenset())
    fake.empty_host_cache()
    for call in refused:
        cuda_entries.driver.fail(call, 801)
    tensors = small_and_large(9)
    with tnb.Bridge(engine=native, pinned_limit="64MiB") as bridge:
        arrays = [bridge.to_numpy(tensors) for _ in range(3)]
        for held in arrays:
            assert_all(held, 9)
        assert bridge.stats().unpooled_leaves == 0
        called = cuda_entries.driver.called()
        assert called.get("allocate_pages", 0) == (0, 3, 1)[len(refused)]
        assert called["kind_of_pointer"] >= 1
        held_bytes = bridge.stats().limit_held_bytes
        assert held_bytes == bridge.stats().held_bytes > 0
        del arrays, held
        bridge.trim()
        assert bridge.stats().limit_held_bytes == 0
    assert fake.last_error() is None


@pytest.mark.parametrize("refused", [(), PAGES])
def test_managed_memory_is_no_page_locked_memory(
    native: EngineChoice, fake: ModuleType, cuda_entries: Kernels, refused: tuple[str, ...]
) -> None:
    """Under confidential computing: ordinary arrays, and a sentence that says why."""
    fake_driver.register_cuda(without=frozenset())
    cuda_entries.driver.pointer_kind = MANAGED_MEMORY
    for call in refused:
        cuda_entries.driver.fail(call, 801)
    tensors = small_and_large(9)
    locked = fake.counters().locked_pages_bytes
    with tnb.Bridge(engine=native, pinned_limit="64MiB") as bridge:
        for _ in range(2):
            assert_right(bridge.to_numpy_async(tensors).result(), tensors)
            assert_right(bridge.to_numpy(tensors), tensors)
        assert bridge.stats().unpooled_leaves == 4 * len(tensors)
        assert (bridge.stats().limit_held_bytes, fake.counters().locked_pages_bytes) == (0, locked)
        assert "; fake has no page-locked memory: " in bridge.engine_info().reason
    fake_driver.register_cuda()
    assert "page-locked" not in tnb.engine_info().reason
