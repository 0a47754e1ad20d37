"""`snapshot=True`: the values of the moment of the call, so that the source may be overwritten at once."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import assert_same_array, hold, start, torchs_answer, wait_until
from hypothesis import given
from hypothesis import strategies as st
from layouts import Case, cases

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dense": lambda x: x,
    "transposed": lambda x: x.t(),
    "strided": lambda x: x[::2, 1::3],
    "a row": lambda x: x[3],
    "expanded": lambda x: x[:1].expand(5, 12),
    "negated": torch._neg_view,
    "conjugated": lambda x: x.view(-1, 2).view(torch.complex64).conj(),
    "zero-dimensional": lambda x: x[0, 0],
    "empty": lambda x: x[:0],
    "with a gradient": lambda x: x.detach().requires_grad_(),
}


def numbers(device: str) -> torch.Tensor:
    return torch.arange(96.0).view(8, 12).to(device)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_source_may_be_overwritten_at_once(bridge: tnb.Bridge, device: str, layout: str) -> None:
    x = numbers(device)
    source = LAYOUTS[layout](x)
    expected = torchs_answer(LAYOUTS[layout](numbers(device)))
    transfer = bridge.to_numpy_async({"a": [source, "text"]}, snapshot=True)
    x.zero_()
    array, text = transfer.result()["a"]
    assert text == "text"
    assert array.tobytes() == expected.tobytes()
    assert (array.dtype, array.shape) == (expected.dtype, expected.shape)
    if device != "cpu":
        assert_same_array(array, expected)


@pytest.mark.parametrize("value", [None, 1, "yes", np.True_, np.ones(3)])
def test_it_is_true_or_false(bridge: tnb.Bridge, device: str, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^expected snapshot to be True or False, got "):
        bridge.to_numpy_async(numbers(device), snapshot=value)


@given(st.sampled_from([torch.float32, torch.bfloat16, torch.complex64, torch.uint8]).flatmap(cases))
def test_a_snapshot_is_the_same_answer(engine: EngineChoice, accelerator: str, case: Case) -> None:
    source = case.build(accelerator)
    with tnb.Bridge(engine=engine) as bridge:
        assert_same_array(bridge.to_numpy_async(source, snapshot=True).result(), torchs_answer(source))


def test_a_static_output_is_overwritten_in_flight(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """As a captured graph does: the same memory holds the output of each replay."""
    output = torch.zeros(1000, device=accelerator)
    with hold(accelerator):
        transfers = []
        for step in range(5):
            output.fill_(step)
            transfers.append(native_bridge.to_numpy_async([output, output[::2]], snapshot=True))
        assert not any(transfer.done() for transfer in transfers)
    for step, transfer in enumerate(transfers):
        assert all((array == step).all() for array in transfer.result())


def test_the_producer_goes_on_while_the_copy_is_held(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The clone is behind the producer's work and before what it is given next; the copy may take its time."""
    x = torch.ones(1000, device="fake")
    native_bridge.to_numpy(x)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(x, snapshot=True)
        x += 1
        torch.accelerator.current_stream().synchronize()
        assert not transfer.done()
    assert (transfer.result() == 1).all()


def test_the_clone_is_made_on_the_current_stream(bridge: tnb.Bridge, accelerator: str) -> None:
    x = torch.zeros(1000, device=accelerator)
    torch.accelerator.synchronize()
    side = torch.Stream(accelerator)
    if bridge.engine_info().engine == "python":
        with side:
            x.fill_(3)
            assert (bridge.to_numpy_async(x, snapshot=True).result() == 3).all()
        return
    with side, hold(accelerator, side):
        x.fill_(3)
        transfer = bridge.to_numpy_async(x, snapshot=True)
        x.fill_(4)
        assert not transfer.done()
    assert (transfer.result() == 3).all()


def test_several_devices(bridge: tnb.Bridge, fake: ModuleType) -> None:
    tensors = [torch.full((500,), 1.0, device=f"fake:{index}") for index in range(2)]
    transfer = bridge.to_numpy_async(tensors, snapshot=True)
    for tensor in tensors:
        tensor.zero_()
    assert all((array == 1).all() for array in transfer.result())
    assert torch.accelerator.current_device_index() == 0


