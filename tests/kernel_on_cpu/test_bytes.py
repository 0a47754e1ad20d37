"""Which bytes a copy touches, by which accesses and by whom: head, tail, alignment, whole lines."""

from __future__ import annotations

import numpy as np
import pytest

from .check import Tree, run_tree
from .layouts import LINE, Layout, contiguous
from .library import Kernels

ROUND = 2048  # bytes that a warp copies at once; csrc/cuda/pack_arguments.h
WARP = 32


@pytest.mark.parametrize("size", [*range(1, 50), 127, 128, 129, 511, 512, 513, *range(ROUND - 17, ROUND + 18), 5000])
def test_any_length_from_any_address_to_any_other(kernels: Kernels, size: int) -> None:
    """Each alignment of the one side with each of the other: exactly the bytes of the leaf are read and written."""
    rng = np.random.default_rng(size)
    layouts = [
        contiguous("uint8", "uint8", size, source_at=source, destination_at=destination)
        for source in (*range(17), 100)
        for destination in (*range(17), 64, 120, 127)
    ]
    run_tree(kernels, Tree(layouts, rng), rng)


@pytest.mark.parametrize(
    ("source", "destination"), [("bfloat16", "float32"), ("float8_e4m3fn", "float16")], ids="-".join
)
def test_any_length_of_what_is_cast(kernels: Kernels, source: str, destination: str) -> None:
    rng = np.random.default_rng(0)
    item = 4 if destination == "float32" else 2
    layouts = [
        contiguous(source, destination, size, source_at=2 * before, destination_at=item * after)
        for size in (1, 2, 3, 4, 5, 8, 9, 31, 100, ROUND // item - 1, ROUND // item, ROUND // item + 1)
        for before in range(9)
        for after in range(17 // item + 2)
    ]
    for first in range(0, len(layouts), 400):
        run_tree(kernels, Tree(layouts[first : first + 400], rng), rng)


@pytest.mark.parametrize("item", ["uint8", "int16", "int32", "int64", "complex128"])
def test_any_length_of_rows_that_are_not_contiguous(kernels: Kernels, item: str) -> None:
    """Words of four bytes at least, the first and the last of which may be cut short."""
    rng = np.random.default_rng(0)
    width = {"uint8": 1, "int16": 2, "int32": 4, "int64": 8, "complex128": 16}[item]
    layouts = [
        Layout(item, item, (size,), (3,), (1,), destination_at=width * at)
        for size in (1, 2, 3, 4, 5, 7, 8, 31, 127, 128, 129, ROUND // width - 1, ROUND // width + 1)
        for at in range(9)
    ]
    run_tree(kernels, Tree(layouts, rng), rng)


def lines_and_their_warps(tree: Tree, writers: np.ndarray, first: int, count: int) -> list[set[int]]:
    lead = -tree.destination.ctypes.data % LINE
    assert lead == 0
    by = (writers[first : first + count * LINE].reshape(count, LINE) - 1) // WARP
    return [set(line.tolist()) for line in by]


@pytest.mark.parametrize(
    ("layout", "loads", "stores"),
    [
        (contiguous("float32", "float32", 1 << 16), {16: 1 << 14}, {16: 1 << 14}),
        (contiguous("float32", "float32", 1 << 16, source_at=8), {8: 1 << 15}, {16: 1 << 14}),
        (contiguous("float32", "float32", 1 << 16, source_at=4), {4: 1 << 16}, {16: 1 << 14}),
        (contiguous("bfloat16", "float32", 1 << 16), {8: 1 << 14}, {16: 1 << 14}),
        (contiguous("float64", "float32", 1 << 16), {16: 1 << 15}, {16: 1 << 14}),
        # A slice of rows of 64 floats, 256 bytes each, is copied in 16-byte items; one of every other float is not.
        (Layout("float32", "float32", (1 << 10, 64), (80, 1), (64, 1)), {16: 1 << 14}, {16: 1 << 14}),
        (Layout("float32", "float32", (1 << 16,), (2,), (1,)), {4: 1 << 16}, {4: 1 << 16}),
        # A transposed one is contiguous, its destination being in its order.
        (Layout("float32", "float32", (256, 256), (1, 256), (1, 256)), {16: 1 << 14}, {16: 1 << 14}),
        # Single bytes are gathered to words of four.
        (Layout("uint8", "uint8", (1 << 16,), (3,), (1,)), {1: 1 << 16}, {4: 1 << 14}),
    ],
    ids=[
        "aligned", "apart by 8", "apart by 4", "cast to wider", "cast to narrower", "sliced", "every other",
        "transposed", "single bytes",
    ],
)  # fmt: skip
def test_accesses_are_as_wide_as_they_can_be_and_each_line_is_one_warps(
    kernels: Kernels, layout: Layout, loads: dict[int, int], stores: dict[int, int]
) -> None:
    rng = np.random.default_rng(0)
    tree = Tree([layout], rng)
    report = run_tree(kernels, tree, rng)
    assert {width: count for width, count in report.loads.items() if count} == loads
    assert {width: count for width, count in report.stores.items() if count} == stores
    lines = lines_and_their_warps(tree, report.writers, 0, layout.destination_bytes // LINE)
    assert all(len(warps) == 1 for warps in lines)


def test_lines_are_whole_where_the_destination_begins_within_one(kernels: Kernels) -> None:
    """All but the first and the last are written by one warp each, 16 bytes a lane, four lines a store."""
    rng = np.random.default_rng(0)
    tree = Tree([contiguous("float32", "float32", 5000, source_at=20, destination_at=20)], rng)
    report = run_tree(kernels, tree, rng)
    inner = 5000 * 4 // LINE - 1
    lanes = (report.writers[LINE : LINE * (1 + inner)].reshape(inner, LINE // 16, 16) - 1) % WARP
    for number, line in enumerate(lanes, start=1):
        assert [set(unit.tolist()) for unit in line] == [{number % 4 * 8 + unit} for unit in range(8)]


def test_expanded_empty_and_single_leaves(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    layouts = [
        Layout("float32", "float32", (1000,), (0,), (1,)),
        Layout("float32", "float32", (3, 0, 5), (9, 3, 1), (0, 5, 1)),
        Layout("float16", "float32", (), (), ()),
        Layout("int64", "int64", (1, 1), (7, 1 << 60), (1 << 61, 5)),
        Layout("float32", "float32", (4, 5, 6), (0, 1, 0), (30, 6, 1)),
        Layout("int16", "int16", (10, 4), (1, 1), (4, 1)),
    ]
    run_tree(kernels, Tree(layouts, rng), rng)
