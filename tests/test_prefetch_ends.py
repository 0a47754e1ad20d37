"""`prefetch_to_host`: every way in which it may end, and what it refuses."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import optree
import pytest
import torch
from batches import SIZE, assert_in_order, batches, live_when_settled
from helpers import Call, hold, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice


def test_an_early_break(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    before = live_when_settled(native_bridge, fake)
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
    before = live_when_settled(native_bridge, fake)

    def consume() -> None:
        for item in native_bridge.prefetch_to_host(batches("fake", 10), 3):
            1 / item["values"][0].item()

    with pytest.raises(ZeroDivisionError):
        consume()
    wait_until(lambda: fake.counters().device_bytes_live == before)
    wait_until(lambda: native_bridge.stats().leased_bytes == 0)


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


class Container:
    """What a container raises must not end the iteration as if there were no more items."""

    def __init__(self, value: torch.Tensor | None) -> None:
        self.value = value


def test_a_container_that_says_stop_is_an_error(bridge: tnb.Bridge, device: str) -> None:
    def flatten(container: Any) -> tuple[tuple[Any], None]:
        return (next(iter(())) if container.value is None else container.value,), None

    def make(_: Any, leaves: Any) -> Any:
        return Container(*leaves)

    node: Any = Container
    optree.register_pytree_node(node, flatten, make, namespace="torch_np_bridge")
    try:
        one = torch.ones(2, device=device)
        arrays = bridge.prefetch_to_host([Container(one), Container(None), Container(one)])
        assert next(arrays).value.tolist() == [1, 1]
        with pytest.raises(RuntimeError, match=r"expected a container .* got StopIteration from it"):
            next(arrays)
        assert list(arrays) == []
    finally:
        optree.unregister_pytree_node(node, namespace="torch_np_bridge")


def test_a_cleanup_that_fails_does_not_hide_the_error(bridge: tnb.Bridge) -> None:
    def produce() -> Iterator[torch.Tensor]:
        try:
            yield torch.ones(2)
            yield torch.ones(3).to_sparse()
            yield torch.ones(2)
        finally:
            raise ValueError("the cleanup")

    arrays = bridge.prefetch_to_host(produce())
    next(arrays)
    with pytest.raises(ValueError, match="the cleanup") as caught:
        next(arrays)
    assert isinstance(caught.value.__cause__, tnb.UnsupportedTensorError)