def test_snapshots_of_the_cpu_have_memory_of_their_own(bridge: tnb.Bridge) -> None:
    x = torch.ones(3)
    y = bridge.to_numpy_async([x, x.t()], snapshot=True).result()
    assert not any(np.shares_memory(array, x.numpy()) for array in y)
    assert bridge.to_numpy_async(x).result().ctypes.data == x.data_ptr()


def test_inference_tensors(bridge: tnb.Bridge, device: str) -> None:
    with torch.inference_mode():
        x = torch.ones(100, device=device)
    transfer = bridge.to_numpy_async(x, snapshot=True)
    with torch.inference_mode():
        x += 1
    assert (transfer.result() == 1).all()


def test_autograd_does_not_see_it(bridge: tnb.Bridge, device: str) -> None:
    x = torch.ones(100).to(device).requires_grad_()
    y = x * 2
    version = y._version
    bridge.to_numpy_async(y, snapshot=True).result()
    y.sum().backward()
    assert y._version == version
    assert x.grad is not None
    assert (x.grad.cpu() == 2).all()


def test_the_memory_of_the_clone_is_given_back(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.ones(50_000, device="fake")
    native_bridge.to_numpy(x)
    before = fake.counters().device_bytes_live
    with fake.hold():
        transfer = native_bridge.to_numpy_async(x, snapshot=True)
        assert fake.counters().device_bytes_live >= before + x.nbytes
        del x  # not needed any more
        assert fake.counters().device_bytes_live == before
    assert (transfer.result() == 1).all()
    assert fake.counters().device_bytes_live <= before - 200_000


def test_the_clone_outlives_a_dropped_transfer(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.ones(50_000, device="fake")
    native_bridge.to_numpy(x)
    before = fake.counters().device_bytes_live
    with fake.hold():
        native_bridge.to_numpy_async(x, snapshot=True)
        assert fake.counters().device_bytes_live >= before + x.nbytes
    wait_until(lambda: fake.counters().device_bytes_live == before)


def test_staged_snapshots(native: EngineChoice, fake: ModuleType) -> None:
    with tnb.Bridge(engine=native, pinned_limit=0) as bridge:
        x = torch.ones(1000, device="fake")
        with fake.hold():
            transfer = bridge.to_numpy_async([x, x[::2]], snapshot=True)
            x += 1
            assert not transfer.done()
        assert all((array == 1).all() for array in transfer.result())
        assert (bridge.to_numpy(x) == 2).all()


@pytest.mark.parametrize("call", ["device_alloc", "copy_d2d"])
def test_a_clone_that_fails(native_bridge: tnb.Bridge, fake: ModuleType, call: str) -> None:
    x = torch.ones(777, device="fake")
    native_bridge.to_numpy_async(x, snapshot=True).result()
    torch.accelerator.empty_cache()
    before: Any = fake.counters()
    with fake.fail(call) as failure, pytest.raises(RuntimeError, match=f"{call} failed"):
        native_bridge.to_numpy_async([x, x], snapshot=True)
    assert failure.delivered == 1
    after: Any = fake.counters()
    assert after.device_bytes_live == before.device_bytes_live
    assert after.copies_d2h == before.copies_d2h
    assert (native_bridge.to_numpy_async(x, snapshot=True).result() == 1).all()


def test_it_costs_no_more_waits(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.ones(1000, device="fake")
    for _ in range(3):
        native_bridge.to_numpy_async(x, snapshot=True).result()
    fake.reset_counters()
    native_bridge.to_numpy_async(x, snapshot=True).result()
    counted = fake.counters()
    assert (counted.event_records, counted.event_waits, counted.event_creates) == (2, 1, 0)
    assert (counted.copies_d2d, counted.copies_d2h, counted.device_allocations) == (1, 1, 0)
    assert counted.stream_synchronizes == counted.device_synchronizes == 0


def test_without_a_snapshot_the_tensor_itself_is_copied(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.ones(1000, device="fake")
    fake.reset_counters()
    assert (start(native_bridge, x, "fake").result() == 1).all()
    assert fake.counters().copies_d2d == 0
