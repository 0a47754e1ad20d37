"""The staged route: beyond the limit a worker copies to ordinary memory, and every other contract holds as before."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import (
    Array,
    Call,
    assert_same_array,
    assert_silent,
    run_script,
    side_stream,
    torchs_answer,
    wait_until,
)

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

MIB = 1 << 20
CHUNK, RING = 4 * MIB, 16 * MIB


@pytest.fixture(params=["ring", "plain"])
def full(request: pytest.FixtureRequest, native: EngineChoice, fake: ModuleType) -> Iterator[tnb.Bridge]:
    """A Bridge at its limit: with room for the ring only, or for nothing."""
    if request.param == "plain":
        with tnb.Bridge(engine=native, pinned_limit=0) as bridge:
            yield bridge
        return
    with tnb.Bridge(engine=native, pinned_limit=2 * RING) as bridge:
        wall = bridge.to_numpy(torch.zeros(RING, dtype=torch.uint8, device="fake"))
        assert bridge.stats().held_bytes == RING
        yield bridge
        assert bridge.stats().held_bytes <= 2 * RING
        del wall


def has_ring(bridge: tnb.Bridge) -> bool:
    return bridge.stats().limit_bytes > 0


def numbers(count: int, device: str = "fake") -> torch.Tensor:
    return torch.arange(count, dtype=torch.int32, device=device)


SIZES = {
    "one element": 4,
    "a chunk but one": CHUNK - 4,
    "a chunk": CHUNK,
    "a chunk and one": CHUNK + 4,
    "the ring": RING,
    "twice round the ring": 2 * RING + 5 * MIB + 4,
    "more than the limit": 40 * MIB,
}


@pytest.mark.parametrize("size", SIZES)
def test_any_size(full: tnb.Bridge, fake: ModuleType, size: str) -> None:
    source = numbers(SIZES[size] // 4)
    fake.reset_counters()
    array = full.to_numpy_async(source).result()
    assert np.array_equal(array, np.arange(source.numel(), dtype=np.int32))
    counted = fake.counters()
    if has_ring(full):
        assert (counted.copies_d2h, counted.copies_synchronous) == (-(-SIZES[size] // CHUNK), 0)
    assert counted.bytes_d2h == SIZES[size]
    assert np.array_equal(full.to_numpy(source), array)
    assert full.stats().unpooled_leaves == 2


LAYOUTS: dict[str, Callable[[], torch.Tensor]] = {
    "transposed": lambda: numbers(3_000_000).view(1000, 3000).t(),
    "permuted": lambda: numbers(1_200_000).view(100, 40, 300).permute(1, 2, 0),
    "every other column": lambda: numbers(3_000_000).view(1000, 3000)[:, ::2],
    "gathered in slabs": lambda: numbers(8_000_000).view(2000, 4000)[:, 1::2],
    "expanded": lambda: numbers(1000).expand(1500, 1000),
    "negated": lambda: torch._neg_view(numbers(2_000_000)),
    "conjugated": lambda: torch.complex(*[torch.arange(600_000.0, device="fake")] * 2).conj(),
    "wide elements": lambda: numbers(700_000).to(torch.complex128),
    "narrow elements": lambda: torch.arange(9_000_001, device="fake").to(torch.uint8),
    "bfloat16": lambda: torch.arange(3_000_000, device="fake").to(torch.bfloat16),
    "an offset": lambda: numbers(3_000_001)[1:],
    "zero-dimensional": lambda: numbers(5)[3],
    "empty": lambda: numbers(5)[:0],
    "with a gradient": lambda: torch.ones(1000, device="fake").requires_grad_(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(full: tnb.Bridge, layout: str) -> None:
    source = LAYOUTS[layout]()
    expected = torchs_answer(source)
    assert_same_array(full.to_numpy_async(source).result(), expected)
    assert_same_array(full.to_numpy(source), expected)


def test_inference_tensors(full: tnb.Bridge) -> None:
    with torch.inference_mode():
        source = torch.ones(2_000_000, device="fake")[::2]
        inside = full.to_numpy_async(source)
    assert (inside.result() == 1).all()
    assert (full.to_numpy_async(source).result() == 1).all()


def test_many_leaves_never_share_memory(full: tnb.Bridge) -> None:
    tree = [numbers(3000).view(60, 50)[:, : index % 49 + 1] + index for index in range(100)]
    tree += [numbers(1_500_000) + index for index in range(4)]
    arrays: list[Array] = full.to_numpy_async(tree).result()
    for array, tensor in zip(arrays, tree, strict=True):
        assert np.array_equal(array, tensor.cpu().numpy())
    assert len({id(array.base) for array in arrays}) == len(arrays)
    spans = sorted((array.ctypes.data, array.ctypes.data + array.nbytes) for array in arrays)
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
    assert full.stats().unpooled_leaves == len(tree)


def test_the_copy_waits_for_the_producer_and_the_caller_does_not(full: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.zeros(2_000_000, device="fake")
    with fake.hold():
        source += 1
        transfer = full.to_numpy_async([source, source[::2], source[:10]])
        assert not transfer.done()
        with pytest.raises(TimeoutError, match="ask again"):
            transfer.result(timeout=0)
        values = [getattr(transfer, name, None) for name in type(transfer).__slots__ if name != "__weakref__"]
        assert not any(isinstance(value, np.ndarray) for value in values)
    assert all((array == 1).all() for array in transfer.result())


def test_others_launch_while_a_copy_to_ordinary_memory_is_under_way(full: tnb.Bridge, fake: ModuleType) -> None:
    """A copy to pageable memory stalls the launches of other threads: pytorch#143825. Ours is made by the worker."""
    source, other = numbers(2_000_000), torch.zeros(10, device="fake")
    side = side_stream(full, torch.ones(1, device="fake"))
    torch.accelerator.synchronize()
    before = fake.counters().copies_d2h

    def compute() -> None:
        with side:
            other.add_(1)
            side.synchronize()

    with fake.hold_copies():
        transfer = full.to_numpy_async(source)
        wait_until(lambda: fake.counters().copies_d2h > before)
        Call(compute).result()
        compute()
        assert not transfer.done()
    assert np.array_equal(transfer.result(), np.arange(2_000_000))
    assert other.cpu().tolist() == [2] * 10


