"""Arrays that the caller wants filled: why one does not fit its tensor."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from .casting import Casts, dtype_on_host
from .dtypes import NUMPY_DTYPES


def obstacle(tensor: torch.Tensor, array: object, cast: Casts | None) -> Exception | None:
    """Why the values of ``tensor`` cannot go to ``array``, as an error without its path; ``None`` where they can."""
    if not isinstance(array, np.ndarray):
        name = f"{type(array).__module__}.{type(array).__qualname__}"
        return TypeError(f"expected a numpy.ndarray, got {name}; pass an array to fill")
    wanted = dtype_on_host(tensor, cast)
    if array.dtype != NUMPY_DTYPES[wanted]:
        why = f"as {wanted} has it" if wanted is tensor.dtype else f"as dtype= asks for {tensor.dtype}"
        return TypeError(f"expected dtype {NUMPY_DTYPES[wanted]}, {why}, got {array.dtype}; make it with that dtype")
    if array.shape != tuple(tensor.shape):
        return ValueError(f"expected shape {tuple(tensor.shape)}, got {array.shape}; make it with that shape")
    if not array.flags.writeable:
        return ValueError("expected an array that may be written to, got a read-only one; pass a copy of it")
    if not array.flags.aligned:
        return ValueError("expected an aligned array, got one at an odd address; pass one that NumPy has allocated")
    if array.size and not _goes_forward(array):
        return ValueError(
            f"expected strides that go forward and never to the same element twice, got {array.strides}; pass an array "
            "without flipped or broadcast dimensions"
        )
    return None


def overlapping(tensors: Sequence[torch.Tensor], arrays: Sequence[Any]) -> int | None:
    """The index of a dense array that shares memory with an earlier one in memory; ``None`` where there is none."""
    dense = [index for index, array in enumerate(arrays) if array.size and _extent(array) == array.nbytes]
    dense.sort(key=lambda index: arrays[index].ctypes.data)
    for before, index in pairwise(dense):
        if arrays[before].ctypes.data + arrays[before].nbytes > arrays[index].ctypes.data:
            return index
    return None


def refusal(tensor: torch.Tensor, array: object, cast: Casts | None) -> Exception:
    """The error for an array that an engine refused."""
    return obstacle(tensor, array, cast) or ValueError(
        "expected arrays that are apart from each other, got one that shares memory with another; pass one for each"
    )


def _steps(array: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    return sorted((stride, size) for stride, size in zip(array.strides, array.shape, strict=True) if size > 1)


def _extent(array: np.ndarray[Any, Any]) -> int:
    return array.itemsize + sum(stride * (size - 1) for stride, size in _steps(array))


def _goes_forward(array: np.ndarray[Any, Any]) -> bool:
    reached = array.itemsize
    for stride, size in _steps(array):
        if stride < reached or stride % array.itemsize:
            return False
        reached = stride * size
    return True
