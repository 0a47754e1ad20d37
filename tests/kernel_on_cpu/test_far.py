"""What does not fit into 32 bits, nor into a short record: far strides, far destinations, long leaves, high ranks."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest

from .check import Tree, run_tree
from .layouts import Layout, contiguous
from .library import Bytes, Kernels, Leaf

REACH = 1 << 39  # of short records, on either side of the first destination
PAGE = mmap.PAGESIZE


def reserve(size: int, at: int = 0) -> Bytes:
    """Fresh memory, at an address where one is asked for; what is not touched costs nothing."""
    private, anonymous, noreserve, fixed_noreplace = 0x02, 0x20, 0x4000, 0x100000
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    flags = private | anonymous | noreserve | (fixed_noreplace if at else 0)
    readable = mmap.PROT_READ | mmap.PROT_WRITE
    address: int | None = libc.mmap(ctypes.c_void_p(at), ctypes.c_size_t(size), readable, flags, -1, ctypes.c_long(0))
    assert address is not None
    assert address != ctypes.c_void_p(-1).value
    assert not at or address == at, "expected Linux 4.17 or newer"
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


@pytest.mark.parametrize("item", [1, 4])
@pytest.mark.parametrize("stride", [(1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) + 3])
def test_strides_beyond_32_bits(kernels: Kernels, item: int, stride: int) -> None:
    columns, steps = 300, 3
    source = reserve((stride + columns * steps) * item + PAGE)
    rng = np.random.default_rng(0)
    rows = [source[row * stride * item :][: columns * steps * item] for row in range(2)]
    for row in rows:
        row[:] = rng.integers(0, 256, row.size, np.uint8)
    destination = np.zeros(2 * columns * item + 128, np.uint8)
    lead = -destination.ctypes.data % 128
    types = (0, 0) if item == 1 else (6, 6)
    leaf = Leaf(
        source.ctypes.data, destination.ctypes.data + lead, (2, columns), (stride, steps), (columns, 1), types,
        (item, item),
    )  # fmt: skip
    assert kernels.pack_unwatched([leaf]) == 0
    expected = np.concatenate([row.reshape(columns, steps, item)[:, 0].ravel() for row in rows])
    assert (destination[lead : lead + expected.size] == expected).all()


@pytest.mark.parametrize("apart", [REACH - PAGE, REACH, 2 * REACH, -REACH, -REACH - PAGE])
def test_destinations_beyond_the_reach_of_short_records(kernels: Kernels, apart: int) -> None:
    first = 0x100000000000
    memory = [reserve(PAGE, at) for at in (first, first + apart)]
    tree = Tree([contiguous("uint8", "uint8", 100)] * 2, np.random.default_rng(0))
    leaves = [
        Leaf(leaf.source, there.ctypes.data, leaf.sizes, (1,), (1,), leaf.types, leaf.items)
        for leaf, there in zip(tree.leaves, memory, strict=True)
    ]
    assert kernels.pack_unwatched(leaves) == 0
    assert kernels.driver.argument_bytes == 1552 + 16 * (2 if -REACH <= apart < REACH else 3)
    for number, there in enumerate(memory):
        source = tree.source[128 * number :][:100]
        assert (there[:100] == source).all()
        assert not there[100:].any()
    libc = ctypes.CDLL(None)
    for there in memory:
        libc.munmap(ctypes.c_void_p(there.ctypes.data), ctypes.c_size_t(PAGE))


@pytest.mark.parametrize("size", [(1 << 23) - 1, 1 << 23, (1 << 23) + 5])
def test_leaves_longer_than_a_short_record_says(kernels: Kernels, size: int) -> None:
    rng = np.random.default_rng(0)
    run_tree(kernels, Tree([contiguous("uint8", "uint8", size), contiguous("uint8", "uint8", 3)], rng), rng)
    assert kernels.driver.argument_bytes == 1552 + 16 * (2 if size < 1 << 23 else 3)


@pytest.mark.parametrize("version", [12000, 13000])
def test_the_highest_rank(kernels: Kernels, version: int) -> None:
    """Of whose dimensions only those of more than one item count, which no memory has 64 of."""
    kernels.reset(version=version)
    rng = np.random.default_rng(0)
    rank = 64
    sizes = [1] * rank
    for dim in range(0, rank, 6):
        sizes[dim] = 2
    source, destination, strides = 1, 1, []
    for size in sizes:
        strides.append((source, destination))
        source, destination = source * size + 1, destination * size
    layout = Layout(
        "int16", "int16", tuple(sizes), tuple(stride for stride, _ in strides), tuple(stride for _, stride in strides)
    )
    run_tree(kernels, Tree([layout] * 30, rng), rng)


def test_indices_of_64_bits(kernels: Kernels) -> None:
    """More items than anyone has memory for are located as Python's own integers say."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        rank = int(rng.integers(1, 6))
        sizes = [int(rng.integers(1, 1 << rng.integers(2, 60 // rank))) for _ in range(rank)]
        strides = [int(rng.integers(0, 1 << rng.integers(1, 36))) for _ in range(rank)]
        index = int(rng.integers(0, np.prod(sizes, dtype=np.uint64), dtype=np.uint64))
        expected, rest = 0, index
        for size, stride in zip(sizes, strides, strict=True):
            expected += rest % size * stride
            rest //= size
        assert kernels.locate(index, sizes, strides) == expected % (1 << 64)
