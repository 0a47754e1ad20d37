"""What ``dtype=`` asks for, as the casts that engines make: from one dtype of torch to another one."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import torch

from .dtypes import CASTABLE, TORCH_DTYPES, instead, numpy_name

Casts: TypeAlias = dict[torch.dtype, torch.dtype]


def casts(dtype: object) -> Casts | None:
    """The casts for ``dtype=``; those to the very dtype are none.

    Raises:
        TypeError: it is no dtype of NumPy that torch has too, nor a mapping from dtypes of torch to such.
    """
    if dtype is None:
        return None
    if not isinstance(dtype, Mapping):
        return _all_to(_target(dtype, "dtype"))
    return {_source(source): _target(target, f"dtype[{source}]") for source, target in dtype.items()}


@cache
def _all_to(target: torch.dtype) -> Casts:
    # Nobody changes it: engines read, and get the same one each time.
    return dict.fromkeys(CASTABLE, target)


def dtype_on_host(tensor: torch.Tensor, cast: Casts | None) -> torch.dtype:
    """The dtype of torch that the values of ``tensor`` have when they arrive."""
    return tensor.dtype if cast is None else cast.get(tensor.dtype, tensor.dtype)


def _target(dtype: Any, where: str) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        name = numpy_name(dtype)
        advice = f"pass {name}" if name is not None else "NumPy has none like it; leave it out"
        raise TypeError(f"{where}: expected a dtype of NumPy or ml_dtypes, got {dtype}; {advice}")
    try:
        wanted = None if dtype is None else np.dtype(dtype)  # to NumPy, None is float64
    except (TypeError, ValueError):
        wanted = None
    if wanted is None:
        raise TypeError(f"{where}: expected a dtype of NumPy or ml_dtypes, got {dtype!r}; pass numpy.float32, say")
    if wanted not in TORCH_DTYPES:
        raise TypeError(
            f"{where}: expected a dtype that torch has too, got {wanted}; leave it out and call .astype() on the arrays"
        )
    return TORCH_DTYPES[wanted]


def _source(dtype: Any) -> torch.dtype:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(
            f"dtype: expected dtypes of torch as the keys of a mapping, got {dtype!r}; pass torch.bfloat16, say"
        )
    if dtype not in CASTABLE:
        raise TypeError(
            f"dtype: expected a mapping from dtypes that torch can cast, got {dtype}; leave it out and {instead(dtype)}"
        )
    return dtype
