"""Random leaves: any two types that the kernel copies, any strides on either side, and what torch makes of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from .library import Leaf

# Values of c10::ScalarType.
TYPES = {
    "uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7,
    "complex32": 8, "complex64": 9, "complex128": 10, "bool": 11, "bfloat16": 15, "float8_e5m2": 23,
    "float8_e4m3fn": 24, "float8_e5m2fnuz": 25, "float8_e4m3fnuz": 26, "uint16": 27, "uint32": 28, "uint64": 29,
    "float8_e8m0fnu": 44,
}  # fmt: skip
FLOAT8 = ("float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz", "float8_e8m0fnu")
CASTS = (
    ("float16", "float32"), ("float16", "float64"),
    *(("bfloat16", to) for to in ("float32", "float64", "float16")),
    *((kind, to) for kind in FLOAT8 for to in ("float32", "float64", "float16")),
    ("float64", "float32"), ("int64", "int32"), ("bool", "float32"), ("uint8", "float32"),
)  # fmt: skip
LINE = 128


@dataclass(frozen=True)
class Layout:
    """One leaf without its memory: types, sizes, strides in items, and where it begins past a multiple of a line."""

    source: str
    destination: str
    sizes: tuple[int, ...]
    source_strides: tuple[int, ...]
    destination_strides: tuple[int, ...]
    source_at: int = 0
    destination_at: int = 0

    @property
    def items(self) -> tuple[int, int]:
        return dtype_of(self.source).itemsize, dtype_of(self.destination).itemsize

    @property
    def source_bytes(self) -> int:
        return _span(self.sizes, self.source_strides) * self.items[0]

    @property
    def destination_bytes(self) -> int:
        return _span(self.sizes, self.destination_strides) * self.items[1]

    def leaf(self, source: int, destination: int) -> Leaf:
        types = TYPES[self.source], TYPES[self.destination]
        return Leaf(source, destination, self.sizes, self.source_strides, self.destination_strides, types, self.items)


def dtype_of(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def dense_strides(sizes: tuple[int, ...], like: tuple[int, ...]) -> tuple[int, ...]:
    """Without gaps, in the order of other strides, the last of equal ones innermost."""
    result, stride = [0] * len(sizes), 1
    for dim in sorted(range(len(sizes)), key=lambda dim: (like[dim], -dim)):
        result[dim] = stride
        stride *= max(sizes[dim], 1)
    return tuple(result)


def contiguous(source: str, destination: str, *sizes: int, source_at: int = 0, destination_at: int = 0) -> Layout:
    """Row-major on both sides."""
    strides = dense_strides(sizes, tuple(range(len(sizes), 0, -1)))
    return Layout(source, destination, sizes, strides, strides, source_at, destination_at)


def random_layout(rng: np.random.Generator) -> Layout:
    """Mostly small; a few items, a few rounds of a warp, or none at all."""
    names = tuple(TYPES)
    plain = rng.random() < 0.5
    source, destination = (names[rng.integers(len(names))],) * 2 if plain else CASTS[rng.integers(len(CASTS))]
    sizes = _random_sizes(rng)
    source_strides = _random_source_strides(rng, sizes)
    destination_strides = _random_destination_strides(rng, sizes, source_strides)
    items = dtype_of(source).itemsize, dtype_of(destination).itemsize
    # What is copied as it is may lie anywhere; nobody makes such tensors, but the bytes are the same.
    units = (1, 1) if plain and rng.random() < 0.05 else items
    source_at, destination_at = (0 if rng.random() < 0.5 else int(rng.integers(LINE // unit)) * unit for unit in units)
    return Layout(source, destination, sizes, source_strides, destination_strides, source_at, destination_at)


def _random_sizes(rng: np.random.Generator) -> tuple[int, ...]:
    rank = (0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6)[rng.integers(16)]
    sizes = rng.integers(1, 7, rank).tolist()
    while math.prod(sizes) > 600:
        sizes[sizes.index(max(sizes))] = 1
    if sizes and rng.random() < 0.3:
        sizes[rng.integers(rank)] = (16, 33, 128, 300, 1000)[rng.integers(5)]
    while math.prod(sizes) > 4000:
        sizes[sizes.index(sorted(sizes)[-2])] = 1
    if sizes and rng.random() < 0.02:
        sizes[rng.integers(rank)] = 0
    return tuple(sizes)


def _with_gaps(rng: np.random.Generator, sizes: tuple[int, ...], gap: float) -> tuple[int, ...]:
    """Strides in a random order, each now and then larger than it has to be."""
    strides, stride = [0] * len(sizes), 1
    order = rng.permutation(len(sizes)) if rng.random() < 0.5 else range(len(sizes) - 1, -1, -1)
    for dim in order:
        step = int(rng.integers(2, 4)) if rng.random() < gap else 1
        strides[dim] = stride * step
        stride = strides[dim] * max(sizes[dim], 1) + (int(rng.integers(1, 9)) if rng.random() < gap else 0)
    return tuple(strides)


def _random_source_strides(rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[int, ...]:
    strides = list(_with_gaps(rng, sizes, gap=float(rng.choice((0.0, 0.2, 0.5)))))
    for dim in range(len(sizes)):
        if rng.random() < 0.05:
            strides[dim] = 0  # expanded
        elif rng.random() < 0.02:
            strides[dim] = int(rng.integers(1, 20))  # overlapping, as unfold() makes it
    return tuple(strides)


def _random_destination_strides(
    rng: np.random.Generator, sizes: tuple[int, ...], source: tuple[int, ...]
) -> tuple[int, ...]:
    kind = rng.random()
    if kind < 0.7:
        return dense_strides(sizes, source)
    return _with_gaps(rng, sizes, gap=0.0 if kind < 0.85 else 0.3)


def _span(sizes: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """The items from the first to the last of a layout."""
    if 0 in sizes:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))


def view(memory: np.ndarray[Any, Any], name: str, sizes: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    """A tensor of that layout over bytes that begin where it does."""
    return torch.from_numpy(memory).view(dtype_of(name)).as_strided(sizes, strides)


@cache
def torch_nans_vary(source: str, destination: str) -> bool:
    """Whether torch itself makes different NaNs of the same one: as its processor has float16 instructions or not, and
    within one tensor as a vector instruction or another converts it."""
    return source != destination and "float16" in (source, destination)
