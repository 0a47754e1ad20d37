"""`Transfer` as a citizen: callbacks, by the one worker of a Bridge."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import PATIENCE, assert_silent, hold, run_script, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

PR_GET_TIMERSLACK = 30  # of linux/prctl.h


def ones(device: str, size: int = 3) -> torch.Tensor:
    return torch.ones(size, device=device)


class Seen:
    """A callback that remembers what it was given and on which thread."""

    def __init__(self) -> None:
        self.transfers: list[tnb.Transfer] = []
        self.threads: list[int] = []
        self.called = threading.Event()

    def __call__(self, transfer: tnb.Transfer) -> None:
        self.transfers.append(transfer)
        self.threads.append(threading.get_ident())
        self.called.set()


def test_a_callback_is_called_on_the_worker_with_the_transfer(native_bridge: tnb.Bridge, accelerator: str) -> None:
    seen = Seen()
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(ones(accelerator))
        transfer.add_done_callback(seen)
        assert not seen.called.is_set()
    assert seen.called.wait(PATIENCE)
    assert seen.transfers == [transfer]
    assert seen.threads != [threading.get_ident()]
    assert transfer.done()


def test_a_callback_of_what_has_ended_is_called_at_once(bridge: tnb.Bridge, device: str) -> None:
    transfer = bridge.to_numpy_async(ones(device))
    transfer.result()
    seen = Seen()
    transfer.add_done_callback(seen)
    assert seen.transfers == [transfer]
    assert seen.threads == [threading.get_ident()]


def test_threads_of_a_callback_sleep_as_others_do(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The worker's sleeps end punctually; threads inherit that, and those of a callback are not ours to change."""
    slack: list[int] = []
    called = threading.Event()
    timer_slack = ctypes.CDLL(None).prctl
    here = timer_slack(PR_GET_TIMERSLACK)

    def start(transfer: tnb.Transfer) -> None:
        thread = threading.Thread(target=lambda: slack.append(timer_slack(PR_GET_TIMERSLACK)))
        thread.start()
        thread.join()
        called.set()

    with hold("fake"):
        transfer = native_bridge.to_numpy_async(ones("fake"))
        transfer.add_done_callback(start)
        asked = fake.counters().event_queries
        wait_until(lambda: fake.counters().event_queries > asked + 3)  # it has slept in between
    assert called.wait(PATIENCE)
    assert slack == [here]


def test_callbacks_come_in_their_order(native_bridge: tnb.Bridge, accelerator: str) -> None:
    order: list[int] = []
    with hold(accelerator):
        transfers = [native_bridge.to_numpy_async(ones(accelerator)) for _ in range(10)]
        for index, transfer in enumerate([*transfers, *transfers]):
            transfer.add_done_callback(lambda _, index=index: order.append(index))  # type: ignore[misc]
    native_bridge.close()
    assert sorted(order) == list(range(20))
    assert [index for index in order if index < 10] == list(range(10))
    assert [index for index in order if index >= 10] == list(range(10, 20))


def test_a_callback_outlives_everything_else(native: EngineChoice, accelerator: str) -> None:
    """Neither the Transfer nor the Bridge is held by anybody, and the callback comes all the same."""
    values: list[float] = []
    called = threading.Event()

    def read(transfer: tnb.Transfer) -> None:
        values.extend(transfer.result().tolist())
        called.set()

    with hold(accelerator):
        tnb.Bridge(engine=native).to_numpy_async(ones(accelerator)).add_done_callback(read)
    assert called.wait(PATIENCE)
    assert values == [1, 1, 1]


