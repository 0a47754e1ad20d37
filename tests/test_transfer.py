"""`Transfer`: done, result, exception, timeouts, and NumPy's own way of asking for an array."""

from __future__ import annotations

import asyncio
import copy
import ctypes
import functools
import pickle
import time
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Call, hold, interrupt

import torch_np_bridge as tnb

HUGE, HUGE_NEGATIVE = pytest.param(10**400, id="huge"), pytest.param(-(10**400), id="huge negative")


def test_a_result_is_the_same_object_each_time(bridge: tnb.Bridge, device: str) -> None:
    transfer = bridge.to_numpy_async({"a": torch.ones(3, device=device)})
    first = transfer.result()
    assert transfer.result() is first
    assert transfer.result(timeout=0) is first
    assert transfer.done()
    assert transfer.exception() is None
    assert "done" in repr(transfer)


def test_done_never_waits(native_bridge: tnb.Bridge, accelerator: str) -> None:
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(torch.ones(3, device=accelerator))
        assert not transfer.done()
        assert repr(transfer) == "<torch_np_bridge.Transfer in flight>"
    transfer.result()
    assert transfer.done()


@pytest.mark.parametrize("timeout", [0, 0.0, 1e-9, 0.01, -1, -1e300, float("-inf"), HUGE_NEGATIVE])
def test_a_timeout_ends_the_wait_and_not_the_transfer(
    native_bridge: tnb.Bridge, accelerator: str, timeout: float
) -> None:
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(torch.ones(3, device=accelerator))
        start = time.monotonic()
        for ask in (transfer.result, transfer.exception):
            with pytest.raises(TimeoutError, match="ask again later"):
                ask(timeout=timeout)
        assert time.monotonic() - start >= 2 * max(timeout, 0)
    assert transfer.result(timeout=60).tolist() == [1, 1, 1]


LONG = [None, 1e300, float("inf"), 60, HUGE, Fraction(10**6), np.float32(60), np.int64(60)]


@pytest.mark.parametrize("timeout", LONG)
def test_long_timeouts(bridge: tnb.Bridge, device: str, timeout: float | None) -> None:
    assert bridge.to_numpy_async(torch.ones(3, device=device)).result(timeout).tolist() == [1, 1, 1]


@pytest.mark.parametrize("timeout", ["soon", [], float("nan"), np.float64("nan"), 1j, np.ones(1)])
def test_timeouts_that_are_none(bridge: tnb.Bridge, device: str, timeout: object) -> None:
    transfer = bridge.to_numpy_async(torch.ones(3, device=device))
    with pytest.raises((TypeError, ValueError)):
        transfer.result(timeout)  # type: ignore[arg-type]


def test_ctrl_c_ends_the_wait(native_bridge: tnb.Bridge, accelerator: str) -> None:
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(torch.ones(3, device=accelerator))
        interrupt(transfer.result)
        interrupt(native_bridge.close)
    assert transfer.result().tolist() == [1, 1, 1]


def test_numpy_may_ask(bridge: tnb.Bridge, device: str) -> None:
    transfer = bridge.to_numpy_async(torch.tensor([1.5, 2.5], device=device))
    plain = np.asarray(transfer)
    assert plain is transfer.result()
    assert np.asarray(transfer, dtype=np.int64).tolist() == [1, 2]
    assert np.asarray(transfer, dtype=np.float64).dtype == np.float64
    fresh = np.array(transfer)
    assert not np.shares_memory(fresh, plain)
    assert np.asarray(transfer, copy=False) is plain
    with pytest.raises(ValueError, match="copy"):
        np.asarray(transfer, dtype=np.int64, copy=False)
    assert np.add(transfer, 1).tolist() == [2.5, 3.5]


def test_numpy_waits(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """Who reads early gets garbage of a tensor that is being copied: pytorch#127612, tensordict#725, InvokeAI#6624."""
    x = torch.zeros(1000, device=accelerator)
    latch = hold(accelerator)
    x += 1
    transfer = native_bridge.to_numpy_async(x)
    assert not transfer.done()
    latch.release()
    assert (np.asarray(transfer) == 1).all()


def test_a_loop_that_concatenates_its_results(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """The sum of all batches, each of which is still on its way when it is added: pytorch#137951."""
    gathered: Any = np.empty(0, np.float32)
    for batch in range(3):
        with hold(accelerator):
            later = native_bridge.to_numpy_async(torch.full((1000,), float(batch), device=accelerator))
            call = Call(functools.partial(np.concatenate, [gathered, later]))
            assert not later.done()
        gathered = call.result()
    assert (gathered == np.repeat([0, 1, 2], 1000)).all()


def test_a_long_wait_does_not_spin(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Nor does it take a core from whoever computes: sglang#2089.

    For 50 µs it asks without a pause, some 500 times here and more on a faster machine, then 2000 times a second in the
    end; who begins anew at each look for signals asks 10,000 times, who never pauses millions of times.
    """
    with hold("fake"):
        transfer = native_bridge.to_numpy_async(torch.ones(3, device="fake"))
        fake.reset_counters()
        with pytest.raises(TimeoutError):
            transfer.result(timeout=1)
        assert 0 < fake.counters().event_queries < 6_000
    assert transfer.result().tolist() == [1, 1, 1]


def test_a_wait_leaves_the_sleeps_of_its_thread_alone(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """While it waits its sleeps are punctual; what a thread sleeps elsewhere is no affair of ours."""
    get_timer_slack = 30  # PR_GET_TIMERSLACK of prctl(2), in nanoseconds
    slack = functools.partial(ctypes.CDLL(None).prctl, get_timer_slack)
    before = slack()
    assert before > 1
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(torch.ones(3, device=accelerator))
        with pytest.raises(TimeoutError):
            transfer.result(timeout=0.01)
    assert slack() == before


def test_an_event_loop_goes_on_while_a_thread_waits(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """As users of events ask for: cuda-python#1458. It is the loop that lets the copy end."""

    async def main() -> Any:
        with hold(accelerator) as latch:
            transfer = native_bridge.to_numpy_async(torch.ones(3, device=accelerator))
            waiting = asyncio.ensure_future(asyncio.to_thread(transfer.result))
            asyncio.get_running_loop().call_soon(latch.release)
            return await waiting

    assert asyncio.run(main()).tolist() == [1, 1, 1]


@pytest.mark.parametrize("tree", [[torch.ones(2)], {"a": torch.ones(2)}, None])
def test_a_tree_is_no_array(bridge: tnb.Bridge, tree: object) -> None:
    with pytest.raises(TypeError, match=r"expected a Transfer of one tensor, got one of a .*; call \.result\(\)"):
        np.asarray(bridge.to_numpy_async(tree))


def test_a_transfer_stays_in_its_process(bridge: tnb.Bridge) -> None:
    transfer = bridge.to_numpy_async(torch.ones(3))
    for carry in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled or copied; use its result"):
            carry(transfer)
        with pytest.raises(TypeError, match="cannot be pickled or copied; make one where it is needed"):
            carry(bridge)


def test_nothing_in_flight_is_done(bridge: tnb.Bridge) -> None:
    assert bridge.to_numpy_async(torch.ones(3)).done()
    assert bridge.to_numpy_async([]).done()
