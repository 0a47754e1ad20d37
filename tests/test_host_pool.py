"""Contracts 7 and 9: a block is used again once the last array over it is gone, and not earlier."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

pytestmark = pytest.mark.usefixtures("host_pages")


def page_locked_bytes(fake: ModuleType) -> int:
    """As the driver counts them."""
    counted = fake.counters()
    return int(counted.host_bytes_live + counted.locked_pages_bytes)


def address(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> int:
    return array.ctypes.data


def test_a_block_comes_back_with_its_last_array(native_bridge: tnb.Bridge, accelerator: str) -> None:
    source = torch.ones(5000, device=accelerator)
    array = native_bridge.to_numpy(source)
    block = address(array)
    view = array[10:20]
    del array
    assert address(native_bridge.to_numpy(source)) != block
    del view
    assert block in [address(array) for array in native_bridge.to_numpy([source, source])]


def test_arrays_that_live_never_share_a_block(native_bridge: tnb.Bridge, accelerator: str) -> None:
    kept = [native_bridge.to_numpy(torch.full((300,), float(turn), device=accelerator)) for turn in range(50)]
    assert len({address(array) for array in kept}) == 50
    assert all((array == turn).all() for turn, array in enumerate(kept))


def test_a_steady_loop_allocates_nothing(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    batch = {"x": torch.ones(64, 32, device="fake"), "y": torch.ones(64, device="fake")}
    for _ in range(3):
        native_bridge.to_numpy(batch)
    fake.reset_counters()
    before = native_bridge.stats().allocations
    for _ in range(50):
        native_bridge.to_numpy(batch)
    assert native_bridge.stats().allocations == before
    assert (fake.counters().host_allocations, fake.counters().host_frees) == (0, 0)
    assert (fake.counters().device_allocations, fake.counters().event_creates) == (0, 0)


def test_a_steady_pipeline_allocates_nothing(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Two transfers in flight at any time, results dropped one turn later."""
    source = torch.ones(4096, device="fake")
    previous = native_bridge.to_numpy_async(source)
    result = None
    for turn in range(50):
        transfer = native_bridge.to_numpy_async(source)
        result = previous.result()
        previous = transfer
        if turn == 5:
            fake.reset_counters()
    assert result is not None
    assert (fake.counters().host_allocations, fake.counters().event_creates) == (0, 0)


def test_like_sizes_share_blocks(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Sizes within an eighth of each other are one class: 1000 shapes do not need 1000 blocks."""
    native_bridge.to_numpy(torch.ones(36_000, device="fake"))
    fake.reset_counters()
    for count in range(34_000, 36_000, 100):
        native_bridge.to_numpy(torch.ones(count, device="fake"))
    assert native_bridge.stats().allocations <= 3


def test_two_bridges_have_two_pools(native: EngineChoice, accelerator: str) -> None:
    source = torch.ones(5000, device=accelerator)
    with tnb.Bridge(engine=native) as first, tnb.Bridge(engine=native) as second:
        block = address(first.to_numpy(source))
        assert address(second.to_numpy(source)) != block
        assert address(first.to_numpy(source)) == block


def test_a_bridge_that_is_gone_gives_its_memory_back(native: EngineChoice, fake: ModuleType) -> None:
    source = torch.ones(300_000, device="fake")
    bridge = tnb.Bridge(engine=native)
    array = bridge.to_numpy(source)
    block = address(array)
    del bridge
    other = tnb.Bridge(engine=native)
    assert address(other.to_numpy(source)) != block
    del array
    other.to_numpy(torch.ones(10, device="fake"))  # a call that may free
    other.to_numpy(torch.ones(500_000, device="fake"))
    fake.empty_host_cache()
    before = page_locked_bytes(fake)
    del other

    def given_back() -> bool:
        tnb.Bridge(engine=native).to_numpy(torch.ones(10, device="fake"))
        fake.empty_host_cache()
        return page_locked_bytes(fake) < before - 300_000 * 4

    wait_until(given_back)
