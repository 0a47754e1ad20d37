"""Contracts 2, 7, 8 and 9 for trees: small leaves of like size share memory, and what one of them keeps is little."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Array, assert_same_array, torchs_answer

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

KIB, MIB = 1 << 10, 1 << 20
LINE, MOST, LARGEST = 128, 64, 64 * KIB  # as csrc/host_block.h and csrc/pack_plan.h have them


def leaves(*counts: int) -> list[torch.Tensor]:
    """Tensors of so many elements on the device; no value is in two of them."""
    ends = np.cumsum(counts)
    return [
        torch.arange(end - count, end, dtype=torch.int32).to("fake") for count, end in zip(counts, ends, strict=True)
    ]


def assert_right(arrays: Any, tensors: list[torch.Tensor]) -> None:
    for array, tensor in zip(arrays, tensors, strict=True):
        assert_same_array(array, torchs_answer(tensor))


def spans(arrays: list[Array]) -> list[tuple[int, int]]:
    """The lines of memory of each array, in the order of the addresses."""
    return sorted((array.ctypes.data, array.ctypes.data + -(-array.nbytes // LINE) * LINE) for array in arrays)


@pytest.mark.usefixtures("packing")
@pytest.mark.parametrize("seed", range(5))
def test_leaves_of_any_sizes_in_any_order(native_bridge: tnb.Bridge, fake: ModuleType, seed: int) -> None:
    dice = random.Random(seed)
    tensors = leaves(*(int(dice.lognormvariate(6, 3)) + 1 for _ in range(300)))
    order = list(range(300))
    for _ in range(3):
        arrays = native_bridge.to_numpy([tensors[index] for index in order])
        assert_right(arrays, [tensors[index] for index in order])
        assert all(start % LINE == 0 for start, _ in spans(arrays))
        assert all(end <= start for (_, end), (start, _) in zip(spans(arrays), spans(arrays)[1:], strict=False))
        dice.shuffle(order)
        for array in arrays:
            array[...] = -1


@pytest.mark.usefixtures("packing")
def test_a_tree_that_aliases(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Leaf by leaf what torch gives: the same values, in memory of its own each."""
    storage = torch.arange(200.0, device="fake")
    tensors = [storage, storage, storage[50:], storage[:100], storage.view(20, 10).t(), storage[::3], storage[0]]
    arrays = native_bridge.to_numpy(tensors)
    assert_right(arrays, tensors)
    for index, array in enumerate(arrays):
        before = [other.copy() for other in arrays]
        array += 1000
        assert all(
            (other == values).all() for other, values in zip(arrays, before, strict=True) if other is not array
        ), f"array {index} shares memory"


@pytest.mark.parametrize(("count", "kept"), [(1, LINE), (2, 2 * LINE), (64, 64 * LINE), (65, LINE), (128, 64 * LINE)])
def test_what_one_array_keeps_of_its_like(native_bridge: tnb.Bridge, fake: ModuleType, count: int, kept: int) -> None:
    """The last of so many scalars, beside leaves of other sizes."""
    arrays = native_bridge.to_numpy([*leaves(300_000, 100, 5000), *leaves(*[1] * count)])
    torch.accelerator.synchronize()
    assert native_bridge.stats().retained_bytes == 0
    scalar = arrays[-1]
    del arrays
    stats = native_bridge.stats()
    assert (stats.leased_bytes, stats.retained_bytes) == (kept, kept - LINE)
    del scalar
    assert (native_bridge.stats().leased_bytes, native_bridge.stats().retained_bytes) == (0, 0)


