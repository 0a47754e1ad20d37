"""Contract 10 on the staged route: each call of the driver fails once and for good, at every step.

Afterwards the transfer has told of it, sources and events are given back, and the next transfer is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import revive, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

MIB = 1 << 20
RING = 16 * MIB
COUNT = 2_500_000  # 10 MB: three chunks, and two slabs of a gather
# How often the driver is asked for each in one transfer, as its counters say.
CALLS = {
    "copy_d2h": "copies_d2h",
    "copy_d2d": "copies_d2d",
    "event_record": "event_records",
    "event_block": "event_waits",
    "event_query": "event_queries",
    "device_alloc": "device_allocations",
}


@pytest.fixture(params=["ring", "plain"])
def full(request: pytest.FixtureRequest, native: EngineChoice, fake: ModuleType) -> Iterator[tnb.Bridge]:
    """A Bridge whose large leaves are staged: through a ring, or each by one synchronous copy."""
    with tnb.Bridge(engine=native, pinned_limit=2 * RING if request.param == "ring" else 0) as bridge:
        # All that the limit leaves beside the ring is taken.
        kept = bridge.to_numpy(torch.zeros(RING, dtype=torch.uint8, device="fake"))
        yield bridge
        del kept


@pytest.fixture
def tree(full: tnb.Bridge, fake: ModuleType) -> list[torch.Tensor]:
    """Tensors whose transfer finds everything prepared, but memory for a gather."""
    source = torch.arange(2 * COUNT, dtype=torch.int32, device="fake")
    leaves = [source, source.view(-1, 2)[:, 0]]
    for _ in range(2):
        assert_right(full, leaves)
    torch.accelerator.empty_cache()
    torch.accelerator.synchronize()
    return leaves


def live(fake: ModuleType) -> tuple[int, int, int]:
    """What a failed transfer must leave as it was."""
    counted = fake.counters()
    return counted.device_bytes_live, counted.host_bytes_live, counted.event_creates - counted.event_destroys


def assert_right(bridge: tnb.Bridge, leaves: list[torch.Tensor]) -> None:
    dense, gathered = bridge.to_numpy_async(leaves).result()
    assert np.array_equal(dense, np.arange(2 * COUNT))
    assert np.array_equal(gathered, np.arange(0, 2 * COUNT, 2))


def attempt(bridge: tnb.Bridge, leaves: list[torch.Tensor]) -> str:
    """What one transfer says, be it at the submit or at its result."""
    try:
        bridge.to_numpy_async(leaves).result(60)
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.mark.usefixtures("copied_by")
@pytest.mark.parametrize("call", CALLS)
def test_every_step_fails_once(full: tnb.Bridge, fake: ModuleType, tree: list[torch.Tensor], call: str) -> None:
    fake.reset_counters()
    assert_right(full, tree)
    # How often an event is asked depends on time; the others are the same each time.
    steps = 1 if call == "event_query" else getattr(fake.counters(), CALLS[call])
    has_ring = full.stats().limit_bytes > 0
    if call == "event_query" and not has_ring:
        steps = 0
    before = live(fake)
    for step in range(steps):
        torch.accelerator.empty_cache()
        said = ""
        while not said:
            with fake.fail(call, after=step) as failure:
                said = attempt(full, tree)
            assert failure.delivered == 1
            # The event may be that of memory which an earlier Bridge has left: the next question is the transfer's.
            assert said or call == "event_query"
        assert f"{call} failed: injected failure" in said
        assert_right(full, tree)
        wait_until(lambda: live(fake)[0] == before[0])
        assert live(fake)[1:] == before[1:]
    assert steps >= {"ring": 1, "plain": 0}["ring" if has_ring else "plain"]


@pytest.mark.parametrize("call", [*CALLS, "copy_d2h_async"])
def test_a_lost_device(full: tnb.Bridge, fake: ModuleType, tree: list[torch.Tensor], call: str) -> None:
    before = live(fake)[1]
    fails = call != "event_query" or full.stats().limit_bytes > 0  # a synchronous copy asks no event
    # An asynchronous copy ends the context itself when it is reached: a second end, after the revival, would not do.
    with fake.fail(call, sticky=not call.endswith("_async")):
        for _ in range(3):
            said = attempt(full, tree)
            assert ("fake device" in said) is fails
    revive()
    assert_right(full, tree)
    full.trim()
    assert live(fake)[1] - before <= RING  # a ring that the lost device may still write to is left to it


def test_a_failed_copy_keeps_the_source_until_the_device_has_done_with_it(
    full: tnb.Bridge, fake: ModuleType, tree: list[torch.Tensor]
) -> None:
    """What was enqueued before the failing copy, a gather, has yet to read it."""
    before = live(fake)[0]
    source = torch.ones(COUNT, device="fake")
    torch.accelerator.synchronize()
    with fake.hold():
        with fake.fail("copy_d2h") as failure:
            transfer = full.to_numpy_async(source[::2])
            wait_until(lambda: failure.delivered == 1)
        del source
        with pytest.raises(RuntimeError, match="copy_d2h failed"):
            transfer.result()
        assert live(fake)[0] >= before + 4 * COUNT
    wait_until(lambda: live(fake)[0] == before)


def test_a_failed_transfer_stays_failed(full: tnb.Bridge, fake: ModuleType, tree: list[torch.Tensor]) -> None:
    with fake.fail("copy_d2h"):
        transfer = full.to_numpy_async(tree)
        assert isinstance(transfer.exception(60), RuntimeError)
    assert transfer.done()
    assert_right(full, tree)
    with pytest.raises(RuntimeError, match="copy_d2h failed"):
        transfer.result()


def test_the_next_transfer_in_line_is_right(full: tnb.Bridge, fake: ModuleType, tree: list[torch.Tensor]) -> None:
    """It was submitted before the first one failed."""
    with fake.hold():
        with fake.fail("copy_d2h") as failure:
            first = full.to_numpy_async(tree)
            wait_until(lambda: failure.delivered == 1)
        second = full.to_numpy_async(tree)
    with pytest.raises(RuntimeError, match="copy_d2h failed"):
        first.result()
    assert np.array_equal(second.result()[0], np.arange(2 * COUNT))


def test_a_ring_that_a_lost_device_may_write_to_is_not_used_meanwhile(native: EngineChoice, fake: ModuleType) -> None:
    """Two transfers are staged when the device is lost: what the first one leaves is not the second one's."""
    source = torch.arange(6_000_000, dtype=torch.int32, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=4 * RING) as bridge:
        kept = bridge.to_numpy_async(torch.zeros(2 * RING, dtype=torch.uint8, device="fake")).result()
        assert np.array_equal(bridge.to_numpy_async(source).result(), np.arange(6_000_000))
        with fake.hold():
            transfers = [bridge.to_numpy_async(source) for _ in range(2)]
            failure = fake.fail("event_query", sticky=True)
            wait_until(lambda: failure.delivered > 0)
        for transfer in transfers:
            with pytest.raises(RuntimeError, match="fake device"):
                transfer.result(60)
        assert bridge.stats().leased_bytes >= kept.nbytes + RING  # nobody else gets it
        revive()
        assert np.array_equal(bridge.to_numpy_async(source).result(), np.arange(6_000_000))
        bridge.trim()
        assert bridge.stats().leased_bytes == kept.nbytes  # what ran behind it has ended, so the device has left it
        del kept


