"""The worker of a Bridge: it lets go of what nobody will ask about, and contract 4 holds in an idle program too."""

from __future__ import annotations

import sys
import threading
import time
from types import ModuleType

import pytest
import torch
from helpers import PATIENCE, assert_silent, run_script, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

SIZE = 50_000


def ones(device: str = "fake") -> torch.Tensor:
    return torch.ones(SIZE, device=device)


@pytest.fixture
def warm(native_bridge: tnb.Bridge, fake: ModuleType) -> tnb.Bridge:
    """A Bridge with nothing of anybody's in flight."""
    for device in ("fake:0", "fake:1"):
        native_bridge.to_numpy(ones(device))
    return native_bridge


def live(fake: ModuleType) -> int:
    counted: int = fake.counters().device_bytes_live
    return counted


def test_a_dropped_transfer_in_an_idle_program(warm: tnb.Bridge, fake: ModuleType) -> None:
    """Nobody submits anything, nobody asks: the device memory is free once the copy has ended."""
    before = live(fake)
    with fake.hold():
        warm.to_numpy_async([ones(), ones()[::2]])
        assert live(fake) >= before + 8 * SIZE
    wait_until(lambda: live(fake) == before)
    wait_until(lambda: warm.stats().leased_bytes == 0)  # let go of after the sources


def test_transfers_dropped_on_several_devices(warm: tnb.Bridge, fake: ModuleType) -> None:
    before = live(fake)
    with fake.hold():
        for _ in range(3):
            warm.to_numpy_async([ones("fake:0"), ones("fake:1")])
        wait_until(lambda: fake.counters(1).device_bytes_live <= before)
        assert live(fake) >= before + 12 * SIZE
    wait_until(lambda: live(fake) == before)


def test_a_second_drop_after_a_rest(warm: tnb.Bridge, fake: ModuleType) -> None:
    """The worker sleeps between the two."""
    before = live(fake)
    for _ in range(3):
        with fake.hold():
            warm.to_numpy_async(ones())
        wait_until(lambda: live(fake) == before)
        queries = fake.counters().event_queries
        torch.accelerator.synchronize()
        assert fake.counters().event_queries == queries


@pytest.mark.parametrize("idle", [0, 1])
def test_a_transfer_dropped_while_the_worker_looks(warm: tnb.Bridge, fake: ModuleType, idle: int) -> None:
    """It saw that one device is idle, and wants the GIL for what it drops of the other, when one of that is dropped.

    Which of the two it looks at first is not for the test to say, so that each is the idle one once.
    """
    quiet, busy = (f"fake:{index}" for index in (idle, 1 - idle))
    before = live(fake)
    switch_interval = sys.getswitchinterval()
    for _ in range(20):  # until the two have met
        known = [torch.ones(1, device=busy) for _ in range(1000)]
        storages = [tensor.untyped_storage() for tensor in known]  # to let go of these takes the GIL
        with fake.hold(torch.accelerator.current_stream(1 - idle)):
            kept = [warm.to_numpy_async(ones(busy))]
            kept += [warm.to_numpy_async(tensor) for tensor in known]
        torch.accelerator.synchronize(1 - idle)
        late = ones(quiet)
        torch.accelerator.synchronize(idle)
        sys.setswitchinterval(1000)  # the GIL is this thread's until it gives it away
        try:
            with fake.hold(torch.accelerator.current_stream(idle)):
                start = live(fake)
                kept.pop()
                deadline = time.monotonic() + PATIENCE
                while live(fake) == start:  # wait_until() would give the GIL away
                    assert time.monotonic() < deadline, "waited in vain"
                sys.setswitchinterval(1e-6)  # from here on they take turns
                dropped = warm.to_numpy_async(late)
                del late, dropped
                asked = fake.counters(1 - idle).event_queries
        finally:
            sys.setswitchinterval(switch_interval)
        del known, storages
        wait_until(lambda: live(fake) == before)
        if fake.counters(1 - idle).event_queries > asked:
            break


def test_a_transfer_dropped_by_another_thread(warm: tnb.Bridge, fake: ModuleType) -> None:
    before = live(fake)
    with fake.hold():
        box = [warm.to_numpy_async(ones())]
        thread = threading.Thread(target=box.clear)
        thread.start()
        thread.join()
    wait_until(lambda: live(fake) == before)


