"""Contract 6: what a stream is given after `block_stream()` runs behind the copies, and the host does not wait."""

from __future__ import annotations

import unittest.mock
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import Call, hold, interrupt, side_stream

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice


def ones(device: str = "fake", count: int = 1000) -> torch.Tensor:
    return torch.ones(count, device=device)


def test_the_current_stream_waits_for_the_copies(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The copies are held, the producer is not: what it runs now would be seen by them."""
    x = ones()
    native_bridge.to_numpy(x)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async([x, x.view(10, 100)[:, ::2]])
        transfer.block_stream()
        x += 1
        assert not torch.accelerator.current_stream().query()
        assert not transfer.done()
    assert all((array == 1).all() for array in transfer.result())
    assert (native_bridge.to_numpy(x) == 2).all()


def test_another_stream_waits_for_the_copies(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = ones(accelerator)
    torch.accelerator.synchronize()
    side = torch.Stream(accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(x)
        transfer.block_stream(side)
        with side:
            x.fill_(7)
        assert not transfer.done()
        assert not side.query()
    assert (transfer.result() == 1).all()
    side.synchronize()
    assert (native_bridge.to_numpy(x) == 7).all()


def test_other_streams_do_not_wait(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones()
    torch.accelerator.synchronize()
    side = torch.Stream("fake")
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(x)
        transfer.block_stream(side)
        torch.accelerator.current_stream().synchronize()
        assert not transfer.done()
    transfer.result()


def test_a_stream_of_another_device(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x, y = ones("fake:0"), torch.zeros(1000, device="fake:1")
    for index in range(2):
        torch.accelerator.synchronize(index)
    there = torch.accelerator.current_stream(1)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(x)
        transfer.block_stream(there)
        y += 1
        assert not there.query()
        torch.accelerator.current_stream(0).synchronize()
        assert torch.accelerator.current_device_index() == 0
    assert (transfer.result() == 1).all()
    there.synchronize()


def test_each_device_waits_for_its_own_copies(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    tensors = [ones(f"fake:{index}") for index in range(2)]
    native_bridge.to_numpy(tensors)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(tensors)
        transfer.block_stream()
        for index, tensor in enumerate(tensors):
            tensor += 1
            assert not torch.accelerator.current_stream(index).query()
    assert all((array == 1).all() for array in transfer.result())


def test_a_given_stream_waits_for_the_copies_of_all_devices(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    tensors = [ones(f"fake:{index}") for index in range(2)]
    native_bridge.to_numpy(tensors)
    blocked = side_stream(native_bridge, tensors[0])
    with fake.hold(torch.accelerator.current_stream(1)):
        transfer = native_bridge.to_numpy_async(tensors)
        transfer.block_stream(blocked)
        with blocked:
            torch.zeros(10, device="fake:0").add_(1)
        native_bridge.to_numpy(tensors[0])  # behind the other copy of its device, which has ended too
        assert not blocked.query()
    assert all((array == 1).all() for array in transfer.result())


def test_every_thread_blocks_its_own_current_stream(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones()
    native_bridge.to_numpy(x)
    side = torch.Stream("fake")

    def block_and_change(transfer: tnb.Transfer) -> None:
        with side:
            transfer.block_stream()
            x.add_(1)

    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(x)
        Call(lambda: block_and_change(transfer)).result()
        assert not side.query()
        torch.accelerator.current_stream().synchronize()
    assert (transfer.result() == 1).all()


def test_a_change_before_the_call_is_reported(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = ones(accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(x)
        x += 1
        transfer.block_stream()
        x += 1
    with pytest.raises(tnb.SourceMutatedError):
        transfer.result()


def test_a_stream_that_could_not_be_blocked_allows_no_changes(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones()
    native_bridge.to_numpy(x)
    with fake.hold():
        transfer = native_bridge.to_numpy_async(x)
        with fake.fail("event_block"), pytest.raises(RuntimeError, match="event_block failed"):
            transfer.block_stream()
        x += 1
    with pytest.raises(tnb.SourceMutatedError):
        transfer.result()


def test_a_second_attempt_counts(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones()
    native_bridge.to_numpy(x)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(x)
        with fake.fail("event_block"), pytest.raises(RuntimeError, match="event_block failed"):
            transfer.block_stream()
        transfer.block_stream()
        x += 1
    assert (transfer.result() == 1).all()


def test_staged_copies_are_waited_for(native: EngineChoice, fake: ModuleType) -> None:
    """Their worker has recorded no event yet that a stream could wait for: the caller waits, without the GIL."""
    x = ones()
    with tnb.Bridge(engine=native, pinned_limit=0) as bridge:
        with fake.hold():
            transfer = bridge.to_numpy_async(x)
            call = Call(transfer.block_stream)
            assert not call.done()
            assert not transfer.done()
        call.result()
        x += 1
        assert (transfer.result() == 1).all()


def test_ctrl_c_ends_the_wait_for_staged_copies(native: EngineChoice, fake: ModuleType) -> None:
    """And the Transfer stays usable."""
    x = ones()
    with tnb.Bridge(engine=native, pinned_limit=0) as bridge:
        with fake.hold():
            transfer = bridge.to_numpy_async(x)
            interrupt(transfer.block_stream)
            assert not transfer.done()
        transfer.block_stream()
        x += 1
        assert (transfer.result() == 1).all()


def test_what_has_ended_is_not_waited_for(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones()
    transfer = native_bridge.to_numpy_async(x)
    transfer.result()
    fake.reset_counters()
    transfer.block_stream()
    assert fake.counters().event_waits == 0
    x += 1
    assert (transfer.result() == 1).all()


def test_both_engines_and_the_cpu(bridge: tnb.Bridge, device: str) -> None:
    x = ones(device)
    transfer = bridge.to_numpy_async({"x": x, "none": None})
    transfer.block_stream()
    if device != "cpu":
        x += 1
    assert (transfer.result()["x"] == 1).all()
    bridge.to_numpy_async([]).block_stream()


@pytest.mark.parametrize("stream", ["default", 0, object()])
def test_what_is_no_stream_is_refused(bridge: tnb.Bridge, device: str, stream: Any) -> None:
    transfer = bridge.to_numpy_async(ones(device))
    with pytest.raises(TypeError, match=r"expected a torch\.Stream or None, got"):
        transfer.block_stream(stream)
    assert (transfer.result() == 1).all()


def test_a_stream_of_another_device_type_is_refused(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones()
    with fake.hold():
        transfer = native_bridge.to_numpy_async(x)
        with pytest.raises((RuntimeError, TypeError), match=r"CPU|cpu"):
            transfer.block_stream(torch.Stream(device="cpu"))
        x += 1
    with pytest.raises(tnb.SourceMutatedError):
        transfer.result()


def test_what_only_says_that_it_is_a_stream(bridge: tnb.Bridge, accelerator: str) -> None:
    transfer = bridge.to_numpy_async(torch.ones(3, device=accelerator))
    with pytest.raises(TypeError, match=r"expected a torch\.Stream or None, got Mock"):
        transfer.block_stream(unittest.mock.Mock(spec=torch.Stream))
    assert transfer.result().tolist() == [1, 1, 1]
