"""Each cast is torch's, value by value, and there are no others than those of the table."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_np_bridge.dtypes import NUMPY_DTYPES

from .check import Tree, run_tree
from .layouts import CASTS, TYPES, Layout, contiguous, dtype_of
from .library import Kernels

SPECIAL_FLOAT64 = np.concatenate(
    [
        np.array([0x7FF0000000000000, 0x7FF0000000000001, 0x7FF8000000000000, 0x7FF4567890123456], np.uint64),
        np.array([1.0, 2.0**-149, 2.0**-150, 1.5 * 2.0**-150, 2.0**-126, 3.4028235677973366e38, 3.5e38]).view(
            np.uint64
        ),
        np.array([1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-23, 5e-324, 0.0, 1e308]).view(np.uint64),
    ]
)


def values_of(name: str, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The bytes of every value of a small type, and of special and random ones of a large type."""
    width = dtype_of(name).itemsize
    if name == "bool":
        return np.array([0, 1], np.uint8)
    if width <= 2:
        return np.arange(1 << 8 * width, dtype=f"u{width}").view(np.uint8)
    random = rng.integers(0, 1 << 63, 5000, np.uint64) * 2
    # In the reach of float32, too: there rounding decides.
    near = rng.standard_normal(5000) * 2.0 ** rng.integers(-160, 130, 5000)
    all_bits = np.concatenate([SPECIAL_FLOAT64, SPECIAL_FLOAT64 | (1 << 63), random, near.view(np.uint64)])
    return all_bits.view(np.uint8)


@pytest.mark.parametrize(("source", "destination"), CASTS, ids="-".join)
@pytest.mark.parametrize("strided", [False, True], ids=["dense", "strided"])
def test_every_value_becomes_what_torch_makes_of_it(
    kernels: Kernels, source: str, destination: str, strided: bool
) -> None:
    rng = np.random.default_rng(0)
    values = values_of(source, rng)
    count = values.nbytes // dtype_of(source).itemsize
    step = 2 if strided else 1
    layout = Layout(source, destination, (count,), (step,), (1,))
    tree = Tree([layout], rng, {0: values})
    run_tree(kernels, tree, rng)


@pytest.mark.parametrize("source", ["float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz"])
def test_of_a_float8_nan_even_the_bits_are_torchs(kernels: Kernels, source: str) -> None:
    """Only where float16 takes part is a NaN just a NaN: there torch itself makes different ones."""
    rng = np.random.default_rng(0)
    tree = Tree([contiguous(source, "float32", 256)], rng, {0: np.arange(256, dtype=np.uint8)})
    assert np.isnan(tree.expected[: 4 * 256].view(np.float32)).any()
    run_tree(kernels, tree, rng)
    assert (tree.destination == tree.expected).all()


def test_a_bool_is_true_whatever_its_bits(kernels: Kernels) -> None:
    rng = np.random.default_rng(0)
    tree = Tree([contiguous("bool", "float32", 256)], rng)
    tree.source[:256] = np.arange(256, dtype=np.uint8)
    kernels.pack(tree.leaves, tree.source, tree.destination)
    assert tree.destination[: 4 * 256].view(np.float32).tolist() == [0.0] + [1.0] * 255


def test_the_table_is_the_one_of_the_tests(kernels: Kernels) -> None:
    """All pairs of what may ever be a ScalarType, and what is none."""
    every = range(-130, 600)
    expected = {(TYPES[source], TYPES[destination]) for source, destination in CASTS}
    expected |= {(value, value) for value in TYPES.values()}
    assert {(a, b) for a in every for b in every if kernels.packs(a, b)} == expected


def test_each_type_that_numpy_has_is_copied_as_it_is() -> None:
    """A dtype that torch gets one day fails here: it wants a row in csrc/cuda/element_types.h."""
    assert {str(dtype).removeprefix("torch.") for dtype in NUMPY_DTYPES} == set(TYPES)
    assert all(isinstance(dtype_of(name), torch.dtype) for name in TYPES)
