"""Contract 8: what is page-locked never exceeds the limit, and beyond it results are right, in ordinary memory."""

from __future__ import annotations

import gc
import random
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import Array, assert_same_array, hold, torchs_answer, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

MIB = 1 << 20
CHUNK, RING = 4 * MIB, 16 * MIB  # of the staged route
LIMITS = [0, MIB, 8 * MIB, RING, 24 * MIB, 2 * RING, 40 * MIB, 70_000_000]


def live(fake: ModuleType) -> int:
    """Page-locked bytes as the driver counts them."""
    counted = fake.counters()
    return int(counted.host_bytes_live + counted.locked_pages_bytes)


def page_locked(array: Array) -> bool:
    return torch.from_numpy(array).is_pinned()


def numbers(mib: float) -> torch.Tensor:
    """So much device memory, with values that tell where they belong."""
    return torch.arange(int(mib * MIB) // 4, dtype=torch.int32, device="fake")


@pytest.fixture
def quiet(native: EngineChoice, fake: ModuleType, host_pages: str) -> ModuleType:
    """The fake accelerator, for both kinds of page-locked memory, and without any that an earlier test has left."""
    gc.collect()
    assert torch.empty(1).pin_memory().is_pinned()  # torch looks at a device type only once it was used for pinning
    for _ in range(3):  # the next time the device has let go of what was freed the last time
        with tnb.Bridge(engine=native) as bridge:
            bridge.to_numpy(torch.ones(1, device="fake"))
        for index in range(2):
            torch.accelerator.synchronize(index)
    return fake


@pytest.mark.parametrize("limit", LIMITS)
def test_what_is_held_never_exceeds_the_limit(native: EngineChoice, quiet: ModuleType, limit: int) -> None:
    """Sizes at random, some results kept: rounding, idle slabs and the staging ring count."""
    dice = random.Random(limit)
    source = numbers(20)
    base = live(quiet)
    kept: list[tuple[Array, int]] = []
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        for _ in range(40):
            count = min(int(dice.lognormvariate(11, 2.5)) + 1, source.numel())
            begin = dice.randrange(source.numel() - count + 1)
            tree = [source[begin : begin + count], source[begin : begin + 1000]]
            asynchronous = dice.random() < 0.5
            result = bridge.to_numpy_async(tree).result() if asynchronous else bridge.to_numpy(tree)
            kept += [(array, begin) for array in result if dice.random() < 0.5]
            del result
            stats = bridge.stats()
            assert live(quiet) - base <= stats.held_bytes <= limit
            assert stats.limit_held_bytes == stats.held_bytes
            assert (stats.limit_bytes, stats.leased_bytes <= stats.held_bytes) == (limit, True)
            while len(kept) > 12:
                kept.pop(dice.randrange(len(kept)))
    assert all(array[0] == begin and array[-1] == begin + len(array) - 1 for array, begin in kept)


@pytest.mark.parametrize("limit", [0, 3 * MIB, 2 * RING])
def test_beyond_the_limit_results_are_right_and_ordinary(native: EngineChoice, quiet: ModuleType, limit: int) -> None:
    tree = [numbers(20), numbers(17).view(-1, 64).t(), numbers(40)[::2]]
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        for turn, blocking in enumerate((True, False)):
            arrays = bridge.to_numpy(tree) if blocking else bridge.to_numpy_async(tree).result()
            for array, tensor in zip(arrays, tree, strict=True):
                assert_same_array(array, torchs_answer(tensor))
                assert not page_locked(array)
                assert type(array.base).__name__ != "BlockOwner"
                array[...] = 0
            assert bridge.stats().unpooled_leaves == 3 * (turn + 1)
            assert bridge.stats().copied_bytes == 0


def test_small_leaves_go_on_being_page_locked(native: EngineChoice, quiet: ModuleType) -> None:
    with tnb.Bridge(engine=native, pinned_limit=2 * RING) as bridge:
        small, large, third = bridge.to_numpy([numbers(1), numbers(20), numbers(2)])
        assert [page_locked(array) for array in (small, large, third)] == [True, False, True]
        assert bridge.stats().unpooled_leaves == 1
        assert bridge.stats().copied_bytes == 3 * MIB


@pytest.mark.parametrize("engine", ["python", "native"], indirect=True)
@pytest.mark.parametrize("limit", [0, "3MiB", 1 << 62])
def test_every_limit_gives_the_same_answer(engine: EngineChoice, device: str, limit: int | str) -> None:
    tree = {"a": torch.arange(2_000_000.0, device=device), "b": torch.ones(4, 6, device=device)[:, ::2]}
    with tnb.Bridge(engine=engine, pinned_limit=limit) as bridge:
        for result in (bridge.to_numpy(tree), bridge.to_numpy_async(tree).result()):
            for name, tensor in tree.items():
                assert_same_array(result[name], torchs_answer(tensor))


@pytest.mark.parametrize(
    ("limit", "ring"),
    [(0, 0), (RING - 1, 0), (RING, RING), (2 * RING - 1, RING), (2 * RING, RING), (100 * MIB, RING)],
)
def test_the_ring_is_part_of_the_limit(native: EngineChoice, quiet: ModuleType, limit: int, ring: int) -> None:
    """Below one ring copies are plain and synchronous; one ring is enough for a tensor of any size."""
    source = numbers(max(18, limit // MIB + 1))
    chunks = -(-source.nbytes // CHUNK)
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        quiet.reset_counters()
        array = bridge.to_numpy_async(source).result()
        counted = quiet.counters()
        assert bridge.stats().held_bytes == ring
        assert (counted.copies_d2h, counted.copies_synchronous) == ((chunks, 0) if ring else (1, 1))
        assert (array == np.arange(source.numel())).all()


def test_arrays_leave_room_for_the_ring(native: EngineChoice, quiet: ModuleType) -> None:
    """However many arrays are kept: what comes beyond the limit does not become synchronous."""
    source = numbers(3)
    with tnb.Bridge(engine=native, pinned_limit=50 * MIB) as bridge:
        kept = [bridge.to_numpy(source) for _ in range(30)]
        assert bridge.stats().unpooled_leaves > 0
        quiet.reset_counters()
        kept.append(bridge.to_numpy_async(source).result())
        assert not page_locked(kept[-1])
        assert quiet.counters().copies_synchronous == 0
        assert sum(map(page_locked, kept)) >= 5


def test_rounding_counts(native: EngineChoice, quiet: ModuleType, host_pages: str) -> None:
    """The host allocator makes 16 MiB of 9 MiB: that is more than the limit. Our own pages are not rounded so."""
    with tnb.Bridge(engine=native, pinned_limit=12 * MIB) as bridge:
        array = bridge.to_numpy(numbers(9))
        assert page_locked(array) == (host_pages == "own")
        del array
        bridge.trim()
        assert page_locked(bridge.to_numpy(numbers(7)))


@pytest.mark.parametrize("host_pages", ["own"], indirect=True)
@pytest.mark.parametrize("mib", [1, 1.01, 1.3, 2.1, 5.01, 17.6, 40])
def test_of_pages_of_our_own_at_most_an_eighth_is_wasted(native: EngineChoice, quiet: ModuleType, mib: float) -> None:
    """Where torch's own pinned memory doubles: pytorch#95823, pytorch#150517."""
    with tnb.Bridge(engine=native) as bridge:
        source = numbers(mib)
        array = bridge.to_numpy(source)
        assert page_locked(array)
        assert source.nbytes <= bridge.stats().held_bytes <= source.nbytes * 1.125


def test_idle_memory_makes_room(native: EngineChoice, quiet: ModuleType) -> None:
    base = live(quiet)
    with tnb.Bridge(engine=native, pinned_limit=8 * MIB) as bridge:
        several = bridge.to_numpy([numbers(1.5) for _ in range(4)])
        assert page_locked(several[0])
        del several
        torch.accelerator.synchronize()  # the device has let go of it
        array = bridge.to_numpy(numbers(8))
        if not page_locked(array):  # the memory was given back in that call, the next one may use it
            array = bridge.to_numpy(numbers(8))
        assert page_locked(array)
        assert live(quiet) - base == 8 * MIB


@pytest.mark.parametrize("limit", [MIB, RING, 3 * RING])
def test_trim_gives_everything_back(native: EngineChoice, quiet: ModuleType, limit: int) -> None:
    base = live(quiet)
    bridge = tnb.Bridge(engine=native, pinned_limit=limit)
    arrays = [bridge.to_numpy_async(numbers(mib)).result() for mib in (0.1, 0.6, 20, 60)]
    assert live(quiet) > base
    bridge.trim()
    assert page_locked(arrays[0])
    assert (arrays[0] == np.arange(len(arrays[0]))).all()
    held = bridge.stats().held_bytes
    assert 0 < held < limit + 1
    assert live(quiet) - base == held
    del arrays
    bridge.trim()
    assert (bridge.stats().held_bytes, bridge.stats().leased_bytes, bridge.stats().slabs) == (0, 0, 0)
    assert live(quiet) == base
    assert page_locked(bridge.to_numpy(numbers(0.1)))
    bridge.close()
    assert live(quiet) == base


def test_trim_gives_what_torch_caches_back(native_bridge: tnb.Bridge, quiet: ModuleType) -> None:
    """Which nothing else does: pytorch#169160."""
    native_bridge.to_numpy(numbers(0.1))
    base = live(quiet)
    torch.ones(1000).pin_memory()
    assert live(quiet) > base
    native_bridge.trim()
    assert live(quiet) < base


def test_trim_reaches_the_memory_of_bridges_that_are_gone(native: EngineChoice, quiet: ModuleType) -> None:
    """Whoever trims, also a Bridge that has none of its own yet."""
    base = live(quiet)
    bridge = tnb.Bridge(engine=native)
    array = bridge.to_numpy(numbers(1))
    bridge.close()
    del bridge
    assert live(quiet) > base
    del array
    torch.accelerator.synchronize()
    other = tnb.Bridge(engine=native)

    def given_back() -> bool:
        other.trim()
        return live(quiet) == base

    wait_until(given_back)


def test_memory_that_the_allocator_keeps_stays_counted(native: EngineChoice, quiet: ModuleType) -> None:
    """Torch's host allocator keeps freed memory until the streams that copied to it have come past that point."""
    with tnb.Bridge(engine=native, pinned_limit=RING) as bridge, tnb.Bridge(engine=native) as other:
        first, second = numbers(16), torch.ones(4 * MIB, device="fake:1")
        other.to_numpy([first[:10], second[:10]])
        base = live(quiet)
        bridge.to_numpy(first)
        with hold("fake"):
            other.to_numpy_async(first[:10])  # the copy stream waits for the producer now
            bridge.trim()
            array = bridge.to_numpy(second)
            assert live(quiet) - base <= bridge.stats().held_bytes <= RING
        assert (array == 1).all()

        def given_back() -> bool:
            bridge.trim()
            return bridge.stats().held_bytes == 0

        wait_until(given_back)
        assert live(quiet) <= base


@pytest.mark.parametrize("step", [0, 1])
def test_memory_that_the_driver_does_not_free_stays_counted(
    native: EngineChoice, quiet: ModuleType, host_pages: str, step: int
) -> None:
    """Torch's cache forgets what the driver refuses, which is held for good then; all else goes the next time."""
    base = live(quiet)
    with tnb.Bridge(engine=native, pinned_limit=RING) as bridge:
        bridge.to_numpy([numbers(1), numbers(3)])
        torch.accelerator.synchronize()
        with quiet.fail("unlock_pages" if host_pages == "own" else "host_free", after=step) as failure:
            bridge.trim()
        assert failure.delivered == 1
        assert bridge.stats().limit_held_bytes == bridge.stats().held_bytes == live(quiet) - base > 0
        bridge.trim()
        assert bridge.stats().limit_held_bytes == bridge.stats().held_bytes == live(quiet) - base
        assert page_locked(bridge.to_numpy(numbers(0.1)))


def test_a_bridge_with_a_limit_of_its_own(native: EngineChoice, quiet: ModuleType) -> None:
    with tnb.Bridge(engine=native, pinned_limit="4MiB") as own, tnb.Bridge(engine=native) as shared:
        assert own.stats().limit_bytes == own.engine_info().limit == 4 * MIB
        before = shared.stats().limit_held_bytes
        array = own.to_numpy(numbers(2))
        assert page_locked(array)
        assert shared.stats().limit_held_bytes == before
        assert shared.stats().held_bytes == 0
        assert own.stats().limit_held_bytes == own.stats().held_bytes > 0
