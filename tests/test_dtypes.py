"""The table of dtypes: the same bits on both sides, complete, and one for both engines."""

from __future__ import annotations

import re
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from helpers import assert_silent, run_script

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.dtypes import CASTABLE, INSTEAD, NUMPY_DTYPES, TORCH_DTYPES

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


# Torch's own list: one that it adds is in no table yet, and has to be decided about.
ALL = sorted({value for value in vars(torch).values() if isinstance(value, torch.dtype)}, key=str)
WITHOUT = [dtype for dtype in ALL if dtype not in CASTABLE]


def test_every_dtype_of_torch_is_decided_about() -> None:
    assert set(ALL) == NUMPY_DTYPES.keys() | INSTEAD.keys()
    assert not NUMPY_DTYPES.keys() & INSTEAD.keys()
    assert set(ALL) >= CASTABLE >= NUMPY_DTYPES.keys()


def test_both_directions_agree() -> None:
    assert {value: key for key, value in TORCH_DTYPES.items()} == NUMPY_DTYPES
    assert len(TORCH_DTYPES) == len(NUMPY_DTYPES)


@pytest.mark.filterwarnings("ignore:Casting complex values to real")
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_what_torch_can_cast_is_known(dtype: torch.dtype) -> None:
    tensor = torch.zeros(16, dtype=torch.uint8).view(dtype)
    if dtype in CASTABLE:
        assert all(tensor.to(target).to(dtype).dtype == dtype for target in NUMPY_DTYPES)
    else:
        for target in NUMPY_DTYPES:
            with pytest.raises(RuntimeError, match="not implemented"):
                tensor.to(target)


@pytest.mark.parametrize("dtype", WITHOUT, ids=str)
def test_what_numpy_has_not_is_refused_and_the_advice_works(
    bridge: tnb.Bridge, device: str, dtype: torch.dtype
) -> None:
    tensor = torch.arange(16, dtype=torch.uint8).to(device).view(dtype)
    for options in ({}, {"dtype": np.float32}, {"dtype": {torch.uint8: np.float32}}, {"copy": True}):
        with pytest.raises(tnb.UnsupportedTensorError) as caught:
            bridge.to_numpy([torch.ones(3), tensor], **options)
        said = str(caught.value)
        assert said.startswith(f"tree[1]: expected a dtype that NumPy or ml_dtypes has, got {dtype}; ")
        assert said.endswith(INSTEAD[dtype])
    for call in re.findall(r"\.\w+\([^)]*\)", INSTEAD[dtype]):
        advised = eval(f"tensor{call}", {"tensor": quantized(dtype) if "q" in str(dtype) else tensor, "torch": torch})
        assert bridge.to_numpy(advised).dtype.kind in "iuf"
        if "view" in call:
            assert bridge.to_numpy(advised).tobytes() == bytes(range(16))


def quantized(dtype: torch.dtype) -> torch.Tensor:
    """A tensor that is quantized, not only of such a dtype."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it deprecated
        if dtype in (torch.quint4x2, torch.quint2x4):
            return torch.quantize_per_channel(torch.ones(2, 4), torch.ones(2), torch.zeros(2), 0, dtype)
        return torch.quantize_per_tensor(torch.ones(4), 1.0, 0, dtype)


def test_two_values_of_four_bits_are_where_the_advice_says() -> None:
    packed = torch.tensor([0x21, 0x7F], dtype=torch.uint8).view(vars(torch)["float4_e2m1fn_x2"])
    halves = tnb.to_numpy(packed.view(torch.uint8))
    values = np.stack([halves & 15, halves >> 4], axis=-1).view(ml_dtypes.float4_e2m1fn).astype(float)
    assert values.tolist() == [[0.5, 1.0], [-6.0, 6.0]]


def test_an_older_ml_dtypes_means_a_cast(engine: EngineChoice) -> None:
    """As 0.5 has no complex32: refused as it is, but torch can cast it."""
    script = f"""
import ml_dtypes
vars(ml_dtypes).pop("complex32", None)
import numpy as np, torch, torch_np_bridge as tnb, warnings
warnings.simplefilter("ignore")
bridge, half = tnb.Bridge(engine={engine!r}), torch.tensor([1 + 2j]).to(torch.complex32)
for dtype in (np.complex64, {{torch.complex32: np.complex64}}):
    assert bridge.to_numpy(half, dtype=dtype).tolist() == [1 + 2j]
try:
    bridge.to_numpy(half)
except tnb.UnsupportedTensorError as error:
    assert "got torch.complex32; pass dtype= with one that NumPy has" in str(error), error
else:
    raise AssertionError("expected a refusal")
"""
    assert_silent(run_script(script))


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
