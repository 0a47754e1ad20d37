"""Contracts 9 and 3: what a loop costs once it is warm. Counters say so, not clocks."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Call

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

MIB = 1 << 20
WARM, TURNS = 4, 30

TREES: dict[str, Callable[[], Any]] = {
    "one tensor": lambda: torch.ones(1000, device="fake"),
    "large": lambda: torch.ones(3_000_000, device="fake"),
    "several": lambda: [torch.ones(count, device="fake") for count in (1, 100, 70_000, 5, 1_000_000)],
    "gathers": lambda: {
        "a": torch.ones(60, 50, device="fake")[:, ::2],
        "b": torch.ones(3000, 1000, device="fake")[::2],
    },
    "many": lambda: [torch.ones(index + 1, device="fake") for index in range(200)],
}


def to_numpy(bridge: tnb.Bridge, tree: Any) -> Any:
    return bridge.to_numpy(tree)


def result(bridge: tnb.Bridge, tree: Any) -> Any:
    return bridge.to_numpy_async(tree).result()


def snapshot(bridge: tnb.Bridge, tree: Any) -> Any:
    return bridge.to_numpy_async(tree, snapshot=True).result()


def dropped(bridge: tnb.Bridge, tree: Any) -> None:
    bridge.to_numpy_async(tree)
    torch.accelerator.synchronize()


def assert_steady(fake: ModuleType, calls: int) -> None:
    """No allocation of any kind since the reset, and per call two records, one stream wait, nothing synchronised."""
    counted = fake.counters()
    assert (counted.host_allocations, counted.host_frees, counted.device_allocations) == (0, 0, 0)
    assert (counted.event_creates, counted.event_destroys) == (0, 0)
    assert (counted.event_records, counted.event_waits) == (2 * calls, calls)
    assert (counted.event_synchronizes, counted.stream_queries) == (0, 0)
    assert counted.copies_synchronous == 0


@pytest.mark.parametrize("way", [to_numpy, result, snapshot])
@pytest.mark.parametrize("tree", TREES)
def test_a_loop_with_stable_shapes(
    native_bridge: tnb.Bridge, fake: ModuleType, tree: str, way: Callable[[tnb.Bridge, Any], Any]
) -> None:
    source = TREES[tree]()
    for _ in range(WARM):
        way(native_bridge, source)
    fake.reset_counters()
    allocations = native_bridge.stats().allocations
    for _ in range(TURNS):
        way(native_bridge, source)
    assert_steady(fake, TURNS)
    assert (fake.counters().stream_synchronizes, fake.counters().device_synchronizes) == (0, 0)
    assert native_bridge.stats().allocations == allocations


def test_a_loop_that_drops_its_transfers(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = TREES["several"]()
    for _ in range(WARM):
        dropped(native_bridge, source)
    fake.reset_counters()
    for _ in range(TURNS):
        dropped(native_bridge, source)
    assert_steady(fake, TURNS)


@pytest.mark.parametrize("limit", [None, 32 * MIB])
def test_a_loop_beside_a_stream_that_works(native: EngineChoice, fake: ModuleType, limit: int | None) -> None:
    """Page-locking may wait for all streams, and a loop that does it in each turn serialises them: pytorch#124456,
    torchtune#2076. Here a stream of the other device never ends, and the loop does, beyond the limit too."""
    source = [torch.ones(count, device="fake") for count in (1, 100_000, 5 * MIB)]
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:

        def loop() -> None:
            for _ in range(WARM):
                result(bridge, source)

        loop()
        fake.set_host_memory(waits_for_streams=True)
        fake.reset_counters()
        with fake.hold(torch.accelerator.current_stream(1)):
            Call(loop).result()
        assert fake.counters().host_memory_waits == 0
        assert bridge.stats().unpooled_leaves == (0 if limit is None else 2 * WARM)


