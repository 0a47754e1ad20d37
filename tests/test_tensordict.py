"""TensorDicts come back as TensorDicts with arrays inside, by what they registered with torch's pytree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_array, torchs_answer

import torch_np_bridge as tnb

tensordict: Any = pytest.importorskip("tensordict", "0.15", reason="expected tensordict 0.15 or newer, got none")
TensorDict: Any = tensordict.TensorDict


def make(device: str) -> Any:
    inner = TensorDict(
        {"c": torch.arange(3.0).to(device), "half": torch.ones(3, 2, dtype=torch.bfloat16).to(device)}, [3]
    )
    return TensorDict({"a": torch.arange(12).view(3, 4).to(device).t().t(), "b": inner, "note": "text"}, [3])


def assert_converted(got: Any, source: Any) -> None:
    assert type(got) is type(source)
    assert got.batch_size == source.batch_size
    assert got.device is None  # arrays are on none
    assert_same_array(got["a"], torchs_answer(source["a"]))
    assert type(got["b"]) is type(source["b"])
    for key in ("c", "half"):
        assert_same_array(got["b", key], torchs_answer(source["b", key]))
    assert got["note"] == "text"


@pytest.mark.parametrize("named", [False, True])
def test_a_nested_one(bridge: tnb.Bridge, device: str, named: bool) -> None:
    source = make(device)
    if named:
        source = source.refine_names("time")
    assert_converted(bridge.to_numpy(source), source)
    assert_converted(bridge.to_numpy({"batch": [source]})["batch"][0], source)
    assert_converted(bridge.to_numpy_async([source]).result()[0], source)
    assert bridge.to_numpy(source).names == source.names


def test_one_with_a_device(bridge: tnb.Bridge, device: str) -> None:
    """Nothing is copied back to it."""
    got = bridge.to_numpy(make(device).to(device))
    assert type(got["a"]) is np.ndarray
    assert got.device is None


def test_a_tensorclass(bridge: tnb.Bridge, device: str) -> None:
    @tensordict.tensorclass
    class Batch:
        image: torch.Tensor
        label: str

    made: Any = Batch
    source = made(image=torch.ones(2, 3).to(device), label="cat", batch_size=[2])
    got = bridge.to_numpy([source])[0]
    assert type(got) is made
    assert got.label == "cat"
    assert_same_array(got.image, torchs_answer(source.image))


def test_a_lazy_stack(bridge: tnb.Bridge, device: str) -> None:
    """Its parts are converted, not their stack."""
    parts = [TensorDict({"a": torch.full((2,), float(index)).to(device)}, []) for index in range(3)]
    got = bridge.to_numpy([tensordict.lazy_stack(parts)])[0]
    assert [part["a"].tolist() for part in got.tensordicts] == [[0, 0], [1, 1], [2, 2]]


def test_what_is_refused_inside(bridge: tnb.Bridge) -> None:
    source = TensorDict({"a": torch.ones(3), "b": TensorDict({"s": torch.eye(3).to_sparse()}, [])}, [])
    with pytest.raises(tnb.UnsupportedTensorError, match=r"^tree\['td'\]\['b'\]\['s'\]: expected a strided tensor"):
        bridge.to_numpy({"td": source})