@pytest.mark.parametrize("step", range(4))
def test_events_that_cannot_be_made(native: EngineChoice, fake: ModuleType, step: int) -> None:
    """Those of two Bridges are the same, so the events in use have to be many."""
    x = torch.ones(RING + 1, dtype=torch.uint8, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=RING) as bridge, tnb.Bridge(engine=native) as other:
        bridge.to_numpy_async(x).result()
        flying: list[Any] = []
        with fake.hold():
            created = fake.counters().event_creates
            while fake.counters().event_creates == created:  # no event is idle any more
                flying.append(other.to_numpy_async(x[:10]))
            with fake.fail("event_create", after=step) as failure:
                said = []
                transfer = None
                try:
                    transfer = bridge.to_numpy_async(x)
                except RuntimeError as error:
                    said.append(str(error))
                wait_until(lambda: failure.delivered == 1)
        if transfer is not None:
            said.append(str(transfer.exception()))
        assert "event_create failed: injected failure" in said[0]
        assert all((one.result() == 1).all() for one in flying)
        assert (bridge.to_numpy_async(x).result() == 1).all()


def test_a_ring_that_cannot_be_had(native: EngineChoice, fake: ModuleType) -> None:
    """Then each copy is synchronous; the next transfer tries again."""
    source = torch.arange(6_000_000, dtype=torch.int32, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=RING) as bridge:
        fake.empty_host_cache()
        for fails in (True, False):
            fake.reset_counters()
            if fails:
                with fake.fail("host_alloc") as failure:
                    array = bridge.to_numpy_async(source).result()
                assert failure.delivered == 1
            else:
                array = bridge.to_numpy_async(source).result()
            assert np.array_equal(array, np.arange(6_000_000))
            assert (fake.counters().copies_synchronous > 0) is fails
            assert bridge.stats().held_bytes == (0 if fails else RING)
