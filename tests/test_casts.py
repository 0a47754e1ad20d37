"""`dtype=`: casts are made by torch on the tensor's own device, before the copy, and equal its `.to` bit for bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from helpers import assert_same_array, assert_silent, hold, run_script, torchs_answer

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.dtypes import NUMPY_DTYPES, TORCH_DTYPES

pytestmark = pytest.mark.filterwarnings("ignore:Casting complex values to real")

DTYPES = sorted(NUMPY_DTYPES, key=str)
MIB = 1 << 20
NAN, INF = float("nan"), float("inf")
# What is special to some cast or other: signs of zero, what is no number, and the ends of each range, from both sides.
SPECIAL = [
    *[0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, NAN, -NAN, INF, -INF, 1e-8, -1e-8, 1e-40, 1e-310, 1e30, 1e300, -1e300],
    *[127.0, 128.0, -129.0, 255.0, 256.0, 240.0, 448.0, 449.0, 464.0, 480.0, 32768.0, 57344.0, 61440.0, 65504.0],
    *[65520.0, 65536.0, 2.0**31, -(2.0**31) - 1, 2.0**32, 2.0**53 + 2, 2.0**63, 2.0**64, -(2.0**63), 3.4028236e38],
]


@pytest.fixture(scope="module")
def bridge(engine: EngineChoice) -> Iterator[tnb.Bridge]:
    """One for all tests of this file, but for those that look at counters."""
    with tnb.Bridge(engine=engine) as opened:
        yield opened


def values_of(dtype: torch.dtype, device: str) -> torch.Tensor:
    """What is special to some cast, and random bits."""
    raw = torch.randint(0, 256, (64 * dtype.itemsize,), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    bits = (raw & 1 if dtype == torch.bool else raw).view(dtype)
    if not dtype.is_floating_point and not dtype.is_complex:
        return bits.to(device)
    special = torch.tensor(SPECIAL, dtype=torch.float64)
    if dtype.is_complex:
        special = torch.complex(special, special.flip(0))
    return torch.cat([special.to(dtype).view(torch.uint8), bits.view(torch.uint8)]).view(dtype).to(device)


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_every_pair(bridge: tnb.Bridge, device: str, source: torch.dtype) -> None:
    values = values_of(source, device)
    for target, wanted in NUMPY_DTYPES.items():
        for tensor in (values, values[::3], values[:0], values[0], values[:64].view(4, 16).t()):
            expected = torchs_answer(tensor, target)
            assert expected.dtype == wanted
            assert_same_array(bridge.to_numpy(tensor, dtype=wanted), expected)
            assert_same_array(bridge.to_numpy_async([tensor], dtype={source: wanted}).result()[0], expected)


LAZY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "negated": torch._neg_view,
    "negated and strided": lambda x: torch._neg_view(x)[::2],
    "conjugated": torch.conj,
    "imaginary part of a conjugate": lambda x: torch.conj(x).imag,
}


@pytest.mark.parametrize("source", [torch.int8, torch.int64, torch.float32, torch.complex64, torch.complex128], ids=str)
def test_lazy_bits_are_resolved_before_the_cast(bridge: tnb.Bridge, device: str, source: torch.dtype) -> None:
    """-128 of eight bits is its own negative, 128 is not; and of what a cast may give, torch negates only a part."""
    values = torch.tensor([-128.0, -1.0, 0.0, 5.0, 100.0] * 3, dtype=torch.float64).to(source)
    values = (values * (1 - 2j) if source.is_complex else values).to(device)
    for kind, make in LAZY.items():
        if "conj" in kind and not source.is_complex:
            continue
        lazy = make(values)
        assert lazy.is_neg() or lazy.is_conj()
        for target, wanted in NUMPY_DTYPES.items():
            if target != lazy.dtype:
                expected = torchs_answer(lazy, target)
                assert_same_array(bridge.to_numpy(lazy, dtype=wanted), expected)
                assert_same_array(bridge.to_numpy_async(lazy, dtype=wanted, snapshot=True).result(), expected)


def test_torchs_warning_is_torchs(bridge: tnb.Bridge, device: str) -> None:
    """What a cast loses, torch says once in a process; always, where it is asked to."""
    torch.set_warn_always(True)
    try:
        for dtype in (np.float32, {torch.complex64: np.int32}):
            with pytest.warns(UserWarning, match="Casting complex values to real discards the imaginary part"):
                array = bridge.to_numpy(torch.tensor([2 + 3j]).to(device), dtype=dtype)
            assert array.tolist() == [2]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match="discards"):
                bridge.to_numpy(torch.tensor([2 + 3j]).to(device), dtype=np.float32)
        assert bridge.to_numpy(torch.tensor([3j]).to(device), dtype=bool).tolist() == [True]
    finally:
        torch.set_warn_always(False)


def test_nothing_is_printed(engine: EngineChoice) -> None:
    script = f"""
