"""Contract 3: copies run behind what the producer's stream was given before, and nothing but events is waited for."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import Call, assert_silent, hold, run_script, start, torchs_answer, wait_until

import torch_np_bridge as tnb

LEAVES = {
    "dense": lambda x: x,
    "transposed": lambda x: x.t(),
    "gathered": lambda x: x[:, ::2],
    "negated": torch._neg_view,
}


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_copy_waits_for_the_producer(bridge: tnb.Bridge, accelerator: str, leaf: str) -> None:
    x = torch.zeros(8, 6, device=accelerator)
    expected = torchs_answer(LEAVES[leaf](torch.full((8, 6), 3.0)))
    bridge.to_numpy(x)
    with hold(accelerator):
        x += 3
        transfer = start(bridge, LEAVES[leaf](x), accelerator)
        assert not transfer.done()
    assert transfer.result().tobytes() == expected.tobytes()
    assert transfer.done()


def test_to_numpy_waits_too(bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.zeros(1000, device="fake")
    bridge.to_numpy(x)
    copies = fake.counters().copies_d2h
    with fake.hold():
        x += 1
        stream = torch.accelerator.current_stream()

        def convert() -> Any:
            torch.accelerator.set_stream(stream)
            return bridge.to_numpy(x)

        call = Call(convert)
        wait_until(lambda: fake.counters().copies_d2h > copies)
        assert not call.done()
    assert (call.result() == 1).all()


def test_the_current_stream_is_the_producer(bridge: tnb.Bridge, accelerator: str) -> None:
    """Not the stream of the copies, whose context changes what is current: torchtitan#2581."""
    x = torch.zeros(1000, device=accelerator)
    torch.accelerator.synchronize()
    mine = torch.Stream(accelerator)
    with hold(accelerator), mine:  # the default stream is closed, and nobody asks it
        x += 1
        assert (bridge.to_numpy(x) == 1).all()
        with hold(accelerator, mine):
            x += 1
            transfer = start(bridge, x, accelerator)
            assert not transfer.done()
        assert (transfer.result() == 2).all()
        assert torch.accelerator.current_stream() == mine


def test_each_thread_has_a_stream_of_its_own(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = torch.zeros(1000, device=accelerator)
    torch.accelerator.synchronize()
    mine = torch.Stream(accelerator)

    def produce() -> Any:
        with mine:
            x.add_(1)
            return native_bridge.to_numpy_async(x)

    with hold(accelerator, mine):
        transfer = Call(produce).result()
        assert not transfer.done()
    assert (transfer.result() == 1).all()


def test_every_stream_may_be_the_producer(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The pool has four streams and goes round: one of these is the copy stream."""
    native_bridge.to_numpy(torch.zeros(1, device="fake"))
    fake.reset_counters()
    for turn in range(4):
        stream = torch.Stream("fake")
        x = torch.zeros(1000, device="fake")
        torch.accelerator.synchronize()
        with stream, fake.hold(stream):
            x.fill_(turn)
            transfer = native_bridge.to_numpy_async(x)
            assert not transfer.done()
        assert (transfer.result() == turn).all()
    # On the copy stream itself there is nothing to wait for.
    assert fake.counters().event_waits == 3


def test_two_devices_in_one_call(bridge: tnb.Bridge, fake: ModuleType) -> None:
    first, second = (torch.zeros(100, device=f"fake:{index}") for index in (0, 1))
    bridge.to_numpy([first, second])
    fake.reset_counters()
    with fake.hold(torch.accelerator.current_stream(1)):
        first += 1
        second += 2
        transfer = start(bridge, {"first": first, "rest": [second, torch.ones(2)]}, "fake")
        assert not transfer.done()
    result = transfer.result()
    assert (result["first"] == 1).all()
    assert (result["rest"][0] == 2).all()
    assert fake.counters(0).copies_d2h == fake.counters(1).copies_d2h == 1


@pytest.mark.parametrize("current", [0, 1])
def test_the_device_is_the_tensors_own(bridge: tnb.Bridge, fake: ModuleType, current: int) -> None:
    """An event of the current device says nothing about the copy from another: torchrec#3813."""
    x = torch.zeros(100, device=f"fake:{1 - current}")
    torch.accelerator.set_device_index(current)
    try:
        with fake.hold(torch.accelerator.current_stream(1 - current)):
            x += 4
            transfer = start(bridge, [x, x.view(10, 10)[::2]], "fake")
            assert not transfer.done()
            assert torch.accelerator.current_device_index() == current
        assert (transfer.result()[0] == 4).all()
        assert torch.accelerator.current_device_index() == current
    finally:
        torch.accelerator.set_device_index(0)


@pytest.mark.parametrize("without", [set(), {"copy_to_host"}], ids=["driver", "torch"])
def test_no_device_is_touched_but_the_tensors_own(fake: ModuleType, native: str, without: set[str]) -> None:
    """A context on the first device costs its memory for nothing: pytorch#58626."""
    assert_silent(
        run_script(f"""
import threading, torch, fake_device, fake_driver, torch_np_bridge as tnb
fake_driver.register(own_pages=False, without=frozenset({without}))
bridge = tnb.Bridge(engine={native!r})
x = fake_device.foreign_tensor(torch.arange(5.0), 1)
def convert():
    transfer = bridge.to_numpy_async(x)
    transfer.block_stream()
    assert transfer.result().tolist() == [0, 1, 2, 3, 4]
with torch.accelerator.device_index(1):
    y = torch.arange(4.0, device="fake")
transfer = bridge.to_numpy_async([x, y[::2]])
assert transfer.result()[0].tolist() == [0, 1, 2, 3, 4]
fresh = threading.Thread(target=convert)  # of which no device has heard yet
fresh.start()
fresh.join()
del transfer, x, y
bridge.close()
assert not fake_device.counters(0).contexts, "a context was made on fake:0"
""")
    )


def test_only_events_are_waited_for(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.zeros(1000, device="fake")
    tree = {"a": x, "b": [x[::2], x.view(10, 100).t()], "c": torch.ones(3)}
    for _ in range(3):
        native_bridge.to_numpy(tree)
    fake.reset_counters()
    calls = 20
    for turn in range(calls):
        native_bridge.to_numpy(tree) if turn % 2 else native_bridge.to_numpy_async(tree).result()
    counted = fake.counters()
    assert counted.event_records == 2 * calls  # the producer and the end
    assert counted.event_waits == calls
    assert (counted.stream_synchronizes, counted.device_synchronizes, counted.copies_synchronous) == (0, 0, 0)
    assert (counted.event_synchronizes, counted.stream_queries) == (0, 0)
    assert (counted.event_creates, counted.event_destroys) == (0, 0)
    assert counted.host_allocations == 0


def test_what_comes_later_is_not_waited_for(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = torch.ones(100, device=accelerator)
    native_bridge.to_numpy(x)
    transfer = native_bridge.to_numpy_async(x)
    with hold(accelerator):
        torch.ones(100, device=accelerator).add_(1)
        assert (transfer.result() == 1).all()
