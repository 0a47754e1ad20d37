"""What `dtype=` takes, which tensors it concerns, and the words for all that is no dtype for it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from helpers import assert_same_array

import torch_np_bridge as tnb


def test_what_np_dtype_takes_is_taken(bridge: tnb.Bridge, device: str) -> None:
    tensor = torch.ones(3, dtype=torch.int16).to(device)
    given: dict[Any, Any] = {
        **{kind: kind for kind in ("f4", "float16", "uint64", "c8", "?", float, int, bool, complex, np.float32)},
        "bfloat16": ml_dtypes.bfloat16,
        np.dtype("=f8"): np.float64,
        "longlong": np.int64,
        ml_dtypes.float8_e5m2: ml_dtypes.float8_e5m2,
        np.float64(1): np.float64,
    }
    for spelling, wanted in given.items():
        assert bridge.to_numpy(tensor, dtype=spelling).dtype == np.dtype(wanted)
        assert bridge.to_numpy(tensor, dtype={torch.int16: spelling}).dtype == np.dtype(wanted)


def test_a_mapping_casts_what_it_names(bridge: tnb.Bridge, device: str) -> None:
    """And no array twice, though what one dtype becomes is named too."""
    tree: dict[str, Any] = {
        "half": torch.ones(3, dtype=torch.float16).to(device),
        "single": torch.ones(3).to(device),
        "on the host": torch.ones(3),
        "integers": [torch.ones(3, dtype=torch.int64).to(device), torch.ones(3, dtype=torch.bool).to(device)],
        "other": (7, None, np.ones(2, np.float16)),
    }
    dtypes = {torch.float16: np.float32, torch.float32: np.float64, torch.float64: np.int8, torch.bool: np.bool_}
    for got in (
        bridge.to_numpy(tree, dtype=dtypes),
        bridge.to_numpy(tree, dtype=dtypes, copy=True),
        bridge.to_numpy_async(tree, dtype=dtypes).result(),
        bridge.to_numpy_async(tree, dtype=dtypes, snapshot=True).result(),
    ):
        arrays = [got["half"], got["single"], got["on the host"], *got["integers"]]
        assert [array.dtype for array in arrays] == [np.float32, np.float64, np.float64, np.int64, np.bool_]
        assert got["other"] is not tree["other"]
        assert got["other"][2] is tree["other"][2]


def test_what_has_the_dtype_already_is_shared(bridge: tnb.Bridge) -> None:
    tensor = torch.arange(6.0).view(2, 3)
    for dtype in (np.float32, {torch.float32: np.float32}, {torch.bfloat16: np.float32}, {}):
        for array in (bridge.to_numpy(tensor.t(), dtype=dtype), bridge.to_numpy([tensor.t()], dtype=dtype)[0]):
            assert_same_array(array, tensor.numpy().T)
            assert np.shares_memory(array, tensor.numpy())
        assert np.shares_memory(bridge.to_numpy(tensor, dtype=dtype, copy=False), tensor.numpy())
        assert not np.shares_memory(bridge.to_numpy(tensor, dtype=dtype, copy=True), tensor.numpy())


def test_a_cast_on_the_host_is_fresh(bridge: tnb.Bridge) -> None:
    tensor = torch.arange(6.0)
    array = bridge.to_numpy(tensor, dtype=np.float64)
    array += 1
    assert tensor.tolist() == [0, 1, 2, 3, 4, 5]
    assert array.flags.writeable


def test_a_cast_is_a_copy(bridge: tnb.Bridge, device: str) -> None:
    tree = {"a": [torch.ones(3), torch.ones(3, dtype=torch.float64, device=device)]}
    words = r"expected torch.float64, as copy=False and dtype= ask for, got torch.float32; pass copy=None"
    with pytest.raises(ValueError, match=rf"^tree\['a'\]\[0\]: {words}"):
        bridge.to_numpy(tree, dtype=np.float64, copy=False)


ANY = "expected a dtype of NumPy or ml_dtypes, got"
NOT_TORCHS = "expected a dtype that torch has too, got"
WRONG: dict[str, tuple[Any, str]] = {
    "torch's": (torch.float32, rf"dtype: {ANY} torch.float32; pass numpy.float32$"),
    "torch's bfloat16": (torch.bfloat16, rf"dtype: {ANY} torch.bfloat16; pass ml_dtypes.bfloat16$"),
    "torch's alone": (torch.bits8, rf"dtype: {ANY} torch.bits8; NumPy has none like it"),
    "no dtype": ("nonsense", rf"dtype: {ANY} 'nonsense'; pass numpy.float32, say"),
    "an array": (np.ones(2), rf"dtype: {ANY} array\(\[1\., 1\.\]\)"),
    "long double": (np.longdouble, rf"dtype: {NOT_TORCHS} float128; leave it out and call .astype\(\) on the arrays"),
    "another byte order": (">f4", rf"dtype: {NOT_TORCHS} >f4; leave it out"),
    "four bits": (ml_dtypes.int4, rf"dtype: {NOT_TORCHS} int4; leave it out"),
    "another float8": (ml_dtypes.float8_e3m4, rf"dtype: {NOT_TORCHS} float8_e3m4; leave it out"),
    "bytes of a bfloat16": ("V2", rf"dtype: {NOT_TORCHS} \|V2; leave it out"),
    "text": ("U3", rf"dtype: {NOT_TORCHS} <U3; leave it out"),
    "objects": (object, rf"dtype: {NOT_TORCHS} object; leave it out"),
    "dates": ("M8[s]", rf"dtype: {NOT_TORCHS} datetime64\[s\]; leave it out"),
    "a record": ([("a", "f4")], rf"dtype: {NOT_TORCHS} \[\('a', '<f4'\)\]; leave it out"),
    "a mapping from NumPy's": (
        {np.float32: "f8"},
        r"dtype: expected dtypes of torch as the keys of a mapping, got <class 'numpy.float32'>; pass torch.bfloat16",
    ),
    "a mapping from names": ({"float32": "f8"}, r"keys of a mapping, got 'float32'; pass torch.bfloat16, say"),
    "a mapping to torch's": ({torch.half: torch.float}, rf"dtype\[torch.float16\]: {ANY} torch.float32; pass"),
    "a mapping to nothing": ({torch.half: None}, rf"dtype\[torch.float16\]: {ANY} None; pass numpy.float32"),
    "a mapping from what torch cannot cast": (
        {torch.bits8: "f4"},
        r"dtype: expected a mapping from dtypes that torch can cast, got torch.bits8; leave it out and call .view\(",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_dtype_for_it(bridge: tnb.Bridge, device: str, what: str) -> None:
    dtype, words = WRONG[what]
    for convert in (bridge.to_numpy, bridge.to_numpy_async, tnb.to_numpy, tnb.to_numpy_async):
        with pytest.raises(TypeError, match=f"^(?:.*){words}"):
            convert([torch.ones(3, device=device)], dtype=dtype)


def test_what_torch_cannot_cast_is_refused(bridge: tnb.Bridge, device: str) -> None:
    strange = torch.ones(4, dtype=torch.uint8).to(device).view(torch.bits8)
    words = r"^tree\[1\]: expected a dtype that NumPy or ml_dtypes has, got torch.bits8; call .view\(torch.uint8\)"
    before = bridge.stats()
    for dtype in (np.float32, np.uint8, {torch.uint8: np.float32}):
        with pytest.raises(tnb.UnsupportedTensorError, match=words):
            bridge.to_numpy([torch.ones(3, device=device), strange], dtype=dtype)
    assert bridge.stats() == before


def test_arrays_that_do_not_have_the_dtype(bridge: tnb.Bridge, device: str) -> None:
    source = torch.ones(4, device=device)
    before = bridge.stats()
    words = r"^out for tree\['a'\]: expected dtype float64, as dtype= asks for torch.float32, got float32; make it with"
    for convert in (bridge.to_numpy, bridge.to_numpy_async):
        with pytest.raises(TypeError, match=words):
            convert({"a": source}, dtype=np.float64, out={"a": np.zeros(4, np.float32)})
        with pytest.raises(TypeError, match=r"expected dtype float32, as torch\.float32 has it, got float64"):
            convert(source, dtype={torch.float16: np.float64}, out=np.zeros(4))
    assert bridge.stats() == before
