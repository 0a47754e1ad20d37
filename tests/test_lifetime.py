"""Contracts 4, 5 and 7: sources live until the copy has ended and no longer, blocks until nobody needs them."""

from __future__ import annotations

import gc
import weakref
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import hold, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

SIZE = 4096


def fill(value: float, device: str = "fake") -> torch.Tensor:
    return torch.full((SIZE,), float(value), device=device)


def churn(device: str) -> None:
    """Takes all device memory that is free: what was freed too early is overwritten."""
    for _ in range(20):
        fill(-1, device)


def test_the_source_may_be_dropped_in_flight(native_bridge: tnb.Bridge, accelerator: str) -> None:
    native_bridge.to_numpy(fill(0, accelerator))
    source = fill(7, accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async([source, source.view(64, 64)[::2]])
        del source
        churn(accelerator)
    dense, gathered = transfer.result()
    assert (dense == 7).all()
    assert (gathered == 7).all()


def test_the_source_outlives_what_its_stream_does_next(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Only the copy is held: the producer has used again what was freed before it reads, as in vllm#29623."""
    source = fill(7)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async(source)
        del source
        churn("fake")
        wait_until(torch.accelerator.current_stream().record_event().query)
    assert (transfer.result() == 7).all()


def test_what_failed_is_given_back_once_its_copy_has_ended(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Also where nothing is submitted any more: the worker goes on looking."""
    native_bridge.to_numpy(fill(0))
    leased = native_bridge.stats().leased_bytes
    with fake.hold_copies():
        # The event behind the copy; the first record is the producer's. A second attempt at it succeeds.
        with fake.fail("event_record", after=1), pytest.raises(RuntimeError, match="event_record failed"):
            native_bridge.to_numpy_async(fill(1))
        asked = fake.counters().event_queries
        wait_until(lambda: fake.counters().event_queries >= asked + 20)
        assert native_bridge.stats().leased_bytes >= leased + 4 * SIZE
    wait_until(lambda: native_bridge.stats().leased_bytes == leased)


def test_memory_of_other_allocators_is_kept_too(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = fake.foreign_tensor(torch.full((SIZE,), 7.0), "fake")
    with fake.hold():
        torch.zeros(1, device="fake")
        transfer = native_bridge.to_numpy_async(source)
        del source
    assert (transfer.result() == 7).all()


def test_memory_of_a_side_stream_is_kept_too(native_bridge: tnb.Bridge, accelerator: str) -> None:
    side = torch.Stream(accelerator)
    with side:
        source = fill(7, accelerator)
        with hold(accelerator, side):
            transfer = native_bridge.to_numpy_async(source)
            del source
            churn(accelerator)
    assert (transfer.result() == 7).all()


def test_transfer_and_source_may_be_dropped_in_flight(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    native_bridge.to_numpy(fill(0))
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
    with fake.hold():
        transfer = native_bridge.to_numpy_async(fill(7))
        gone = weakref.ref(transfer)
        del transfer
        assert gone() is None
        churn("fake")
        assert fake.counters().device_bytes_live >= before + SIZE * 4
        following = native_bridge.to_numpy_async(fill(8))
    assert (following.result() == 8).all()
    native_bridge.to_numpy(torch.zeros(1, device="fake"))  # a submit sweeps what has landed
    assert fake.counters().device_bytes_live == before


def test_a_block_in_flight_is_not_handed_out(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The first transfer is dropped while its copy has yet to write: its block must not go to the second.

    A buffer that is used again under whoever reads it: vllm-omni#7888.
    """
    quick, slow = torch.zeros(SIZE, device="fake:1"), fill(3)
    native_bridge.to_numpy([quick, slow])
    torch.accelerator.synchronize()
    with fake.hold():
        native_bridge.to_numpy_async(slow)
        arrays = [native_bridge.to_numpy(quick) for _ in range(3)]
    torch.accelerator.synchronize(0)
    assert all((array == 0).all() for array in arrays)


def test_the_bridge_may_be_dropped_in_flight(native: EngineChoice, accelerator: str) -> None:
    bridge = tnb.Bridge(engine=native)
    gone = weakref.ref(bridge)
    source = fill(5, accelerator)
    with hold(accelerator):
        transfer = bridge.to_numpy_async(source)
        del bridge, source
        assert gone() is None
        churn(accelerator)
    assert (transfer.result() == 5).all()


def test_arrays_outlive_everything(engine: EngineChoice, device: str) -> None:
    bridge = tnb.Bridge(engine=engine)
    source = fill(5, device)
    transfer = bridge.to_numpy_async({"x": source})
    array = transfer.result()["x"]
    bridge.close()
    del bridge, transfer, source
    gc.collect()
    other = tnb.Bridge(engine=engine)
    others = other.to_numpy([fill(6, device) for _ in range(10)])
    assert (array == 5).all()
    assert all((one == 6).all() for one in others)


def test_a_view_of_a_view_keeps_the_memory(bridge: tnb.Bridge, device: str) -> None:
    last = bridge.to_numpy(fill(5, device)).reshape(64, 64)[10:20].T[3:, ::2]
    gc.collect()
    others = bridge.to_numpy([fill(6, device) for _ in range(10)])
    assert (last == 5).all()
    assert len(others) == 10


def test_other_libraries_keep_the_memory(bridge: tnb.Bridge, device: str) -> None:
    views: list[Any] = [memoryview(bridge.to_numpy(fill(5, device)))]
    views.append(torch.from_numpy(bridge.to_numpy(fill(5, device))))
    views.append(np.from_dlpack(bridge.to_numpy(fill(5, device))))
    gc.collect()
    others = bridge.to_numpy([fill(6, device) for _ in range(10)])
    assert all((np.asarray(view) == 5).all() for view in views)
    assert len(others) == 10


def test_a_cycle_of_arrays_is_collected(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    class Holder:
        me: Any
        array: Any

    source = fill(5)
    native_bridge.to_numpy(source)
    torch.accelerator.synchronize()
    allocations = fake.counters().host_allocations
    for _ in range(3):
        holder = Holder()
        holder.me, holder.array = holder, native_bridge.to_numpy(source)
        del holder
        gc.collect()
    assert fake.counters().host_allocations == allocations


def test_a_result_keeps_the_memory_of_its_transfer_only(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """What has landed holds no device memory, also where the Transfers are kept and never asked."""
    native_bridge.to_numpy(fill(0))
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
    kept = []
    for turn in range(30):
        kept.append(native_bridge.to_numpy_async(fill(turn)))
        torch.accelerator.synchronize()
    native_bridge.to_numpy_async(torch.zeros(1, device="fake")).result()
    assert fake.counters().device_bytes_live == before
    assert [transfer.result()[0] for transfer in kept] == list(range(30))


@pytest.mark.parametrize("ask", ["done", "result"])
def test_asking_releases_the_source(native_bridge: tnb.Bridge, fake: ModuleType, ask: str) -> None:
    before = fake.counters().device_bytes_live
    transfer = native_bridge.to_numpy_async(fill(7))
    torch.accelerator.synchronize()
    assert fake.counters().device_bytes_live > before
    getattr(transfer, ask)()
    assert fake.counters().device_bytes_live == before


@pytest.mark.usefixtures("copied_by")
def test_a_transfer_is_not_done_before_its_copy(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The producer's stream is past all that it was given, and free for other work; only the copy is held."""
    source = fill(7)
    with fake.hold_copies():
        transfer = native_bridge.to_numpy_async([source, source.view(64, 64)[::2]])
        passed = torch.accelerator.current_stream().record_event()
        wait_until(passed.query)
        assert not transfer.done()
    assert all((array == 7).all() for array in transfer.result())


def test_no_array_is_reachable_in_flight(native_bridge: tnb.Bridge, accelerator: str) -> None:
    source = fill(7, accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(source)
        with pytest.raises(TimeoutError, match="ask again"):
            transfer.result(timeout=0)
        assert "in flight" in repr(transfer)
        values = [getattr(transfer, name, None) for name in type(transfer).__slots__ if name != "__weakref__"]
        assert not any(isinstance(value, np.ndarray) for value in values)
    assert (np.asarray(transfer) == 7).all()
