"""Copies random leaves by the kernel, a tree of some hundreds a call, and compares each byte with torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .layouts import LINE, Layout, random_layout, torch_nans_vary, view
from .library import Kernels, Leaf, Report

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
LEAVES_A_TREE = 400
CARRIERS = {1: "uint8", 2: "int16", 4: "int32", 8: "int64", 16: "complex128"}


class Tree:
    """Leaves with their memory: random bytes on both sides, and what the destination has to become."""

    def __init__(
        self, layouts: Sequence[Layout], rng: np.random.Generator, values: Mapping[int, Bytes] | None = None
    ) -> None:
        self.layouts = layouts
        self.source, self._sources = _place([(one.source_at, one.source_bytes) for one in layouts], rng)
        self.destination, self._destinations = _place(
            [(one.destination_at, one.destination_bytes) for one in layouts], rng
        )
        for layout, first in zip(layouts, self._sources, strict=True):
            if layout.source == "bool":  # other bytes are no bools
                self.source[first : first + layout.source_bytes] &= 1
        for number, given in (values or {}).items():
            self._fill(number, given)
        self.before = self.destination.copy()
        self.expected = self.destination.copy()
        for layout, source, destination in zip(layouts, self._sources, self._destinations, strict=True):
            if 0 not in layout.sizes:
                self._expect(layout, source, destination)

    @property
    def leaves(self) -> list[Leaf]:
        return [
            layout.leaf(self.source.ctypes.data + source, self.destination.ctypes.data + destination)
            for layout, source, destination in zip(self.layouts, self._sources, self._destinations, strict=True)
        ]

    def restore(self) -> None:
        self.destination[:] = self.before

    def differences(self) -> list[Layout]:
        """The leaves that are not what torch makes of them."""
        if (self.destination == self.expected).all():
            return []
        different, rest = [], self.destination != self.expected
        for layout, first in zip(self.layouts, self._destinations, strict=True):
            part = slice(first, first + layout.destination_bytes)
            if rest[part].any() and not self._same_but_for_nans(layout, part):
                different.append(layout)
            rest[part] = False
        assert not rest.any(), "bytes of no leaf were changed"
        return different

    def _fill(self, number: int, values: Bytes) -> None:
        """The items of a leaf of one dimension, by their bytes."""
        layout, first = self.layouts[number], self._sources[number]
        (stride,), width = layout.source_strides, layout.items[0]
        items = self.source[first : first + layout.source_bytes]
        view = np.lib.stride_tricks.as_strided(items, (layout.sizes[0], width), (stride * width, 1))
        view[:] = values.reshape(-1, width)

    def _expect(self, layout: Layout, source: int, destination: int) -> None:
        # Copies, because torch wants its memory aligned. What is copied as it is goes as bits, which nothing looks at.
        given = self.source[source : source + layout.source_bytes].copy()
        made = self.expected[destination : destination + layout.destination_bytes].copy()
        carrier = CARRIERS[layout.items[0]] if layout.source == layout.destination else None
        values = view(given, carrier or layout.source, layout.sizes, layout.source_strides)
        view(made, carrier or layout.destination, layout.sizes, layout.destination_strides).copy_(values)
        self.expected[destination : destination + layout.destination_bytes] = made

    def _same_but_for_nans(self, layout: Layout, part: slice) -> bool:
        if not torch_nans_vary(layout.source, layout.destination):
            return False
        dtype = {"float16": np.float16, "float32": np.float32, "float64": np.float64}[layout.destination]
        got, expected = (array[part].copy().view(dtype) for array in (self.destination, self.expected))
        bits = got.view(f"u{got.itemsize}") == expected.view(f"u{got.itemsize}")
        return bool((bits | (np.isnan(got) & np.isnan(expected))).all())


def _place(regions: Sequence[tuple[int, int]], rng: np.random.Generator) -> tuple[Bytes, list[int]]:
    """Memory for regions that each begin so many bytes past a line, and where in it they are."""
    firsts, end = [], 0
    for at, size in regions:
        firsts.append(-(-end // LINE) * LINE + at)
        end = firsts[-1] + size
    memory = rng.integers(0, 256, end + 2 * LINE, np.uint8)
    lead = -memory.ctypes.data % LINE
    return memory[lead : lead + end + LINE], firsts


def run_tree(kernels: Kernels, tree: Tree, rng: np.random.Generator) -> Report:
    """One call of the kernel, which has to give what torch gives."""
    kernels.driver.seed = int(rng.integers(1 << 32))
    report = kernels.pack(tree.leaves, tree.source, tree.destination)
    assert report.code == 0
    assert report.faults == "", report.faults
    different = tree.differences()
    assert not different, f"{len(different)} leaves, the first: {different[0]}"
    return report


def gather_tree(kernels: Kernels, tree: Tree) -> None:
    """The same by the index arithmetic alone, of the leaves that are copied as they are; every other one in 64 bits."""
    tree.restore()
    for number, leaf in enumerate(tree.leaves):
        if leaf.types[0] == leaf.types[1] and 0 not in leaf.sizes:
            kernels.gather(leaf, wide=number % 2 == 1)
    different = [layout for layout in tree.differences() if layout.source == layout.destination]
    assert not different, f"index arithmetic, {len(different)} leaves, the first: {different[0]}"


def run(kernels: Kernels, layouts: int, seed: int) -> None:
    """So many random leaves; raises where the kernel, or the index arithmetic alone, does not do as torch does."""
    rng = np.random.default_rng(seed)
    kernels.reset()
    done = 0
    while done < layouts:
        count = min(layouts - done, LEAVES_A_TREE)
        tree = Tree([random_layout(rng) for _ in range(count)], rng)
        # An older driver takes fewer arguments, so a tree more launches.
        kernels.driver.version = int(rng.choice((12000, 13000)))
        run_tree(kernels, tree, rng)
        gather_tree(kernels, tree)
        done += count