def test_the_bridge_goes_with_its_transfer(warm: tnb.Bridge, native: EngineChoice, fake: ModuleType) -> None:
    before = live(fake)
    bridge = tnb.Bridge(engine=native)
    with fake.hold():
        transfer = bridge.to_numpy_async(ones())
        del bridge, transfer
        assert live(fake) >= before + 4 * SIZE
    wait_until(lambda: live(fake) == before)


def test_a_transfer_that_timed_out_and_was_dropped(warm: tnb.Bridge, fake: ModuleType) -> None:
    before = live(fake)
    with fake.hold():
        transfer = warm.to_numpy_async(ones())
        with pytest.raises(TimeoutError):
            transfer.result(timeout=0)
        del transfer
    wait_until(lambda: live(fake) == before)


def test_a_failed_submit_in_an_idle_program(warm: tnb.Bridge, fake: ModuleType) -> None:
    """The copies of the first device are under way when the second one fails; nobody can ask about them."""
    before = live(fake)
    tensors = [ones("fake:0"), ones("fake:1")]
    with fake.hold():
        with fake.fail("event_block", after=1), pytest.raises(RuntimeError, match="event_block failed"):
            warm.to_numpy_async(tensors)
        del tensors
        assert live(fake) >= before + 4 * SIZE
    wait_until(lambda: live(fake) == before)


def test_ten_thousand_kept_transfers_hold_no_device_memory(warm: tnb.Bridge, fake: ModuleType) -> None:
    """They have ended, and nobody has looked at them: the next submit sees it."""
    before = live(fake)
    kept = []
    for turn in range(10_000):
        kept.append(warm.to_numpy_async(torch.full((2,), float(turn), device="fake")))
    torch.accelerator.synchronize()
    torch.accelerator.synchronize()
    warm.to_numpy_async(torch.zeros(1, device="fake")).result()
    assert live(fake) == before
    assert [int(transfer.result()[0]) for transfer in kept] == list(range(10_000))


def test_a_sweep_asks_the_oldest_only(warm: tnb.Bridge, fake: ModuleType) -> None:
    """One query a submit while nothing has ended, however much is in flight."""
    x = ones()
    torch.accelerator.synchronize()
    with fake.hold():
        kept = [warm.to_numpy_async(x)]
        fake.reset_counters()
        kept += [warm.to_numpy_async(x) for _ in range(100)]
        assert fake.counters().event_queries == 100
    assert all((transfer.result() == 1).all() for transfer in kept)


def test_no_thread_runs_without_need(native: EngineChoice, fake: ModuleType) -> None:
    """Views, pooled copies and their results need none; a dropped Transfer starts one, and a second one no other."""
    assert_silent(
        run_script("""
import os, torch, fake_device, torch_np_bridge as tnb
def threads(): return len(os.listdir("/proc/self/task"))
x = torch.ones(1000, device="fake")
with tnb.Bridge(engine="native") as bridge:
    bridge.to_numpy(x)  # the fake device has started its own by now
    torch.accelerator.synchronize()
    before = threads()
    for _ in range(3):
        bridge.to_numpy([x, torch.ones(3)])
        bridge.to_numpy_async(x[::2]).result()
    assert threads() == before, "a thread was started without need"
    for _ in range(3):
        with fake_device.hold():
            bridge.to_numpy_async(x)
        torch.accelerator.synchronize()
    assert threads() == before + 1, (before, threads())
""")
    )


def test_the_worker_ends_with_its_bridge(native: EngineChoice, fake: ModuleType) -> None:
    assert_silent(
        run_script(
            """
import os, torch, fake_device, torch_np_bridge as tnb
from helpers import wait_until
def threads(): return len(os.listdir("/proc/self/task"))
x = torch.ones(1000, device="fake")
tnb.to_numpy(x)
torch.accelerator.synchronize()
before = threads()
for _ in range(5):
    bridge = tnb.Bridge(engine="native", pinned_limit=0)
    assert (bridge.to_numpy_async(x).result() == 1).all()
    assert threads() > before
    del bridge
    wait_until(lambda: threads() == before)
""",
            TORCH_NP_BRIDGE_ENGINE="native",
        )
    )
