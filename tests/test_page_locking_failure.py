"""Contract 10: memory that the device does not page-lock is done without, and what it does not unlock stays counted."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from test_failure import live

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice


def test_page_locked_memory_that_is_refused_is_done_without(
    native_bridge: tnb.Bridge, fake: ModuleType, host_pages: str
) -> None:
    """And the next launch is not told of it, as in Soup#989; nor is memory lost, as in pytorch#139884."""
    x = torch.arange(777_777.0, device="fake")
    native_bridge.to_numpy(x[:10])
    fake.empty_host_cache()
    before = live(fake, native_bridge)[:2]
    with fake.fail("host_alloc" if host_pages == "allocated" else "lock_pages") as failure:
        transfer = native_bridge.to_numpy_async([x[:10], x])
        assert failure.delivered == 1
        torch.zeros(1, device="fake").add_(1)
    assert fake.last_error() is None
    small, large = transfer.result()
    assert native_bridge.stats().unpooled_leaves == 1
    assert (large == range(777_777)).all()
    assert (small == range(10)).all()
    native_bridge.trim()  # of the ring
    assert live(fake, native_bridge)[:2] == before
    native_bridge.to_numpy(x)
    assert native_bridge.stats().unpooled_leaves == 1


@pytest.mark.parametrize("call", ["lock_pages", "unlock_pages"])
@pytest.mark.parametrize("host_pages", ["own"], indirect=True)
@pytest.mark.usefixtures("host_pages")
def test_pages_that_cannot_be_locked_in_place_come_from_the_host_allocator(
    native: EngineChoice, fake: ModuleType, call: str
) -> None:
    """Decided once for a pool, at its first use; nothing of the attempt is left behind."""
    x = torch.arange(50_000.0, device="fake")
    locked = fake.counters().locked_pages_bytes
    with tnb.Bridge(engine=native, pinned_limit="64MiB") as bridge:
        with fake.fail(call) as failure:
            array = bridge.to_numpy(x)
            assert failure.delivered == 1
        kept = [bridge.to_numpy(torch.ones(1_000_000, device="fake")) for _ in range(5)]
        assert fake.last_error() is None
        assert bridge.stats().unpooled_leaves == 0
        left = 4096 if call == "unlock_pages" else 0  # the one page that the driver did not let go of stays counted
        assert fake.counters().locked_pages_bytes - locked == left
        assert bridge.stats().limit_held_bytes - bridge.stats().held_bytes == left
        assert all((other == 1).all() for other in kept)
        assert (array == range(50_000)).all()


@pytest.mark.parametrize("host_pages", ["own"], indirect=True)
@pytest.mark.usefixtures("host_pages")
def test_pages_that_cannot_be_unlocked_stay(native: EngineChoice, fake: ModuleType) -> None:
    """The device may still reach them: they stay mapped and counted, until a later call."""
    with tnb.Bridge(engine=native, pinned_limit="64MiB") as bridge:
        array = bridge.to_numpy(torch.ones(400_000, device="fake"))
        torch.accelerator.synchronize()
        del array
        held = bridge.stats().held_bytes
        with fake.fail("unlock_pages") as failure:
            bridge.trim()
            assert failure.delivered == 1
        assert fake.last_error() is None
        assert bridge.stats().held_bytes == held
        bridge.trim()
        assert bridge.stats().held_bytes == 0
