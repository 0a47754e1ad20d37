"""The table of dtypes: the same bits on both sides, complete, and one for both engines."""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import torch_np_bridge as tnb
from torch_np_bridge.dtypes import NUMPY_DTYPES

# Written out here once more, so that a row that is lost or changed is seen.
EXPECTED: dict[torch.dtype, Any] = {
    torch.bool: np.bool_,
    torch.uint8: np.uint8,
    torch.uint16: np.uint16,
    torch.uint32: np.uint32,
    torch.uint64: np.uint64,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.float16: np.float16,
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.complex64: np.complex64,
    torch.complex128: np.complex128,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float8_e4m3fn: ml_dtypes.float8_e4m3fn,
    torch.float8_e4m3fnuz: ml_dtypes.float8_e4m3fnuz,
    torch.float8_e5m2: ml_dtypes.float8_e5m2,
    torch.float8_e5m2fnuz: ml_dtypes.float8_e5m2fnuz,
    torch.float8_e8m0fnu: ml_dtypes.float8_e8m0fnu,
}
if hasattr(ml_dtypes, "complex32"):  # from 0.6 on
    EXPECTED[torch.complex32] = ml_dtypes.complex32


def test_the_table_is_complete() -> None:
    assert {dtype: np.dtype(numpy_dtype) for dtype, numpy_dtype in EXPECTED.items()} == NUMPY_DTYPES
    assert all(dtype.itemsize == numpy_dtype.itemsize for dtype, numpy_dtype in NUMPY_DTYPES.items())


def test_every_dtype_that_torch_hands_to_numpy_is_in_it() -> None:
    for dtype in {value for value in vars(torch).values() if isinstance(value, torch.dtype)}:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls some of them experimental
            try:
                numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
            except (TypeError, RuntimeError):
                continue  # torch refuses it; whether ml_dtypes has it is the next test's affair
        assert NUMPY_DTYPES[dtype] == numpy_dtype


def test_every_dtype_that_ml_dtypes_shares_with_torch_is_in_it() -> None:
    shared = {name for name in vars(ml_dtypes) if isinstance(getattr(torch, name, None), torch.dtype)}
    # In torch these are bits without arithmetic: nobody's tensors.
    shared -= {"uint1", "uint2", "uint4", "int1", "int2", "int4"}
    assert {getattr(torch, name) for name in shared} <= set(NUMPY_DTYPES)


@pytest.mark.parametrize("dtype", EXPECTED, ids=str)
def test_values_mean_the_same(bridge: tnb.Bridge, device: str, dtype: torch.dtype) -> None:
    """Not only the bits: what torch calls 0.5 is 0.5 to NumPy."""
    values = [0.5, 1.0, 2.0] if dtype.is_floating_point or dtype.is_complex else [0, 1, 1]
    array = bridge.to_numpy(torch.tensor(values).to(dtype).to(device))
    assert array.dtype == EXPECTED[dtype]
    assert array.astype(np.complex128).tolist() == values


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_numpy_computes_with_the_results(bridge: tnb.Bridge, device: str, dtype: torch.dtype) -> None:
    array = bridge.to_numpy(torch.tensor([0.5, 1.5]).to(dtype).to(device))
    assert (array + array).astype(np.float32).tolist() == [1, 3]