def test_views_and_copies_in_flight_count_as_users(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    tensors = leaves(*[100] * 4)
    with fake.hold():
        transfer = native_bridge.to_numpy_async(tensors)
        assert native_bridge.stats().retained_bytes == 0
    view = transfer.result()[1][10:20]
    assert native_bridge.stats().retained_bytes == 0
    del transfer
    assert (native_bridge.stats().leased_bytes, native_bridge.stats().retained_bytes) == (4 * 512, 3 * 512)
    del view
    assert native_bridge.stats().retained_bytes == 0


@pytest.mark.parametrize("count", [LARGEST // 4 + 1, 300_000])
def test_a_large_leaf_has_a_block_of_its_own(native_bridge: tnb.Bridge, fake: ModuleType, count: int) -> None:
    first, *others = native_bridge.to_numpy(leaves(*[count] * 3))
    del others
    assert native_bridge.stats().leased_bytes == -(-first.nbytes // LINE) * LINE
    assert native_bridge.stats().retained_bytes == 0


def test_a_fresh_leaf_has_memory_of_its_own(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    tensors = leaves(*[1] * 100, *[50] * 100)
    scalar = native_bridge.to_numpy(tensors, copy=True)[0]
    assert scalar == 0
    stats = native_bridge.stats()
    assert (stats.leased_bytes, stats.retained_bytes) == (LINE, 0)


def test_a_scalar_of_each_turn_is_kept(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """`losses.append(out["loss"])` keeps lines, not logits."""
    names = [f"statistic {index}" for index in range(100)]
    tree = {"logits": torch.ones(500_000, device="fake"), **{name: torch.ones(300, device="fake") for name in names}}
    native_bridge.to_numpy({**tree, "loss": torch.zeros((), device="fake")})
    held = native_bridge.stats().held_bytes
    losses = []
    for turn in range(1000):
        out = native_bridge.to_numpy({**tree, "loss": torch.tensor(float(turn)).to("fake")})
        losses.append(out["loss"])
    del out
    stats = native_bridge.stats()
    assert (stats.leased_bytes, stats.retained_bytes) == (1000 * LINE, 0)
    assert stats.held_bytes <= 2 * held
    assert losses == list(range(1000))


def test_one_of_a_large_group_is_kept_each_turn(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The most that can be kept: with each array 63 of its like."""
    tensors = leaves(*[64] * 100, 500_000)
    native_bridge.to_numpy(tensors)
    held = native_bridge.stats().held_bytes
    kept = [native_bridge.to_numpy(tensors)[0] for _ in range(1000)]
    stats = native_bridge.stats()
    group = MOST * 256
    assert (stats.leased_bytes, stats.retained_bytes) == (1000 * group, 1000 * (group - 256))
    assert stats.held_bytes <= 2 * held + 2 * 1000 * group
    assert all((array == range(64)).all() for array in kept)


@pytest.mark.usefixtures("packing")
@pytest.mark.parametrize("limit", [0, 100 * KIB, 3 * MIB])
def test_what_finds_no_page_locked_memory(native: EngineChoice, fake: ModuleType, limit: int) -> None:
    """Those leaves are staged, each in memory of its own; all arrays are right."""
    tensors = leaves(*[10_000] * 200, *[10] * 200)
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        for blocking in (True, False):
            before = bridge.stats()
            arrays = bridge.to_numpy(tensors) if blocking else bridge.to_numpy_async(tensors).result()
            assert_right(arrays, tensors)
            ordinary = [array for array in arrays if type(array.base).__name__ != "BlockOwner"]
            assert len(ordinary) == bridge.stats().unpooled_leaves - before.unpooled_leaves >= MOST
            assert bridge.stats().held_bytes <= limit
            assert len({id(array.base) for array in ordinary}) == len(ordinary)


def test_the_number_of_blocks(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """One array of each block keeps it, whichever that is: of 1000 tensors of 64 floats there are sixteen."""
    tensors = leaves(*[64] * 1000)
    arrays = native_bridge.to_numpy(tensors)
    blocks = 0
    while arrays:
        last = arrays.pop()
        arrays = [array for array in arrays if abs(array.ctypes.data - last.ctypes.data) >= 64 * 256]
        blocks += 1
    assert blocks <= 16


# What the packer of a device type is given.

SLICED = torch.arange(5000, dtype=torch.int32).view(50, 100)
PACKED: dict[str, Callable[[], torch.Tensor]] = {
    "dense": lambda: SLICED.to("fake"),
    "a scalar": lambda: SLICED.to("fake")[3, 4],
    "transposed": lambda: SLICED.to("fake").t(),
    "sliced": lambda: SLICED.to("fake")[5:40:3, ::2],
    "sliced and permuted": lambda: SLICED.to("fake").view(5, 10, 100).permute(2, 0, 1)[::3, :, 2:7],
    "expanded": lambda: SLICED.to("fake")[0].expand(7, 100),
    "overlapping": lambda: SLICED.to("fake").view(-1).unfold(0, 10, 7),
    "with dimensions of one": lambda: SLICED.to("fake")[:1, ::2].unsqueeze(1),
    "of 62 dimensions": lambda: SLICED.to("fake")[:2, ::50].reshape([2] + [1] * 60 + [2]),
    "bytes at odd addresses": lambda: torch.arange(99, dtype=torch.uint8).to("fake")[1:98:3],
    "bfloat16": lambda: torch.arange(99).to(torch.bfloat16).to("fake")[::2],
    "in inference mode": lambda: torch.inference_mode()(lambda: SLICED.to("fake")[:, 1:])(),
    "as large as it may be": lambda: torch.arange(LARGEST // 4, dtype=torch.int32).to("fake"),
}
NOT_PACKED: dict[str, Callable[[], torch.Tensor]] = {
    "larger": lambda: torch.arange(LARGEST // 4 + 1, dtype=torch.int32).to("fake"),
    "larger, sliced": lambda: torch.arange(LARGEST, dtype=torch.int32).to("fake")[::2],
    "conjugated": lambda: torch.randn(9, dtype=torch.complex64).to("fake").conj(),
    "negated": lambda: torch.randn(9).to("fake")._neg_view(),
    "of a type that it declines": lambda: torch.randn(9, dtype=torch.complex128).to("fake"),
}


@pytest.mark.parametrize("way", [tnb.Bridge.to_numpy, lambda bridge, tree: bridge.to_numpy_async(tree).result()])
@pytest.mark.parametrize("copy", [None, True])
def test_one_launch_packs_the_small_leaves(
    native_bridge: tnb.Bridge, packer: ModuleType, way: Callable[..., Any], copy: bool | None
) -> None:
    tensors = [make() for make in PACKED.values()]
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors, copy=True) if copy else way(native_bridge, tensors)
    counted = packer.counters()
    assert (counted.launches, counted.copies_d2h, counted.copies_d2d) == (1, 0, 0)
    assert (counted.event_records, counted.event_waits, counted.copies_synchronous) == (2, 1, 0)
    assert_right(arrays, tensors)


@pytest.mark.parametrize("what", NOT_PACKED)
def test_what_is_not_packed_goes_beside_it(native_bridge: tnb.Bridge, packer: ModuleType, what: str) -> None:
    tensors = [*leaves(5, 6), NOT_PACKED[what](), *leaves(7)]
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors)
    counted = packer.counters()
    assert (counted.launches, counted.copies_d2h) == (1, 1)
    assert (counted.event_records, counted.event_waits, counted.copies_synchronous) == (2, 1, 0)
    assert_right(arrays, tensors)


def test_one_small_leaf_is_a_plain_copy(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    for tensors in (leaves(5), leaves(5, LARGEST)):
        packer.reset_counters()
        arrays = native_bridge.to_numpy(tensors)
        assert (packer.counters().launches, packer.counters().copies_d2h) == (0, len(tensors))
        assert_right(arrays, tensors)


def test_each_device_packs_its_own(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    tensors = [torch.full((9,), float(index)).to(f"fake:{index % 2}") for index in range(10)]
    packer.reset_counters()
    arrays = native_bridge.to_numpy(tensors)
    assert [packer.counters(index).launches for index in range(2)] == [1, 1]
    assert_right(arrays, tensors)


def test_arrays_that_are_given_are_packed_into(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    """Parts of one page-locked array, at odd addresses too: what lies between them stays."""
    memory = native_bridge.empty(1000, np.uint8)
    memory[:] = 7
    tensors = [torch.arange(first, first + 30, dtype=torch.uint8).to("fake") for first in (100, 130, 160)]
    packer.reset_counters()
    native_bridge.to_numpy(tensors, out=[memory[1:31], memory[31:61], memory[500:530]])
    assert packer.counters().launches == 1
    expected = np.full(1000, 7)
    expected[1:61], expected[500:530] = range(100, 160), range(160, 190)
    assert (memory == expected).all()


def test_an_array_of_another_order_is_not_packed_into(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    """The device would store it by the element; it is put in order there first."""
    matrix = SLICED.to("fake")
    other = native_bridge.empty((100, 50), np.int32).T
    same, third = native_bridge.empty((50, 25), np.int32), native_bridge.empty(3, np.int32)
    packer.reset_counters()
    native_bridge.to_numpy([matrix, matrix[:, ::4], *leaves(3)], out=[other, same, third])
    assert (packer.counters().launches, packer.counters().copies_d2d) == (1, 1)
    assert (other == SLICED.numpy()).all()
    assert (same == SLICED[:, ::4].numpy()).all()
    assert third.tolist() == [0, 1, 2]


def test_without_an_address_for_the_device_leaves_are_copied(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    tensors = leaves(*[10] * 70)
    packer.reset_counters()
    with packer.fail("device_address") as failure:
        arrays = native_bridge.to_numpy(tensors)
        assert failure.delivered == 1
    assert packer.last_error() is None
    # The one leaf that was asked for in vain; the next one of its block asked again.
    assert (packer.counters().launches, packer.counters().copies_d2h) == (1, 1)
    assert_right(arrays, tensors)
