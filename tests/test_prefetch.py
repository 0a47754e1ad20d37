"""`prefetch_to_host`: the order, and how much is alive."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from batches import BYTES, SIZE, assert_in_order, batches, live_when_settled
from helpers import Call, hold, wait_until

import torch_np_bridge as tnb


@pytest.mark.parametrize("depth", [1, 2, 5, 100, np.int64(3)])
@pytest.mark.parametrize("count", [0, 1, 10])
def test_what_comes_is_what_went_in(bridge: tnb.Bridge, device: str, depth: int, count: int) -> None:
    assert_in_order(bridge.prefetch_to_host(batches(device, count), depth), count)


def test_the_function_of_the_package(device: str) -> None:
    assert_in_order(tnb.prefetch_to_host(batches(device, 5)), 5)


def test_any_iterable(bridge: tnb.Bridge, device: str) -> None:
    listed = [torch.ones(2, device=device), [1, torch.zeros(1, device=device)], "name"]
    ones, (one, zeros), name = bridge.prefetch_to_host(listed)
    assert ones.tolist() == [1, 1]
    assert (one, zeros.tolist(), name) == (1, [0], "name")

    class Rows:
        """Iterable by its items alone, as data sets are."""

        def __getitem__(self, index: int) -> torch.Tensor:
            if index == 3:
                raise IndexError
            return torch.arange(2 * index, 2 * index + 2, device=device)

    rows: Any = Rows()
    assert [row.tolist() for row in bridge.prefetch_to_host(rows)] == [[0, 1], [2, 3], [4, 5]]


def test_copies_overlap_the_producer(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The second item is submitted before the first one is there; a third only when that was given out."""
    made = []

    def produce() -> Iterator[torch.Tensor]:
        for index in range(4):
            made.append(index)
            yield torch.full((SIZE,), float(index), device="fake")

    iterator = native_bridge.prefetch_to_host(produce(), 2)
    assert made == []
    latch = hold("fake")
    stream = torch.accelerator.current_stream()

    def first() -> Any:
        torch.accelerator.set_stream(stream)
        return next(iterator)

    call = Call(first)
    wait_until(lambda: made == [0, 1])
    assert not call.done()
    latch.release()
    assert call.result()[0] == 0
    assert made == [0, 1]
    assert next(iterator)[0] == 1
    assert made == [0, 1, 2]
    assert [array[0] for array in iterator] == [2, 3]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_so_much_is_alive_and_no_more(native_bridge: tnb.Bridge, fake: ModuleType, depth: int) -> None:
    before = live_when_settled(native_bridge, fake)
    on_device, on_host = [], []

    def produce() -> Iterator[torch.Tensor]:
        for index in range(10):
            item = torch.full((SIZE,), float(index), device="fake")
            on_device.append(fake.counters().device_bytes_live - before)
            yield item
            del item

    for index, array in enumerate(native_bridge.prefetch_to_host(produce(), depth)):
        on_host.append(native_bridge.stats().leased_bytes)
        assert (array == index).all()
    # Beside the item that has just been made, and beside the array that the consumer has: together never one more.
    room = 1.125 * BYTES
    assert max(on_device) <= depth * room
    assert max(on_host) <= depth * room
    torch.accelerator.synchronize()
    wait_until(lambda: fake.counters().device_bytes_live == before)


def test_items_are_let_go_of(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """Nothing of the bridge's holds an item: the one that is alive is the generator's own, at its yield."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def produce() -> Iterator[torch.Tensor]:
        for _ in range(5):
            alive.append(weakref.ref(item := torch.ones(SIZE, device=accelerator)))
            yield item
            del item

    iterator = native_bridge.prefetch_to_host(produce(), 2)
    for _ in range(5):
        next(iterator)
        assert sum(item() is not None for item in alive) <= 1


def test_length(bridge: tnb.Bridge, device: str) -> None:
    rows: Any = torch.arange(10.0).reshape(10, 1)
    loader: Iterable[torch.Tensor] = torch.utils.data.DataLoader(rows, batch_size=4)
    iterator = bridge.prefetch_to_host(loader)
    assert len(iterator) == 3
    assert [array.shape for array in iterator] == [(4, 1), (4, 1), (2, 1)]
    with pytest.raises(TypeError):
        len(bridge.prefetch_to_host(batches(device, 1)))


def test_it_is_true_whatever_its_length(bridge: tnb.Bridge, device: str) -> None:
    """As other iterators are: `if batches:` asks for no length."""
    assert bridge.prefetch_to_host(batches(device, 1))
    assert bridge.prefetch_to_host([])


def test_inference_mode(bridge: tnb.Bridge, device: str) -> None:
    @torch.inference_mode()
    def produce() -> Iterator[torch.Tensor]:
        for index in range(4):
            yield torch.full((2,), float(index), device=device)

    assert [array[0] for array in bridge.prefetch_to_host(produce())] == [0, 1, 2, 3]


def test_a_dtype_is_handed_on(bridge: tnb.Bridge, device: str) -> None:
    [array] = bridge.prefetch_to_host([torch.ones(2, device=device)], dtype=np.float64)
    assert array.dtype == np.float64