def test_one_device_does_not_wait_for_another(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    slow, quick = Seen(), Seen()
    with hold("fake", torch.accelerator.current_stream(0)):
        native_bridge.to_numpy_async(ones("fake:0")).add_done_callback(slow)
        native_bridge.to_numpy_async(ones("fake:1")).add_done_callback(quick)
        assert quick.called.wait(PATIENCE)
        assert not slow.called.is_set()
    assert slow.called.wait(PATIENCE)


def test_what_a_callback_raises_is_logged(
    native_bridge: tnb.Bridge, accelerator: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(transfer: tnb.Transfer) -> None:
        raise ValueError("a mistake of the callback")

    seen = Seen()
    with caplog.at_level(logging.ERROR, logger="torch_np_bridge"):
        with hold(accelerator):
            transfer = native_bridge.to_numpy_async(ones(accelerator))
            transfer.add_done_callback(fail)
            transfer.add_done_callback(seen)
        assert seen.called.wait(PATIENCE)
        transfer.add_done_callback(fail)
    assert [record.getMessage() for record in caplog.records] == [f"a callback of {transfer!r} raised"] * 2
    assert "a mistake of the callback" in caplog.text
    assert transfer.result().tolist() == [1, 1, 1]


def test_no_function_is_no_callback(bridge: tnb.Bridge) -> None:
    with pytest.raises(TypeError, match="expected a function that takes the Transfer, got 3"):
        bridge.to_numpy_async(torch.ones(3)).add_done_callback(3)  # type: ignore[arg-type]


def test_a_failed_copy_calls_back_too(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    seen = Seen()
    native_bridge.to_numpy(ones("fake"))
    with fake.fail("event_query", sticky=False, after=0), hold("fake"):
        transfer = native_bridge.to_numpy_async(ones("fake"))
        transfer.add_done_callback(seen)
    assert seen.called.wait(PATIENCE)
    assert isinstance(transfer.exception(), RuntimeError)


# What waits in a callback waits on the worker, whose own work nobody else does.
INSIDE: dict[str, Callable[[tnb.Bridge, torch.Tensor], Any]] = {
    "a conversion": lambda bridge, x: bridge.to_numpy(x),
    "a transfer": lambda bridge, x: bridge.to_numpy_async(x).result(),
    "a stream that is blocked": lambda bridge, x: bridge.to_numpy_async(x).block_stream(),
    "the end of the Bridge": lambda bridge, x: bridge.close(),
}


@pytest.mark.parametrize("inside", INSIDE)
def test_a_callback_may_wait_for_what_is_staged(native: EngineChoice, fake: ModuleType, inside: str) -> None:
    large = torch.ones(3 << 20, device="fake")  # beyond the limit, so the worker copies it
    with tnb.Bridge(engine=native, pinned_limit="1MiB") as bridge:
        outcome: list[Any] = []
        called = threading.Event()

        def wait(transfer: tnb.Transfer) -> None:
            outcome.append(INSIDE[inside](bridge, large))
            called.set()

        with hold("fake"):
            bridge.to_numpy_async(ones("fake")).add_done_callback(wait)
        assert called.wait(PATIENCE)
        assert outcome[0] is None or (outcome[0] == 1).all()


def test_closing_waits_for_the_callbacks(native: EngineChoice, accelerator: str) -> None:
    begun, closed = threading.Event(), threading.Event()
    closed_before_the_end: list[bool] = []

    def slow(transfer: tnb.Transfer) -> None:
        begun.set()
        closed_before_the_end.append(closed.wait(0.5))  # as long as one gives close() for returning too early

    bridge = tnb.Bridge(engine=native)
    with hold(accelerator):
        bridge.to_numpy_async(ones(accelerator)).add_done_callback(slow)
    assert begun.wait(PATIENCE)
    bridge.close()
    closed.set()
    assert closed_before_the_end == [False]


def test_the_worker_sleeps_when_all_were_told(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    seen = Seen()
    with hold("fake"):
        native_bridge.to_numpy_async(ones("fake")).add_done_callback(seen)
    assert seen.called.wait(PATIENCE)
    native_bridge.close()
    queries = fake.counters().event_queries
    torch.accelerator.synchronize()
    assert fake.counters().event_queries == queries


def test_exit_with_callbacks_that_never_come(engine: EngineChoice, fake: ModuleType) -> None:
    body = """
import os, torch, fake_device, torch_np_bridge as tnb
x = torch.ones(1000, device="fake")
latch = fake_device.hold()
for _ in range(10):
    tnb.to_numpy_async(x).add_done_callback(print)
"""
    if engine == "python":  # its transfers have ended
        body = body.replace("latch = fake_device.hold()", "").replace("print", "id")
    assert_silent(run_script(body, TORCH_NP_BRIDGE_ENGINE=engine))