def test_a_blocking_call_waits_for_the_producer(full: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.zeros(2_000_000, device="fake")
    stream = torch.accelerator.current_stream()

    def convert() -> list[Array]:
        torch.accelerator.set_stream(stream)
        arrays: list[Array] = full.to_numpy([source, source[:10]])
        return arrays

    with fake.hold():
        source += 1
        call = Call(convert)
        assert not call.done()
    assert all((array == 1).all() for array in call.result())


def test_nothing_is_reached_before_its_last_chunk(full: tnb.Bridge, fake: ModuleType) -> None:
    source = numbers(3 * CHUNK // 4)
    torch.accelerator.synchronize()
    before = fake.counters().copies_d2h
    with fake.hold_copies():
        transfer = full.to_numpy_async(source)
        wait_until(lambda: fake.counters().copies_d2h > before)
        assert not transfer.done()
    assert np.array_equal(transfer.result(), np.arange(source.numel()))


def test_the_source_may_be_dropped_in_flight(full: tnb.Bridge, fake: ModuleType) -> None:
    before = fake.counters().device_bytes_live
    source = numbers(2_000_000)
    with fake.hold():
        transfer = full.to_numpy_async([source, source.view(1000, 2000)[:, ::2]])
        del source
        for _ in range(5):
            torch.full((2_000_000,), -1, dtype=torch.int32, device="fake")
    dense, gathered = transfer.result()
    assert np.array_equal(dense, np.arange(2_000_000))
    assert np.array_equal(gathered.ravel(), np.arange(0, 2_000_000, 2))
    wait_until(lambda: fake.counters().device_bytes_live == before)


def test_a_transfer_may_be_dropped_in_flight(full: tnb.Bridge, fake: ModuleType) -> None:
    before = fake.counters().device_bytes_live
    with fake.hold():
        full.to_numpy_async([numbers(2_000_000), numbers(3000)[::2]])
        assert fake.counters().device_bytes_live > before
        following = full.to_numpy_async(numbers(3_000_000))
    assert np.array_equal(following.result(), np.arange(3_000_000))
    wait_until(lambda: fake.counters().device_bytes_live == before)


def test_the_bridge_may_be_dropped_in_flight(native: EngineChoice, fake: ModuleType) -> None:
    source = numbers(2_000_000)
    bridge = tnb.Bridge(engine=native, pinned_limit=0)
    with fake.hold():
        transfer = bridge.to_numpy_async(source)
        del bridge
    assert np.array_equal(transfer.result(), np.arange(2_000_000))


def test_transfers_and_devices_take_turns(full: tnb.Bridge, fake: ModuleType) -> None:
    first, second = numbers(2_000_000, "fake:0"), numbers(2_000_000, "fake:1") * 2
    with fake.hold():
        held = full.to_numpy_async(first)
        both = full.to_numpy_async([second, first])
        assert not held.done()
        assert not both.done()
    assert np.array_equal(held.result(), np.arange(2_000_000))
    for scale, array in zip((2, 1), both.result(), strict=True):
        assert np.array_equal(array, np.arange(2_000_000) * scale)


def test_page_locked_and_staged_leaves_in_one_transfer(native: EngineChoice, fake: ModuleType) -> None:
    with tnb.Bridge(engine=native, pinned_limit=2 * RING) as bridge:
        tree = [numbers(1000), numbers(6_000_000), numbers(7, "fake:1"), torch.ones(2)]
        with fake.hold():
            transfer = bridge.to_numpy_async(tree)
            assert not transfer.done()
        for array, tensor in zip(transfer.result(), tree, strict=True):
            assert_same_array(array, torchs_answer(tensor))
        assert bridge.stats().unpooled_leaves == 1


def test_close_waits(full: tnb.Bridge, fake: ModuleType) -> None:
    source = numbers(2_000_000)
    with fake.hold():
        transfers = [full.to_numpy_async(source) for _ in range(3)]
        call = Call(full.close)
        assert not call.done()
        assert not transfers[0].done()
    call.result()
    assert all(transfer.done() for transfer in transfers)
    assert all(np.array_equal(transfer.result(), np.arange(2_000_000)) for transfer in transfers)
    assert full.stats().held_bytes in (0, RING)  # without the ring


def test_trim_leaves_a_ring_in_use_alone(full: tnb.Bridge, fake: ModuleType) -> None:
    source = numbers(3_000_000)
    with fake.hold():
        transfer = full.to_numpy_async(source)
        full.trim()
    assert np.array_equal(transfer.result(), np.arange(3_000_000))
    assert np.array_equal(full.to_numpy_async(source).result(), np.arange(3_000_000))


def test_the_ring_is_used_again(native: EngineChoice, fake: ModuleType) -> None:
    with tnb.Bridge(engine=native, pinned_limit=RING) as bridge:
        source = numbers(5_000_000)
        for _ in range(2):
            bridge.to_numpy_async(source).result()
        fake.reset_counters()
        for _ in range(5):
            bridge.to_numpy_async(source).result()
        counted = fake.counters()
        assert (counted.event_creates, counted.host_allocations, counted.device_allocations) == (0, 0, 0)
        assert (counted.stream_synchronizes, counted.device_synchronizes, counted.copies_synchronous) == (0, 0, 0)
        assert bridge.stats().allocations == 1


EXITS = {
    "held": "latch = fake_device.hold(); kept = bridge.to_numpy_async(x)",
    "dropped": "latch = fake_device.hold(); bridge.to_numpy_async([x, x[::2]]); bridge.to_numpy_async(x)",
    "held copies": "latch = fake_device.hold_copies(); kept = [bridge.to_numpy_async(x) for _ in range(3)]",
    "slow": "fake_device.set_copy_cost(latency=0.2); kept = [bridge.to_numpy_async(x) for _ in range(20)]",
    "without the bridge": "latch = fake_device.hold(); bridge.to_numpy_async(x); del bridge",
}
# The plain route stands in one call of torch, which ends with the device's work only: what is held stays held.
RUNS = [*((exit_, "16MiB") for exit_ in EXITS), ("held", "0"), ("slow", "0")]


@pytest.mark.parametrize(("exit_", "limit"), RUNS)
def test_exit_while_staging_is_silent(native: EngineChoice, fake: ModuleType, exit_: str, limit: str) -> None:
    prelude = f"""
import torch, fake_device, torch_np_bridge as tnb
bridge = tnb.Bridge(engine={native!r}, pinned_limit="{limit}")
x = torch.ones(5_000_000, device="fake")
"""
    assert_silent(run_script(prelude + EXITS[exit_]))
