"""The CUDA kernel, run on the fake accelerator's streams: the whole way of a tree, from the plan to the arrays.

All that is CUDA's is registered for the fake accelerator, over a runtime that asks this one: its entries (driver.cu),
its host half and its kernel. The tests of the fake's own packer run over it too.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_array, copy_stream, torchs_answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_on_cpu.layouts import CASTS
from kernel_on_cpu.library import Kernels
from layouts import Case, cases
from test_packing import (  # noqa: F401
    KIB,
    LARGEST,
    LINE,
    MIB,
    NOT_PACKED,
    assert_right,
    leaves,
    test_a_tree_that_aliases,
    test_an_array_of_another_order_is_not_packed_into,
    test_arrays_that_are_given_are_packed_into,
    test_each_device_packs_its_own,
    test_one_launch_packs_the_small_leaves,
    test_one_small_leaf_is_a_plain_copy,
    test_without_an_address_for_the_device_leaves_are_copied,
)

import torch_np_bridge as tnb
from torch_np_bridge.dtypes import NUMPY_DTYPES

DTYPES = sorted(NUMPY_DTYPES, key=str)


@pytest.fixture
def cuda(cuda_entries: Kernels) -> Kernels:
    """What CUDA's entries and the kernel ask, and are answered."""
    return cuda_entries


@pytest.fixture(autouse=True)
def packer(cuda: Kernels, fake: ModuleType) -> ModuleType:
    """The fake accelerator with the kernel as its packer."""
    return fake


def small_and_large(value: float, device: str = "fake") -> list[torch.Tensor]:
    """A tree with leaves for the kernel, dense and strided, and one that is copied beside them."""
    base = torch.full((40, 50), value, device=device)
    return [base, base[::2, 5:], base.t(), base[0, 0], torch.full((LARGEST,), value, device=device)]


def assert_all(arrays: Any, value: Any) -> None:
    assert all((array == value).all() for array in arrays)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_trees_are_torchs_answer(native_bridge: tnb.Bridge, cuda: Kernels, data: st.DataObject) -> None:
    drawn: list[Case] = data.draw(st.lists(st.sampled_from(DTYPES).flatmap(cases), min_size=2, max_size=20))
    cuda.driver.seed = data.draw(st.integers(0, 2**32 - 1))
    sources = [case.build("fake") for case in drawn]
    for arrays in (native_bridge.to_numpy(sources), native_bridge.to_numpy_async(sources).result()):
        assert_right(arrays, sources)


@pytest.mark.parametrize("device", ["fake:0", "fake:1"])
def test_casts_are_torchs(native_bridge: tnb.Bridge, packer: ModuleType, device: str) -> None:
    """Every pair that the kernel has, in one tree and one launch for each dtype of the arrays."""
    for wanted in sorted({destination for _, destination in CASTS}):
        dtype = getattr(torch, wanted)
        kinds = [getattr(torch, source) for source, destination in CASTS if destination == wanted]
        values = [torch.arange(100).remainder(2 if kind == torch.bool else 60).to(kind) for kind in kinds]
        tensors = [view for value in values for view in (value.to(device), value.view(10, 10).to(device)[::3, 1:8])]
        packer.reset_counters()
        arrays = native_bridge.to_numpy(tensors, dtype=NUMPY_DTYPES[dtype])
        assert (packer.counters(int(device[-1])).launches, packer.counters().copies_d2d) == (1, 0)
        for array, tensor in zip(arrays, tensors, strict=True):
            assert_same_array(array, torchs_answer(tensor, dtype))


def test_a_cast_from_an_odd_address_is_torchs(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    """A device cannot load an item there; the others of the tree go as ever."""
    memory = torch.zeros(80, dtype=torch.uint8, device="fake")
    odd = torch.empty(0, dtype=torch.float64, device="fake").set_(memory.untyped_storage()[1:73], 0, (9,), (1,))
    odd.copy_(torch.arange(9))
    tensors = [odd, *(torch.arange(9.0, dtype=torch.float64).to("fake") for _ in range(2))]
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors, dtype=np.float32)
    assert (packer.counters().launches, packer.counters().copies_d2h) == (1, 1)
    assert_all(arrays, np.arange(9.0))
    packer.reset_counters()
    assert_all(native_bridge.to_numpy(tensors), np.arange(9.0))  # as they are, bytes will do
    assert (packer.counters().launches, packer.counters().copies_d2h) == (1, 0)