@pytest.mark.parametrize("depth", [1, 3])
def test_a_pipeline(native_bridge: tnb.Bridge, fake: ModuleType, depth: int) -> None:
    """So many transfers in flight, and results that live a turn longer than their Transfer."""
    source = TREES["several"]()
    flying: list[tnb.Transfer] = []
    kept: Any = None
    for turn in range(TURNS + 3 * depth):
        if turn == 3 * depth:
            fake.reset_counters()
        flying.append(native_bridge.to_numpy_async(source))
        if len(flying) > depth:
            kept = flying.pop(0).result()
    assert kept is not None
    assert_steady(fake, TURNS)


def test_two_devices(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The counts are per call and device."""
    source = [torch.ones(1000, device=f"fake:{index}") for index in (0, 1)]
    for _ in range(WARM):
        native_bridge.to_numpy(source)
    fake.reset_counters()
    for _ in range(TURNS):
        native_bridge.to_numpy(source)
    assert_steady(fake, 2 * TURNS)
    assert fake.counters(0).event_records == fake.counters(1).event_records == 2 * TURNS


def test_nothing_is_asked_of_the_device_for_the_cpu(bridge: tnb.Bridge, fake: ModuleType) -> None:
    tree = [torch.ones(10), torch.ones(4, 4).t(), np.ones(3)]
    fake.reset_counters()
    bridge.to_numpy(tree)
    bridge.to_numpy_async(tree).result()
    counted = fake.counters()
    assert (counted.event_records, counted.event_queries, counted.launches, counted.host_allocations) == (0, 0, 0, 0)


def test_alternating_shapes(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The short last batch of an epoch does not cost the pieces of the others."""
    batches = [torch.ones(count, device="fake") for count in (50_000, 50_000, 50_000, 12_345)]
    for source in batches * 2:
        native_bridge.to_numpy([source, source])
    fake.reset_counters()
    for source in batches * 10:
        native_bridge.to_numpy([source, source])
    assert_steady(fake, 40)


@pytest.mark.parametrize("limit", [4 * MIB, 64 * MIB])
def test_shapes_that_change_stay_within_the_limit(native: EngineChoice, fake: ModuleType, limit: int) -> None:
    """Log-normal sizes, as of ragged batches; a few results are alive at any time."""
    dice = random.Random(8)
    source = torch.arange(2 * MIB, dtype=torch.int32, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        kept: list[Any] = []
        for turn in range(300):
            count = min(int(dice.lognormvariate(10, 1.5)) + 1, source.numel())
            kept.append(bridge.to_numpy(source[:count]))
            del kept[: -dice.randrange(1, 5)]
            assert bridge.stats().held_bytes <= limit
            if turn == 150:
                fake.reset_counters()
        assert all(array[-1] == len(array) - 1 for array in kept)
        if limit > 32 * MIB:
            assert bridge.stats().unpooled_leaves == 0
            assert fake.counters().host_allocations <= 2
            assert bridge.stats().held_bytes <= 32 * MIB


def test_a_steady_loop_with_a_leaf_beyond_the_limit(native: EngineChoice, fake: ModuleType) -> None:
    """What can never be page-locked does not cost the others their memory, turn by turn."""
    tree = [torch.ones(12 * MIB, device="fake"), torch.ones(100_000, device="fake"), torch.ones(7, device="fake")]
    with tnb.Bridge(engine=native, pinned_limit=40 * MIB) as bridge:
        for _ in range(WARM):
            result(bridge, tree)
        fake.reset_counters()
        for _ in range(5):
            result(bridge, tree)
        counted = fake.counters()
        assert (counted.host_allocations, counted.host_frees, counted.event_creates) == (0, 0, 0)
        assert bridge.stats().unpooled_leaves == WARM + 5


def test_a_loop_at_the_limit_leaves_torchs_own_cache_alone(native: EngineChoice, fake: ModuleType) -> None:
    """The buffers of a DataLoader that pins are in there."""
    source = torch.ones(MIB, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=8 * MIB) as bridge:
        kept = [bridge.to_numpy(source) for _ in range(6)]
        torch.ones(1000).pin_memory()
        fake.reset_counters()
        for _ in range(5):
            kept.append(bridge.to_numpy(source))
            torch.ones(1000).pin_memory()
        assert bridge.stats().unpooled_leaves >= 5
        assert (fake.counters().host_allocations, fake.counters().host_frees) == (0, 0)
    assert all((array == 1).all() for array in kept)
