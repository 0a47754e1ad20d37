"""Contract 1 for casts that the packer of a device type makes, and for those that it leaves to torch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import assert_same_array, torchs_answer
from test_packing import LARGEST, SLICED, leaves

import torch_np_bridge as tnb
from torch_np_bridge.dtypes import NUMPY_DTYPES

# Leaves with what they become, of which the packer casts some.
CAST: dict[str, tuple[Callable[[], torch.Tensor], torch.dtype]] = {
    "cast": (lambda: torch.arange(99).to(torch.bfloat16).to("fake"), torch.float32),
    "cast and strided": (lambda: torch.arange(99).view(9, 11).to(torch.bfloat16).to("fake").t()[::2], torch.float32),
    "cast to narrower ones": (lambda: SLICED.to("fake")[::3, 1:], torch.uint8),
    "as large as its cast may be": (lambda: torch.arange(LARGEST, dtype=torch.int32).to("fake"), torch.uint8),
}
NOT_CAST: dict[str, tuple[Callable[[], torch.Tensor], torch.dtype]] = {
    "a cast that it declines": (lambda: torch.arange(9.0).to("fake"), torch.float64),
    "a negated one": (lambda: torch.arange(9).to(torch.bfloat16).to("fake")._neg_view(), torch.float32),
    "a larger one": (lambda: torch.arange(LARGEST // 4 + 1).to(torch.bfloat16).to("fake"), torch.float32),
    "a conjugate": (lambda: torch.randn(9, dtype=torch.complex64).to("fake").conj(), torch.complex128),
}


@pytest.mark.parametrize(("casts", "packed"), [(CAST, True), (NOT_CAST, False)], ids=["packed", "beside"])
@pytest.mark.parametrize("copy", [None, True])
def test_casts_of_small_leaves(
    native_bridge: tnb.Bridge, packer: ModuleType, casts: Any, packed: bool, copy: bool | None
) -> None:
    """The kernel reads the one dtype and writes the other; what it declines is cast on the device, then copied."""
    for make, target in casts.values():
        cast, plain = make(), leaves(5, 6)
        mapping = {cast.dtype: NUMPY_DTYPES[target]} if cast.dtype != torch.int32 else NUMPY_DTYPES[target]
        packer.reset_counters()
        arrays = native_bridge.to_numpy([plain[0], cast, plain[1]], dtype=mapping, copy=copy)
        counted = packer.counters()
        assert (counted.launches, counted.copies_d2h) == ((1, 0) if packed else (1, 1))
        kind = target if cast.dtype == torch.int32 else torch.int32
        for array, tensor, dtype in zip(arrays, [plain[0], cast, plain[1]], [kind, target, kind], strict=True):
            assert_same_array(array, torchs_answer(tensor, dtype))
