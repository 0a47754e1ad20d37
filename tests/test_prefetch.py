"""`prefetch_to_host`: the order, how much is alive, and every way in which it may end."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Call, hold, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

SIZE = 25_000
BYTES = 4 * SIZE


def batches(device: str, count: int) -> Iterator[dict[str, Any]]:
    for index in range(count):
        yield {"values": torch.full((SIZE,), float(index), device=device), "name": f"batch {index}"}


def assert_in_order(results: Iterable[dict[str, Any]], count: int) -> None:
    seen = 0
    for index, result in enumerate(results):
        assert result["name"] == f"batch {index}"
        assert (result["values"] == index).all()
        seen += 1
    assert seen == count


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
    native_bridge.to_numpy(torch.ones(SIZE, device="fake"))
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
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
    room = 1.125 * BYTES
    assert max(on_device) <= (depth + 1) * room
    assert max(on_host) <= (depth + 1) * room
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


def test_an_early_break(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    native_bridge.to_numpy(torch.ones(SIZE, device="fake"))
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
    closed = []

    def produce() -> Iterator[torch.Tensor]:
        try:
            yield from (torch.ones(SIZE, device="fake") for _ in range(10))
        finally:
            closed.append(True)

    def consume() -> None:
        for _ in native_bridge.prefetch_to_host(produce(), 3):
            break

    consume()
    gc.collect()
    assert closed == [True]
    wait_until(lambda: fake.counters().device_bytes_live == before)
    wait_until(lambda: native_bridge.stats().leased_bytes == 0)


def test_closing(bridge: tnb.Bridge, device: str) -> None:
    source = batches(device, 10)
    iterator = bridge.prefetch_to_host(source, 3)
    next(iterator)
    iterator.close()
    iterator.close()
    with pytest.raises(StopIteration):
        next(iterator)
    with pytest.raises(StopIteration):  # it was closed, too
        next(source)


def test_only_generators_are_closed(bridge: tnb.Bridge, device: str) -> None:
    """A file, for one, belongs to whoever opened it."""

    class Source:
        def __iter__(self) -> Source:
            return self

        def __next__(self) -> torch.Tensor:
            return torch.ones(2, device=device)

        def close(self) -> None:
            raise AssertionError

    iterator = bridge.prefetch_to_host(Source())
    next(iterator)
    iterator.close()


def test_an_exception_of_the_producer_comes_at_its_place(bridge: tnb.Bridge, device: str) -> None:
    def produce() -> Iterator[dict[str, Any]]:
        yield from batches(device, 3)
        raise ValueError("a mistake of the producer")

    iterator = bridge.prefetch_to_host(produce(), 2)
    assert_in_order([next(iterator) for _ in range(3)], 3)
    with pytest.raises(ValueError, match="a mistake of the producer"):
        next(iterator)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)


def test_a_refused_item_comes_at_its_place(bridge: tnb.Bridge, device: str) -> None:
    items = [torch.ones(2, device=device), {"a": torch.eye(2).to_sparse()}, torch.ones(2, device=device)]
    iterator = bridge.prefetch_to_host(items, 3)
    assert next(iterator).tolist() == [1, 1]
    with pytest.raises(tnb.UnsupportedTensorError, match=r"tree\['a'\]: expected a strided tensor"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_changed_source_comes_at_its_place(native_bridge: tnb.Bridge, accelerator: str) -> None:
    static = torch.zeros(SIZE, device=accelerator)

    def produce() -> Iterator[torch.Tensor]:
        for _ in range(3):
            yield static.add_(1)

    latch = hold(accelerator)
    stream = torch.accelerator.current_stream()

    def consume(snapshot: bool) -> list[float]:
        torch.accelerator.set_stream(stream)
        return [array[0] for array in native_bridge.prefetch_to_host(produce(), 3, snapshot=snapshot)]

    torn = Call(lambda: consume(False))
    wait_until(lambda: static._version >= 3)
    latch.release()
    with pytest.raises(tnb.SourceMutatedError):
        torn.result()
    assert consume(snapshot=True) == [4, 5, 6]


def test_ctrl_c_in_the_producer(bridge: tnb.Bridge, device: str) -> None:
    class Source:
        calls = 0

        def __iter__(self) -> Source:
            return self

        def __next__(self) -> torch.Tensor:
            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            if self.calls > 4:
                raise StopIteration
            return torch.full((2,), float(self.calls), device=device)

    iterator = bridge.prefetch_to_host(Source())
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert [array[0] for array in iterator] == [1, 3, 4]


def test_an_exception_in_the_consumer(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    native_bridge.to_numpy(torch.ones(SIZE, device="fake"))
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live

    def consume() -> None:
        for item in native_bridge.prefetch_to_host(batches("fake", 10), 3):
            1 / item["values"][0].item()

    with pytest.raises(ZeroDivisionError):
        consume()
    wait_until(lambda: fake.counters().device_bytes_live == before)
    wait_until(lambda: native_bridge.stats().leased_bytes == 0)


def test_length(bridge: tnb.Bridge, device: str) -> None:
    rows: Any = torch.arange(10.0).reshape(10, 1)
    loader: Iterable[torch.Tensor] = torch.utils.data.DataLoader(rows, batch_size=4)
    iterator = bridge.prefetch_to_host(loader)
    assert len(iterator) == 3
    assert [array.shape for array in iterator] == [(4, 1), (4, 1), (2, 1)]
    with pytest.raises(TypeError):
        len(bridge.prefetch_to_host(batches(device, 1)))


def test_inference_mode(bridge: tnb.Bridge, device: str) -> None:
    @torch.inference_mode()
    def produce() -> Iterator[torch.Tensor]:
        for index in range(4):
            yield torch.full((2,), float(index), device=device)

    assert [array[0] for array in bridge.prefetch_to_host(produce())] == [0, 1, 2, 3]


def test_a_dtype_is_handed_on(bridge: tnb.Bridge, device: str) -> None:
    [array] = bridge.prefetch_to_host([torch.ones(2, device=device)], dtype=np.float64)
    assert array.dtype == np.float64


@pytest.mark.parametrize(("depth", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError)])
def test_a_depth_that_is_none(bridge: tnb.Bridge, depth: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        bridge.prefetch_to_host([], depth)


@pytest.mark.parametrize("source", [3, None])
def test_what_cannot_be_iterated(bridge: tnb.Bridge, source: Any) -> None:
    with pytest.raises(
        TypeError, match=r"expected an iterable or an asynchronous iterable, got \w+; call to_numpy_async"
    ):
        bridge.prefetch_to_host(source)


def test_a_closed_bridge(engine: EngineChoice) -> None:
    bridge = tnb.Bridge(engine=engine)
    iterator = bridge.prefetch_to_host([torch.ones(2)])
    bridge.close()
    with pytest.raises(RuntimeError, match="expected an open Bridge"):
        next(iterator)
    with pytest.raises(RuntimeError, match="expected an open Bridge"):
        bridge.prefetch_to_host([])


def test_one_caller_at_a_time(native_bridge: tnb.Bridge, accelerator: str) -> None:
    made = []

    def produce() -> Iterator[torch.Tensor]:
        while True:
            made.append(True)
            yield torch.ones(2, device=accelerator)

    iterator = native_bridge.prefetch_to_host(produce(), 2)
    stream = torch.accelerator.current_stream()

    def first() -> Any:
        torch.accelerator.set_stream(stream)
        return next(iterator)

    with hold(accelerator):
        call = Call(first)
        wait_until(lambda: len(made) == 2)
        for use in (lambda: next(iterator), iterator.close):
            with pytest.raises(RuntimeError, match="expected one caller at a time"):
                use()
    assert call.result().tolist() == [1, 1]
    assert next(iterator).tolist() == [1, 1]


# Asynchronous iterables


async def async_batches(device: str, count: int) -> AsyncIterator[dict[str, Any]]:
    for item in batches(device, count):
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("depth", [1, 2, 20])
def test_asynchronous_iterables(bridge: tnb.Bridge, device: str, depth: int) -> None:
    async def main() -> None:
        results = [item async for item in bridge.prefetch_to_host(async_batches(device, 10), depth)]
        assert_in_order(results, 10)

    asyncio.run(main())


def test_an_asynchronous_exception_comes_at_its_place(bridge: tnb.Bridge, device: str) -> None:
    async def produce() -> AsyncIterator[dict[str, Any]]:
        for item in batches(device, 3):
            yield item
        raise ValueError("a mistake of the producer")

    async def main() -> None:
        iterator = bridge.prefetch_to_host(produce(), 2)
        assert_in_order([await anext(iterator) for _ in range(3)], 3)
        with pytest.raises(ValueError, match="a mistake of the producer"):
            await anext(iterator)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(iterator)

    asyncio.run(main())


def test_closing_an_asynchronous_one(bridge: tnb.Bridge, device: str) -> None:
    async def main() -> None:
        source = async_batches(device, 10)
        iterator = bridge.prefetch_to_host(source, 3)
        await anext(iterator)
        await iterator.aclose()
        for closed in (iterator, source):
            with pytest.raises(StopAsyncIteration):
                await anext(closed)

    asyncio.run(main())


def test_a_cancelled_wait_loses_nothing(native_bridge: tnb.Bridge, accelerator: str) -> None:
    async def main() -> None:
        iterator = native_bridge.prefetch_to_host(async_batches(accelerator, 3), 2)
        latch = hold(accelerator)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(iterator), 0.05)
        latch.release()
        assert_in_order([item async for item in iterator], 3)

    asyncio.run(main())
