"""Transfers where the standard library waits: real futures, and awaiting, with no thread of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
import weakref
from typing import Any

import optree
import pytest
import torch
from helpers import PATIENCE, Call, hold, wait_until
from test_callbacks import ones

import torch_np_bridge as tnb

# Futures


def test_a_future_has_the_result(bridge: tnb.Bridge, device: str) -> None:
    transfer = bridge.to_numpy_async({"a": ones(device)})
    future = transfer.future()
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(PATIENCE) is transfer.result()
    assert future.exception() is None


def test_futures_wait_together(native_bridge: tnb.Bridge, accelerator: str) -> None:
    with hold(accelerator):
        futures = [native_bridge.to_numpy_async(ones(accelerator, size)).future() for size in (1, 2, 3)]
        assert not any(future.done() for future in futures)
        assert futures[0].running()
        assert not futures[0].cancel()
        waiting = concurrent.futures.wait(futures, timeout=0)
        assert waiting.not_done == set(futures)
    done = list(concurrent.futures.as_completed(futures, timeout=PATIENCE))
    assert sorted(len(future.result()) for future in done) == [1, 2, 3]


def test_a_future_has_the_error(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = ones(accelerator)
    with hold(accelerator):
        future = native_bridge.to_numpy_async([x]).future()
        x += 1
    assert isinstance(future.exception(PATIENCE), tnb.SourceMutatedError)


def test_a_future_that_failed_keeps_nothing(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """The error knows the frame that settled the future, which has to know neither any more."""

    def fail() -> weakref.ref[concurrent.futures.Future[Any]]:
        x = ones(accelerator)
        with hold(accelerator):
            future = native_bridge.to_numpy_async([x]).future()
            x += 1
        assert isinstance(future.exception(PATIENCE), tnb.SourceMutatedError)
        return weakref.ref(future)

    gc.collect()
    gc.disable()
    try:
        future = fail()
        wait_until(lambda: future() is None)
        assert native_bridge.stats().leased_bytes == 0
    finally:
        gc.enable()


class Leaving:
    """A container that ends the process when it is made again, as far as it can."""

    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_future_ends_whatever_is_raised(native_bridge: tnb.Bridge, accelerator: str) -> None:
    def make(_: Any, leaves: Any) -> Any:
        raise SystemExit(3)

    def take(it: Any) -> Any:
        return (it.value,), None

    node: Any = Leaving
    optree.register_pytree_node(node, take, make, namespace="torch_np_bridge")
    try:
        with hold(accelerator):
            future = native_bridge.to_numpy_async(Leaving(ones(accelerator))).future()
        assert isinstance(future.exception(PATIENCE), SystemExit)
        native_bridge.close()  # the worker has gone on
    finally:
        optree.unregister_pytree_node(node, namespace="torch_np_bridge")


# Awaiting


def test_awaiting_gives_the_result(bridge: tnb.Bridge, device: str) -> None:
    async def main() -> None:
        transfer = bridge.to_numpy_async({"a": ones(device)})
        assert (await transfer) is transfer.result()
        assert (await transfer) is transfer.result()

    asyncio.run(main())


def test_the_loop_goes_on_meanwhile(native_bridge: tnb.Bridge, accelerator: str) -> None:
    async def main() -> None:
        latch = hold(accelerator)
        transfer = native_bridge.to_numpy_async(ones(accelerator))
        waiting = asyncio.ensure_future(transfer)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        latch.release()
        assert (await asyncio.wait_for(waiting, PATIENCE)).tolist() == [1, 1, 1]

    asyncio.run(main())


def test_ten_thousand_awaited_at_once_cost_one_worker(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = torch.zeros(2, device=accelerator)

    async def main() -> None:
        latch = hold(accelerator)
        threads = threading.active_count()
        transfers = [native_bridge.to_numpy_async(x) for _ in range(10_000)]
        waiting = asyncio.gather(*transfers)
        await asyncio.sleep(0)
        latch.release()
        arrays = await asyncio.wait_for(waiting, 10 * PATIENCE)
        assert threading.active_count() <= threads + 1
        assert len({array.ctypes.data for array in arrays}) == 10_000

    asyncio.run(main())


def test_cancelling_leaves_the_transfer_whole(native_bridge: tnb.Bridge, accelerator: str) -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        latch = hold(accelerator)
        transfer = native_bridge.to_numpy_async(ones(accelerator))
        task = asyncio.ensure_future(transfer)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not transfer.done()
        latch.release()
        assert (await transfer).tolist() == [1, 1, 1]

    asyncio.run(main())
    assert complaints == []


def test_a_loop_that_closes_first(native_bridge: tnb.Bridge, accelerator: str) -> None:
    transfers = []

    async def main() -> None:
        transfers.append(native_bridge.to_numpy_async(ones(accelerator)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transfers[0], 0.001)

    with hold(accelerator):
        asyncio.run(main())
    native_bridge.close()
    assert transfers[0].result().tolist() == [1, 1, 1]


def test_two_loops_may_await_one_transfer(native_bridge: tnb.Bridge, accelerator: str) -> None:
    async def main(transfer: tnb.Transfer) -> Any:
        return await transfer

    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(ones(accelerator))
        calls = [Call(lambda: asyncio.run(main(transfer))) for _ in range(2)]
        wait_until(lambda: threading.active_count() >= 3)
    assert all(call.result() is transfer.result() for call in calls)


def test_awaiting_raises_what_the_copy_raises(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = ones(accelerator)

    async def main() -> None:
        latch = hold(accelerator)
        transfer = native_bridge.to_numpy_async([x])
        x.add_(1)
        latch.release()
        with pytest.raises(tnb.SourceMutatedError, match=r"tree\[0\]"):
            await transfer

    asyncio.run(main())


def test_without_a_loop_there_is_a_sentence(bridge: tnb.Bridge, device: str) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        bridge.to_numpy_async(ones(device)).__await__().send(None)
