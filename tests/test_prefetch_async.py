"""`prefetch_to_host` of asynchronous iterables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from batches import assert_in_order, batches
from helpers import hold

import torch_np_bridge as tnb


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
