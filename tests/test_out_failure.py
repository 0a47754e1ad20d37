"""Contract 10 with `out=` and `empty()`: whatever the driver is asked for fails, once and for good, at every step.

The steps count themselves: each call that the driver has is failed behind 0, 1, 2, … others of its kind, until a turn
ends without asking so often. A step that is new is among them.
"""

from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Array, revive, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

SHAPE = (60, 50)
RING = 16 << 20
Make = Callable[[tnb.Bridge], Array]
Turn = Callable[[tnb.Bridge, Any, Any], Any]

OUT: dict[str, Make] = {
    "page-locked": lambda bridge: bridge.empty(SHAPE, np.float32),
    "ordinary": lambda _: np.zeros(SHAPE, np.float32),
    "with gaps": lambda _: np.zeros((SHAPE[0], 2 * SHAPE[1]), np.float32)[:, ::2],
    "page-locked, with gaps": lambda bridge: bridge.empty((SHAPE[0], 2 * SHAPE[1]), np.float32)[:, ::2],
}
TURNS: dict[str, Turn] = {
    "blocking": lambda bridge, tree, out: bridge.to_numpy(tree, out=out),
    "asynchronous": lambda bridge, tree, out: bridge.to_numpy_async(tree, out=out).result(60),
    "snapshot": lambda bridge, tree, out: bridge.to_numpy_async(tree, out=out, snapshot=True).result(60),
}
# What each turn asks for at least: else nothing was tried.
ASKED = {"copy_d2h", "copy_d2d", "device_alloc", "exchange_capture_mode", "stream_is_capturing"}
# What the driver does not take back is lost, whoever asked it to.
GIVES_BACK = {"device_free", "host_free", "event_destroy"}
# How often an event is asked depends on time, and around each question the mode is exchanged: the first stand for all.
AT_MOST = {"event_query": 3, "exchange_capture_mode": 20}


@pytest.fixture
def full(native: EngineChoice, fake: ModuleType) -> Iterator[tnb.Bridge]:
    """A Bridge that has a ring already."""
    with tnb.Bridge(engine=native) as bridge:
        bridge.to_numpy_async(torch.zeros(3, device="fake"), out=np.zeros(3, np.float32)).result()
        yield bridge


def sources() -> list[torch.Tensor]:
    """One dense and one that is gathered, of different values."""
    numbers = torch.arange(float(SHAPE[0] * SHAPE[1]), device="fake")
    return [numbers.view(SHAPE), torch.stack([-numbers, numbers], dim=-1)[:, 0].view(SHAPE)]


def are_right(arrays: list[Array]) -> bool:
    dense, gathered = arrays
    return bool((dense.ravel() == range(dense.size)).all() and (gathered == -dense).all())


def said(turn: Callable[[], Any]) -> str:
    """What one turn says, be it at the submit or at its result."""
    try:
        turn()
    except RuntimeError as error:
        return str(error)
    return ""


def live(fake: ModuleType, bridge: tnb.Bridge) -> tuple[int, int, int]:
    """What a failed turn must leave as it was: bytes on the device, page-locked, and leased.

    Without what torch has cached: a snapshot that is made before the worker has let go of the last one needs memory of
    its own, and both are cached.
    """
    torch.accelerator.empty_cache()
    counted = fake.counters()
    return counted.device_bytes_live, counted.host_bytes_live, bridge.stats().leased_bytes


def is_live(fake: ModuleType, bridge: tnb.Bridge, expected: tuple[int, int, int]) -> bool:
    """No more than before: when that was counted, the worker may have had yet to let go of what it had copied."""
    return all(now <= before for now, before in zip(live(fake, bridge), expected, strict=True))


def created(fake: ModuleType) -> int:
    events: int = fake.counters().event_creates
    return events


def events_not_to_be_had(fake: ModuleType, bridge: tnb.Bridge, first: Callable[[], Any] = lambda: None) -> int:
    """The events created less those of copies in flight when no idle one is left: it grows by each that is lost."""
    x = torch.zeros(3, device="fake")
    pending: list[tnb.Transfer] = []
    with fake.hold():
        first()
        before = created(fake)
        while created(fake) == before:
            pending.append(bridge.to_numpy_async(x))
    count = created(fake) - len(pending)
    for one in pending:
        one.result(60)
    return count