def test_one_large_dense_leaf_is_no_kernels(native_bridge: tnb.Bridge, packer: ModuleType, cuda: Kernels) -> None:
    """One copy by the device's engine, which needs no processor; alone, and between small ones."""
    large = leaves(3_000_000)
    for tensors, launches in ((large, 0), ([*large, *large], 0), ([*leaves(7, 8), *large], 1)):
        packer.reset_counters()
        before = cuda.driver.launches
        arrays = native_bridge.to_numpy(tensors)
        assert packer.counters().launches == cuda.driver.launches - before == launches
        assert packer.counters().copies_d2h == sum(tensor.numel() > LARGEST for tensor in tensors)
        assert_right(arrays, tensors)


@pytest.mark.parametrize("what", [name for name in NOT_PACKED if name != "of a type that it declines"])
def test_what_is_not_packed_goes_beside_it(native_bridge: tnb.Bridge, packer: ModuleType, what: str) -> None:
    tensors = [*leaves(5, 6), NOT_PACKED[what](), *leaves(7)]
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors)
    assert (packer.counters().launches, packer.counters().copies_d2h) == (1, 1)
    assert_right(arrays, tensors)


@pytest.mark.parametrize(("version", "launches"), [(13000, 2), (12010, 2), (12000, 7)])
def test_a_thousand_leaves(
    native_bridge: tnb.Bridge, packer: ModuleType, cuda: Kernels, version: int, launches: int
) -> None:
    """At most two launches and one event that tells of their end, where the driver takes large arguments."""
    cuda.driver.version = version
    tensors = [torch.arange(index, index + 20).to("fake") for index in range(1000)]
    native_bridge.to_numpy(tensors)
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors)
    counted = packer.counters()
    assert (counted.launches, counted.copies_d2h, counted.copies_d2d) == (launches, 0, 0)
    # Beside that of the end, one of where the producer is.
    assert (counted.event_records, counted.event_waits, counted.event_creates) == (2, 1, 0)
    assert_right(arrays, tensors)


@pytest.mark.parametrize("device", ["fake:0", "fake:1"])
def test_a_tree_waits_for_its_producer(
    native_bridge: tnb.Bridge, packer: ModuleType, cuda: Kernels, device: str
) -> None:
    tensors = small_and_large(0, device)
    torch.accelerator.synchronize(device)
    with packer.hold(torch.accelerator.current_stream(device)):
        tensors[0].add_(3)
        tensors[-1].add_(3)
        transfer = native_bridge.to_numpy_async(tensors)
        assert not transfer.done()
    assert_all(transfer.result(), 3)
    assert cuda.driver.launches == 1


