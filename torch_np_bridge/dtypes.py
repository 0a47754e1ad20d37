"""The one table of torch dtypes and the NumPy dtypes with the same bits, in both directions; both engines read it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch

# By name, since not every torch has every one. NumPy has these dtypes itself.
BY_NUMPY = (
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip

# A torch or ml_dtypes that lacks one of these simply has no such row below.
BY_ML_DTYPES = (
    "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    "complex32",
)  # fmt: skip

# These have no NumPy dtype, also where ml_dtypes has one of the name: that has one value in a byte, and what the bytes
# of a tensor mean is the affair of whoever made them. Torch computes with none of them, and so casts none.
_BYTES = "call .view(torch.uint8), which gives its bytes"
_QUANTIZED = "call .dequantize() for the values or .int_repr() for the integers that stand for them"
BY_NEITHER = {
    **{f"{sign}int{bits}": _BYTES for sign in ("", "u") for bits in range(1, 8)},
    "float4_e2m1fn_x2": f"{_BYTES}: two values in each, the first in the low four bits",
    **dict.fromkeys(("bits8", "bits1x8", "bits2x4", "bits4x2"), _BYTES),
    "bits16": "call .view(torch.uint16), which gives its bits",
    **dict.fromkeys(("qint8", "quint8", "qint32", "quint4x2", "quint2x4"), _QUANTIZED),
}


def _named(names: tuple[str, ...]) -> dict[torch.dtype, str]:
    return {getattr(torch, name): name for name in names if hasattr(torch, name)}


_CASTABLE = _named(BY_NUMPY + BY_ML_DTYPES)

# What torch can cast from, and to as far as NumPy has it.
CASTABLE: frozenset[torch.dtype] = frozenset(_CASTABLE)

NUMPY_DTYPES: dict[torch.dtype, np.dtype[Any]] = {
    dtype: np.dtype(name if name in BY_NUMPY else getattr(ml_dtypes, name))
    for dtype, name in _CASTABLE.items()
    if name in BY_NUMPY or hasattr(ml_dtypes, name)
}

# Compared as dtypes, never by their `str`: half of ml_dtypes' have the same one.
TORCH_DTYPES: dict[np.dtype[Any], torch.dtype] = {value: key for key, value in NUMPY_DTYPES.items()}

# What to do with a tensor of any other dtype, as the end of a sentence.
INSTEAD: dict[torch.dtype, str] = {
    **{dtype: BY_NEITHER[name] for dtype, name in _named(tuple(BY_NEITHER)).items()},
    **{
        dtype: f"pass dtype= with one that NumPy has, or install an ml_dtypes that has {name}"
        for dtype, name in _CASTABLE.items()
        if dtype not in NUMPY_DTYPES
    },
}

# Tensor.numpy() knows NumPy's own dtypes only: the others travel as unsigned integers of the same width.
CARRIERS: dict[torch.dtype, torch.dtype] = {
    dtype: {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}[numpy_dtype.itemsize]
    for dtype, numpy_dtype in NUMPY_DTYPES.items()
    if numpy_dtype.type.__module__ != "numpy"
}


def instead(dtype: torch.dtype) -> str:
    """What to do with a tensor of a dtype that NumPy has not, as the end of a sentence."""
    return INSTEAD.get(dtype, _BYTES)


def numpy_name(dtype: torch.dtype) -> str | None:
    """The name, with its module, of the NumPy dtype with the same bits; ``None`` where there is none."""
    found = NUMPY_DTYPES.get(dtype)
    return None if found is None else f"{found.type.__module__}.{found.type.__name__}"
