"""Contract 8 where several Bridges share the limit of the process: memory and rings go where they are needed."""

from __future__ import annotations

import pytest
from helpers import assert_silent, run_script

from torch_np_bridge.config import EngineChoice

PRELUDE = """
import numpy as np, torch, fake_device, torch_np_bridge as tnb
MIB = 1 << 20
def numbers(mib):
    return torch.arange(mib * MIB // 4, dtype=torch.int32, device="fake")
def right(array):
    return bool((array == np.arange(len(array))).all())
def page_locked(array):
    return torch.from_numpy(array).is_pinned()
torch.empty(1).pin_memory()
fake_device.empty_host_cache()
"""


@pytest.fixture(autouse=True)
def chosen(native: EngineChoice, fake: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every script here runs on the native engine."""
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", native)


def test_idle_memory_of_a_bridge_that_is_not_used_makes_room() -> None:
    """Not at once: it may be used again. A Bridge that is used keeps what it has."""
    body = """
idle, busy = tnb.Bridge(), tnb.Bridge()
source = numbers(12)
assert page_locked(idle.to_numpy(source))
first = busy.to_numpy(source)
assert right(first) and not page_locked(first)
for _ in range(5):  # both are used: no slab goes back and forth
    assert page_locked(idle.to_numpy(source))
    assert not page_locked(busy.to_numpy(source))
assert idle.stats().allocations == 1
assert [page_locked(busy.to_numpy(source)) for _ in range(3)] == [True, True, True]
assert idle.stats().held_bytes == 0 and busy.stats().allocations == 1
"""
    assert_silent(run_script(PRELUDE + body, TORCH_NP_BRIDGE_PINNED_LIMIT="20MiB"))


def test_two_bridges_take_turns_with_one_ring() -> None:
    body = """
first, second = tnb.Bridge(), tnb.Bridge()
source = numbers(20)
for bridge in (first, second, first, second):
    fake_device.reset_counters()
    assert right(bridge.to_numpy_async(source).result())
    assert fake_device.counters().copies_synchronous == 0
assert first.stats().limit_held_bytes == 16 * MIB
second.trim()  # the ring is idle memory of the first one then
first.trim()
assert first.stats().limit_held_bytes == 0
"""
    assert_silent(run_script(PRELUDE + body, TORCH_NP_BRIDGE_PINNED_LIMIT="16MiB"))


def test_a_bridge_that_finds_no_idle_ring_does_not_wait_for_one() -> None:
    """The other one waits for a producer, which may wait for this one."""
    body = """
first, second = tnb.Bridge(), tnb.Bridge()
source = numbers(20)
torch.accelerator.synchronize()
with fake_device.hold_copies() as latch:
    held = first.to_numpy_async(source)
    while first.stats().held_bytes == 0: pass
    late = second.to_numpy_async(source)
    latch.release()
assert right(late.result()) and right(held.result())
assert first.stats().limit_held_bytes <= 16 * MIB
"""
    assert_silent(run_script(PRELUDE + body, TORCH_NP_BRIDGE_PINNED_LIMIT="16MiB"))


def test_a_ring_outlives_the_bridge_that_made_it() -> None:
    body = """
bridge, second = tnb.Bridge(), tnb.Bridge()
source = numbers(20)
with fake_device.hold() as latch:
    transfer = bridge.to_numpy_async(source)
    del bridge
assert right(transfer.result())
del transfer
for _ in range(2):
    assert right(second.to_numpy_async(source).result())
second.trim()
assert second.stats().limit_held_bytes == 0
"""
    assert_silent(run_script(PRELUDE + body, TORCH_NP_BRIDGE_PINNED_LIMIT="16MiB"))
