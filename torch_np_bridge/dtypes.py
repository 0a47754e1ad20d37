"""The one table of torch dtypes and the NumPy dtypes with the same bits; both engines read it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

_NUMPY_NATIVE = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip

# ml_dtypes gives these NumPy dtypes; a torch or ml_dtypes that lacks one simply has no such row.
_ML_DTYPES = (
    "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "complex32",
)  # fmt: skip


def _rows() -> dict[torch.dtype, np.dtype[Any]]:
    table: dict[torch.dtype, np.dtype[Any]] = {getattr(torch, name): np.dtype(name) for name in _NUMPY_NATIVE}
    for name in _ML_DTYPES:
        if hasattr(torch, name) and hasattr(ml_dtypes, name):
            table[getattr(torch, name)] = np.dtype(getattr(ml_dtypes, name))
    return table


NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = _rows()

# Tensor.numpy() knows NumPy's own dtypes only: the others travel as unsigned integers of the same width.
CARRIERS: dict[torch.dtype, torch.dtype] = {
    dtype: {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}[numpy_dtype.itemsize]
    for dtype, numpy_dtype in NUMPY_DTYPES.items()
    if numpy_dtype.type.__module__ != "numpy"
}