import torch, warnings, torch_np_bridge as tnb
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    tnb.Bridge(engine={engine!r}).to_numpy([torch.ones(3, dtype=torch.complex64)], dtype=float)
assert len(caught) == 1 and "imaginary" in str(caught[0].message), caught
"""
    assert_silent(run_script(script))


def test_the_device_casts(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """One operation of the device, and no more bytes on their way than the array has."""
    source = torch.ones(100, 100, device="fake")
    for tensor, copies in ((source, 1), (source[:, ::2], 1), (source.to(torch.float16), 0)):
        native_bridge.to_numpy(tensor, dtype=np.float16)
        fake.reset_counters()
        array = native_bridge.to_numpy_async(tensor, dtype=np.float16).result()
        counted = fake.counters()
        assert (counted.copies_d2d, counted.copies_d2h) == (copies, 1)
        assert (counted.bytes_d2h, counted.copies_synchronous) == (array.nbytes, 0)
        assert (counted.event_records, counted.event_waits) == (2, 1)


def test_a_snapshot_casts_at_once(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Nothing is cloned first; the values are those of the call."""
    source = torch.ones(100, device="fake")
    native_bridge.to_numpy_async(source, dtype=np.float16, snapshot=True).result()
    fake.reset_counters()
    with hold("fake"):
        transfer = native_bridge.to_numpy_async(source, dtype={torch.float32: np.float16}, snapshot=True)
        source.zero_()
    assert (transfer.result() == 1).all()
    assert (fake.counters().copies_d2d, fake.counters().copies_d2h) == (1, 1)