def test_no_array_is_reachable_before_the_kernel_has_run(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    """Until then its memory is poisoned."""
    out = [native_bridge.empty(2000, np.float32) for _ in range(2)]
    tensors = [torch.full((2000,), value, device="fake") for value in (1.0, 2.0)]
    torch.accelerator.synchronize()
    with packer.hold():
        torch.zeros(1, device="fake")
        transfer = native_bridge.to_numpy_async(tensors, out=out)
        assert not transfer.done()
        assert all((array.view(np.uint8) == 0xA5).all() for array in out)
    transfer.result()
    assert_all([out[0], out[1] - 1], 1)


def test_sources_and_blocks_live_until_the_kernel_has_run(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    native_bridge.to_numpy(small_and_large(0))
    torch.accelerator.synchronize()
    before = packer.counters().device_bytes_live
    with packer.hold():
        transfers = [native_bridge.to_numpy_async(small_and_large(value)) for value in (5, 6)]
        native_bridge.to_numpy_async(small_and_large(7))  # dropped at once
        for _ in range(20):
            small_and_large(-1)  # takes what was freed too early
        assert packer.counters().device_bytes_live > before
    for value, transfer in zip((5, 6), transfers, strict=True):
        assert_all(transfer.result(), value)
    del transfer, transfers
    torch.accelerator.synchronize()
    native_bridge.to_numpy(torch.zeros(1, device="fake"))  # a submit sweeps what has landed
    assert packer.counters().device_bytes_live == before


def test_a_loop_is_steady(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    tensors = [*small_and_large(1), *leaves(*range(1, 200))]
    for _ in range(4):
        native_bridge.to_numpy(tensors)
    packer.reset_counters()
    allocations = native_bridge.stats().allocations
    for turn in range(20):
        (native_bridge.to_numpy if turn % 2 else lambda tree: native_bridge.to_numpy_async(tree).result())(tensors)
    counted = packer.counters()
    assert (counted.host_allocations, counted.device_allocations, counted.event_creates) == (0, 0, 0)
    assert (counted.event_records, counted.event_waits, counted.launches) == (40, 20, 20)
    assert (counted.copies_synchronous, counted.stream_synchronizes, counted.device_synchronizes) == (0, 0, 0)
    assert native_bridge.stats().allocations == allocations


# Blocks that are packed on the device and brought over by one copy each.

STAGED_FROM, TURN = 512 * KIB, 8 * MIB  # as csrc/cuda/tuning.h and csrc/packing.cpp have them


@pytest.mark.parametrize(
    ("sizes", "launches", "copies"),
    [
        ([STAGED_FROM // 64] * 64, 1, 1),
        ([STAGED_FROM // 64 - LINE] * 64, 1, 0),
        ([STAGED_FROM // 64] * 65, 1, 1),  # the last of them goes across the bus, in the same launch
        ([16 * KIB] * 64 + [40] * 10, 1, 1),
        ([LARGEST] * (TURN // LARGEST), 1, 2),
        ([LARGEST] * (TURN // LARGEST + 64), 2, 3),
        ([LARGEST] * 64 + [LARGEST + 4] + [LARGEST // 2] * 64, 1, 3),  # the one between is a copy by itself
    ],
)
@pytest.mark.parametrize("device", ["fake:0", "fake:1"])
def test_a_block_of_many_bytes_is_packed_on_the_device(
    native_bridge: tnb.Bridge, packer: ModuleType, device: str, sizes: list[int], launches: int, copies: int
) -> None:
    tensors = [tensor.to(device) for tensor in leaves(*(size // 4 for size in sizes))]
    index = int(device[-1])
    for _ in range(2):
        packer.reset_counters()
        arrays = native_bridge.to_numpy(tensors)
        counted = packer.counters(index)
        assert (counted.launches, counted.copies_d2h, counted.event_records) == (launches, copies, 2)
        assert_right(arrays, tensors)


def test_what_is_not_packed_lies_between_what_is(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    """Its own copy comes behind that of its block."""
    tensors: list[Any] = leaves(*[4096] * 60)
    tensors[30] = torch.full((2048,), 1j, device="fake").conj()
    tensors[31] = torch._neg_view(tensors[31])
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors)
    assert (packer.counters().launches, packer.counters().copies_d2h) == (1, 3)
    assert_right(arrays, tensors)


def test_casts_and_strides_are_packed_there_too(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    halves = [torch.arange(16384.0).to("fake", torch.float16).view(128, 128)[:, ::2] for _ in range(40)]
    packer.reset_counters()
    arrays = native_bridge.to_numpy(halves, dtype=np.float32)
    assert (packer.counters().launches, packer.counters().copies_d2h) == (1, 1)
    for array, half in zip(arrays, halves, strict=True):
        assert_same_array(array, torchs_answer(half, torch.float32))


def test_memory_of_the_device_is_the_copies_own(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    """What it was packed in is nobody else's before it has been brought over."""
    tensors = leaves(*[4096] * 64)
    with packer.hold(copy_stream(native_bridge, tensors[0])):
        transfer = native_bridge.to_numpy_async(tensors)
        others = [torch.full((64 * 4096,), 7, dtype=torch.int32, device="fake") for _ in range(4)]
        torch.accelerator.current_stream().synchronize()
    assert_right(transfer.result(), tensors)
    assert all((other == 7).all() for other in others)