def each_step(fake: ModuleType, turn: Callable[[], Any], *, sticky: bool) -> Iterator[tuple[str, str]]:
    """The name of the call that has failed, and what the turn said to it."""
    for call in fake.call_names():
        ends_context = call.endswith("_async")  # when the operation is reached, and by itself
        if ends_context and not sticky:
            continue
        for step in range(AT_MOST.get(call, 1000)):
            torch.accelerator.empty_cache()  # so that memory for a gather has to be allocated
            with fake.fail(call, after=step, sticky=sticky and not ends_context) as failure:
                words = said(turn)
                delivered = failure.delivered
            if not delivered:
                break
            yield call, words


@pytest.mark.parametrize("way", TURNS)
@pytest.mark.parametrize("kind", OUT)
def test_a_step_that_fails_once(full: tnb.Bridge, fake: ModuleType, kind: str, way: str) -> None:
    tree = sources()
    arrays = [OUT[kind](full) for _ in tree]

    def turn() -> Any:
        for array in arrays:
            array[...] = -1
        return TURNS[way](full, tree, arrays)

    for _ in range(2):
        turn()
    torch.accelerator.synchronize()
    gc.collect()  # arrays of earlier tests keep events
    kept = min(events_not_to_be_had(fake, full) for _ in range(3))  # the worker may have had yet to let go of one
    before, counted = live(fake, full), full.stats()
    asked = set()
    for call, words in each_step(fake, turn, sticky=False):
        asked.add(call)
        assert f"{call} failed: injected failure" in words if words else are_right(arrays)
        assert fake.last_error() is None
        torch.accelerator.synchronize()
        for _ in range(2):  # the first also sweeps what the failed one has left in flight
            assert are_right(turn())
        if call in GIVES_BACK:
            before = live(fake, full)
        wait_until(functools.partial(is_live, fake, full, before))
    assert asked >= ASKED
    wait_until(lambda: events_not_to_be_had(fake, full) <= kept)
    assert full.stats().held_bytes == counted.held_bytes
    gone = [weakref.ref(array) for array in arrays]
    arrays.clear()
    wait_until(lambda: not any(array() is not None for array in gone))


@pytest.mark.parametrize("way", TURNS)
@pytest.mark.parametrize("kind", OUT)
def test_a_device_that_is_lost_at_a_step(native: EngineChoice, fake: ModuleType, kind: str, way: str) -> None:
    """Each time with a Bridge of its own: what a lost device may still write to is nobody's any more."""
    tree = sources()

    def turn() -> Any:
        with tnb.Bridge(engine=native, pinned_limit=2 * RING) as bridge:
            arrays = [OUT[kind](bridge) for _ in tree]
            assert are_right(TURNS[way](bridge, tree, arrays))

    turn()
    steps = 0
    for _, words in each_step(fake, turn, sticky=True):
        steps += 1
        assert "fake device" in words or not words  # where that was behind the last copy, the values are right
        revive()
        assert fake.last_error() is None
        for _ in range(2):
            turn()
    assert steps >= len(ASKED)


@pytest.mark.parametrize("trims", [False, True])
def test_empty_when_a_step_fails_once(full: tnb.Bridge, fake: ModuleType, *, trims: bool) -> None:
    """With memory that has come back, and with none."""

    def turn() -> Any:
        if trims:
            full.trim()
            fake.empty_host_cache()
        return full.empty(SHAPE, np.float32)

    def fill_fences() -> None:
        for _ in range(20):  # each array that is dropped leaves an event in one, up to as many as there may be
            turn()

    gc.collect()
    leased = 0 if trims else full.stats().leased_bytes
    kept = min(events_not_to_be_had(fake, full, fill_fences) for _ in range(3))
    asked = set()
    for call, words in each_step(fake, turn, sticky=False):
        asked.add(call)
        assert not words or f"{call} failed: injected failure" in words
        assert fake.last_error() is None
        turn()[...] = 1
        assert full.stats().leased_bytes == leased
    assert asked >= {"event_record", "event_query", "exchange_capture_mode", "stream_is_capturing"}
    assert ("host_alloc" in asked) is trims
    wait_until(lambda: events_not_to_be_had(fake, full, fill_fences) <= kept)