def test_a_change_in_flight_is_seen(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.ones(100, device="fake")
    with hold("fake"):
        transfer = native_bridge.to_numpy_async({"x": source}, dtype=np.float64)
        source.zero_()
    with pytest.raises(tnb.SourceMutatedError, match=r"tree\['x'\]"):
        transfer.result()


LARGE: dict[str, tuple[torch.dtype, Any]] = {
    "narrower": (torch.float32, np.float16),
    "wider": (torch.int16, np.float64),
    "complex": (torch.complex64, np.float32),
}
VIEWS: list[Callable[[torch.Tensor], torch.Tensor]] = [
    lambda x: x,
    lambda x: x.t(),
    lambda x: x[:, 5:-3],
    lambda x: x[::3, ::2],
]


@pytest.mark.parametrize("kind", LARGE)
def test_large_leaves_need_little_device_memory(native_bridge: tnb.Bridge, fake: ModuleType, kind: str) -> None:
    source_dtype, target = LARGE[kind]
    values = torch.arange(6 * MIB, dtype=torch.int32) % 1000
    on_host = values.to(source_dtype).view(2048, 3072)
    source = on_host.to("fake")
    native_bridge.to_numpy(source.t(), dtype=target)
    fake.reset_counters()
    before = fake.counters().device_bytes_live
    for take in VIEWS:
        array = native_bridge.to_numpy_async(take(source), dtype=target).result()
        assert_same_array(array, torchs_answer(take(on_host), TORCH_DTYPES[np.dtype(target)]))
    assert fake.counters().device_bytes_peak - before <= 8 * MIB + 1 * MIB


def test_lazy_leaves_need_little_device_memory(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.ones(1024, 3072, dtype=torch.complex128, device="fake").conj()
    native_bridge.to_numpy(source, dtype=np.float16)
    fake.reset_counters()
    before = fake.counters().device_bytes_live
    assert (native_bridge.to_numpy_async(source, dtype=np.float16).result() == 1).all()
    assert fake.counters().device_bytes_peak - before <= 16 * MIB  # a slab as it was, and cast


LIMITS = {"plain": 0, "ring": 16 * MIB}


@pytest.mark.parametrize("limit", LIMITS)
def test_beyond_the_limit(native: EngineChoice, fake: ModuleType, limit: str) -> None:
    values = (torch.arange(3 * MIB) % 1000).to(torch.float32)
    large = values.to("fake")
    sources = [large, large.view(1024, 3072)[:, ::2], large[:7], large[0]]
    with tnb.Bridge(engine=native, pinned_limit=LIMITS[limit]) as bridge:
        wanted: list[type[Any]] = [np.float16, np.float64, np.int32]
        for dtype in wanted:
            answers = [torchs_answer(source, TORCH_DTYPES[np.dtype(dtype)]) for source in sources]
            for arrays in (bridge.to_numpy_async(sources, dtype=dtype).result(), bridge.to_numpy(sources, dtype=dtype)):
                for array, answer in zip(arrays, answers, strict=True):
                    assert_same_array(array, answer)
            spread = np.full((1024, 3072), -1, dtype)
            bridge.to_numpy_async(sources[1], dtype=dtype, out=spread[:, ::2]).result()
            assert (spread[:, ::2] == answers[1]).all()
            assert (spread[:, 1::2] == -1).all()
        assert bridge.stats().held_bytes <= LIMITS[limit]


def test_arrays_of_the_callers(bridge: tnb.Bridge, device: str) -> None:
    """Of the dtype that is asked for, whatever their memory and their strides are."""
    source = (torch.arange(1200, dtype=torch.int32) % 100).view(30, 40).to(device)
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        outs = [
            np.zeros((30, 40), dtype),
            np.zeros((40, 30), dtype).T,
            np.zeros((30, 80), dtype)[:, ::2],
            bridge.empty((30, 40), dtype),
            bridge.empty((40, 30), dtype).T,
        ]
        for out in outs:
            for tensor in (source, source.clone().t().contiguous().t(), torch._neg_view(-source)):
                out[...] = 0
                assert bridge.to_numpy(tensor, dtype=dtype, out=out) is out
                assert (out == np.arange(1200).reshape(30, 40) % 100).all()
                transfer = bridge.to_numpy_async([tensor], dtype={torch.int32: dtype}, out=[out], snapshot=True)
                assert transfer.result()[0] is out


def test_arrays_that_overlap_by_what_they_get(bridge: tnb.Bridge, device: str) -> None:
    """Their bytes count, not those of the tensors."""
    tensors = [torch.ones(4, dtype=torch.float16).to(device), torch.full((4,), 2.0, dtype=torch.float64).to(device)]
    memory = np.zeros(8, np.float32)
    bridge.to_numpy(tensors, dtype=np.float32, out=[memory[:4], memory[4:]])
    assert memory.tolist() == [1, 1, 1, 1, 2, 2, 2, 2]
    for out in ([memory[:4], memory[3:7]], [memory[3:7], memory[:4]]):
        with pytest.raises(ValueError, match="shares memory with another"):
            bridge.to_numpy(tensors, dtype=np.float32, out=out)
