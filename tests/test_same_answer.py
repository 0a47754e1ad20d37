"""Contract 1: the arrays are torch's own answer, bit for bit, on every engine and device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_array, torchs_answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import Case, cases

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.dtypes import NUMPY_DTYPES

DTYPES = sorted(NUMPY_DTYPES, key=str)
floats = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64], ids=str)


@pytest.fixture(scope="module")
def bridge(engine: EngineChoice) -> Iterator[tnb.Bridge]:
    """One for all examples of hypothesis; it replaces the bridge of each test."""
    with tnb.Bridge(engine=engine) as opened:
        yield opened


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=25)
@given(data=st.data())
def test_every_dtype_under_every_layout(
    bridge: tnb.Bridge, device: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    case: Case = data.draw(cases(dtype))
    source = case.build(device)
    got = bridge.to_numpy(source)
    assert_same_array(got, torchs_answer(source))
    assert got.tobytes() == torchs_answer(case.build("cpu")).tobytes()
    assert_same_array(bridge.to_numpy_async(source).result(), torchs_answer(source))
    assert_same_array(tnb.to_numpy(source), torchs_answer(source))  # the C function, where the engine is native


@settings(max_examples=50)
@given(data=st.data())
def test_a_fresh_copy_has_the_same_values(bridge: tnb.Bridge, device: str, data: st.DataObject) -> None:
    case: Case = data.draw(st.sampled_from(DTYPES).flatmap(cases))
    source = case.build(device)
    got = bridge.to_numpy(source, copy=True)
    expected = torchs_answer(source.detach().clone())
    assert_same_array(got, expected)
    assert not np.shares_memory(got, torchs_answer(source))


@pytest.mark.usefixtures("packing")
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_many_leaves_of_both_ways_to_copy_them(accelerator: str, data: st.DataObject) -> None:
    drawn: list[Case] = data.draw(st.lists(st.sampled_from(DTYPES).flatmap(cases), min_size=2, max_size=20))
    sources = [case.build(accelerator) for case in drawn]
    with tnb.Bridge(engine="native") as native_bridge:
        for got, source in zip(native_bridge.to_numpy(sources), sources, strict=True):
            assert_same_array(got, torchs_answer(source))


@settings(max_examples=50)
@given(data=st.data())
def test_many_leaves_of_one_call(bridge: tnb.Bridge, device: str, data: st.DataObject) -> None:
    drawn: list[Case] = data.draw(st.lists(st.sampled_from(DTYPES).flatmap(cases), max_size=6))
    sources = [case.build(device) for case in drawn]
    for got, source in zip(bridge.to_numpy(sources), sources, strict=True):
        assert_same_array(got, torchs_answer(source))


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=str)
def test_strides_stay_those_of_the_tensor(bridge: tnb.Bridge, device: str, memory_format: torch.memory_format) -> None:
    images = torch.rand(2, 3, 4, 5).to(memory_format=memory_format).to(device)
    assert_same_array(bridge.to_numpy(images), torchs_answer(images))
    matrix = torch.rand(7, 3).to(device)
    assert bridge.to_numpy(matrix.t()).strides == (4, 12)


def test_huge_strides(bridge: tnb.Bridge, device: str) -> None:
    far_apart = torch.arange(2_000_003, dtype=torch.int32).to(device).as_strided((3, 2), (1, 2_000_000))
    assert_same_array(bridge.to_numpy(far_apart), torchs_answer(far_apart))
    nowhere = torch.empty(1, dtype=torch.uint8, device=device).as_strided((1, 0), (2**60, 2**61))
    assert_same_array(bridge.to_numpy(nowhere), torchs_answer(nowhere))


def test_as_many_dimensions_as_numpy_has(bridge: tnb.Bridge, device: str) -> None:
    deep = torch.arange(4.0).to(device).view([2] + [1] * 62 + [2])
    assert_same_array(bridge.to_numpy(deep), torchs_answer(deep))


@floats
def test_parameters_and_plain_subclasses(bridge: tnb.Bridge, device: str, dtype: torch.dtype) -> None:
    class Tagged(torch.Tensor):
        pass

    values = torch.randn(3, 4, dtype=dtype).to(device)
    parameter = torch.nn.Parameter(values)
    assert_same_array(bridge.to_numpy(parameter), torchs_answer(values))
    tagged = values.as_subclass(Tagged)
    assert type(bridge.to_numpy(tagged)) is np.ndarray
    assert_same_array(bridge.to_numpy([tagged])[0], torchs_answer(values))


@floats
def test_results_of_a_graph(bridge: tnb.Bridge, device: str, dtype: torch.dtype) -> None:
    leaf = torch.randn(3, 4, dtype=dtype).to(device).requires_grad_()
    result = leaf * 2
    assert_same_array(bridge.to_numpy(result), torchs_answer(result))
    assert result.requires_grad
    assert result.grad_fn is not None


def test_copy_on_write_storages(bridge: tnb.Bridge) -> None:
    original = torch.arange(6.0)
    lazy = torch._lazy_clone(original)
    array = bridge.to_numpy(lazy)
    array += 10
    assert original.tolist() == [0, 1, 2, 3, 4, 5]
    assert array.tolist() == [10, 11, 12, 13, 14, 15]


@pytest.mark.parametrize(
    "mode",
    [
        torch.inference_mode,
        torch.no_grad,
        torch.enable_grad,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["inference_mode", "no_grad", "enable_grad", "autocast", "default device meta"],
)
def test_modes_of_torch_change_nothing(bridge: tnb.Bridge, device: str, mode: object) -> None:
    dense = torch.randn(4, 6).to(device).requires_grad_()
    expected = torchs_answer(dense[::2])
    with mode():  # type: ignore[operator]
        got = bridge.to_numpy(dense[::2])
        turned = bridge.to_numpy(torch.randn(3, dtype=torch.complex64, device=device).conj())
    assert_same_array(got, expected)
    assert turned.shape == (3,)


def test_fake_tensor_mode_leaves_real_tensors_alone(bridge: tnb.Bridge, device: str) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    dense = torch.arange(24.0).view(4, 6).to(device)
    for real in (dense, dense[:, ::2], torch.view_as_complex(dense.view(4, 3, 2)).conj()):
        with FakeTensorMode():
            shared = bridge.to_numpy(real)
            fresh = bridge.to_numpy(real, copy=True)
        assert_same_array(shared, torchs_answer(real))
        assert_same_array(fresh, torchs_answer(real.clone()))


TRANSFORMS: dict[str, Callable[[Callable[[torch.Tensor], torch.Tensor]], Any]] = {
    "vmap": lambda f: torch.func.vmap(f)(torch.ones(2, 3)),
    "grad": lambda f: torch.func.grad(f)(torch.ones(3)),
    "functionalize": lambda f: torch.func.functionalize(f)(torch.ones(3)),
}


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_leave_plain_tensors_alone(
    engine: EngineChoice, device: str, transform: str, limit: int | None
) -> None:
    """Tensors from outside of the function that is transformed; what it is given is wrapped, and refused."""
    real = torch.arange(12.0).view(3, 4).to(device)
    sources = [real, real[:, ::2], torch.view_as_complex(real.view(3, 2, 2)).conj()]
    results: list[Any] = []

    def convert(wrapped: torch.Tensor) -> torch.Tensor:
        results.append(limited.to_numpy(sources))
        results.append(limited.to_numpy(sources, copy=True))
        results.append(limited.to_numpy_async(sources, snapshot=True).result())
        return wrapped.sum()

    with tnb.Bridge(engine=engine, pinned_limit=limit) as limited:
        TRANSFORMS[transform](convert)
    for arrays in results:
        for array, source in zip(arrays, sources, strict=True):
            assert np.array_equal(array, torchs_answer(source))


def test_a_default_dtype_changes_nothing(bridge: tnb.Bridge, device: str) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        single = torch.ones(3, dtype=torch.float32).to(device)
        assert bridge.to_numpy(single).dtype == np.float32
    finally:
        torch.set_default_dtype(before)
