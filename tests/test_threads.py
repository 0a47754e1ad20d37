"""Contract 11: every function from any thread, and no wait or device call with the GIL held."""

from __future__ import annotations

import dataclasses
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import optree
import pytest
import torch
from helpers import Call, hold, wait_until

import torch_np_bridge as tnb
from torch_np_bridge._classes import NAMESPACE

THREADS = 8


def test_many_threads_convert_at_once(bridge: tnb.Bridge, device: str) -> None:
    barrier = threading.Barrier(THREADS)

    def work(seed: int) -> None:
        barrier.wait()
        for turn in range(50):
            value = float(seed * 100 + turn)
            tree = {"dense": torch.full((200,), value, device=device)}
            tree["strided"] = torch.full((20, 10), value, device=device)[:, ::3]
            result = bridge.to_numpy(tree) if turn % 2 else bridge.to_numpy_async(tree).result()
            assert (result["dense"] == value).all()
            assert (result["strided"] == value).all()

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, seed) for seed in range(THREADS)]:
            future.result()


def test_threads_with_streams_and_devices_of_their_own(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    barrier = threading.Barrier(THREADS)

    def work(seed: int) -> None:
        torch.accelerator.set_device_index(seed % 2)
        barrier.wait()
        with torch.Stream(f"fake:{seed % 2}"):
            x = torch.zeros(500, device="fake")
            for turn in range(30):
                x.fill_(seed * 100 + turn)
                transfer = native_bridge.to_numpy_async([x, x.view(50, 10)[::2]])
                expected = seed * 100 + turn
                assert all((array == expected).all() for array in transfer.result())

    with ThreadPoolExecutor(THREADS) as pool:
        for future in [pool.submit(work, seed) for seed in range(THREADS)]:
            future.result()


def test_every_waiter_gets_the_same_objects(native_bridge: tnb.Bridge, accelerator: str) -> None:
    tree = {"a": torch.ones(100, device=accelerator)}
    with hold(accelerator):
        torch.ones(1, device=accelerator)
        transfer = native_bridge.to_numpy_async(tree)
        waiters = [Call(transfer.result) for _ in range(THREADS)]
        assert not any(waiter.done() for waiter in waiters)
    results = [waiter.result() for waiter in waiters]
    assert all(result is results[0] for result in results)
    assert transfer.result() is results[0]


@pytest.mark.parametrize("wait", ["result", "asarray", "close"])
def test_waiting_leaves_the_gil_to_others(native_bridge: tnb.Bridge, accelerator: str, wait: str) -> None:
    """With the GIL held the latch could never be released."""
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(torch.ones(100, device=accelerator))
        ways: dict[str, Any] = {
            "result": transfer.result,
            "asarray": lambda: np.asarray(transfer),
            "close": native_bridge.close,
        }
        waiter = Call(ways[wait])
        assert not waiter.done()
    waiter.result()
    assert transfer.done()


def test_a_synchronous_copy_leaves_the_gil_to_others(bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = torch.ones(100, device="fake")
    bridge.to_numpy(x)
    before = fake.counters().copies_d2h
    with fake.hold_copies():
        call = Call(lambda: bridge.to_numpy(x))
        wait_until(lambda: fake.counters().copies_d2h > before)
        assert not call.done()
    assert (call.result() == 1).all()


def test_an_array_may_die_on_any_thread(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.ones(1000, device="fake")
    blocks = {native_bridge.to_numpy(source).ctypes.data}
    for _ in range(20):
        box = [native_bridge.to_numpy(source)]
        blocks.add(box[0].ctypes.data)
        Call(box.clear).result()
    assert len(blocks) <= 2


def test_garbage_collection_may_end_a_transfer(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """On another thread, with a closed latch: the end of a Transfer waits for nothing."""

    class Cycle:
        me: Any
        transfer: tnb.Transfer

    with fake.hold():
        cycle = Cycle()
        cycle.me, cycle.transfer = cycle, native_bridge.to_numpy_async(torch.ones(1000, device="fake"))
        del cycle
        Call(gc.collect).result()


def test_a_container_met_by_two_threads_at_once(bridge: tnb.Bridge) -> None:
    """While one thread flattens a tree, another meets the same new type first."""

    @dataclasses.dataclass
    class Pair:
        tensor: Any

    class Intruder:
        pass

    armed: list[bool] = []

    def intrude(_: Any) -> tuple[tuple[()], None]:
        if armed:
            Call(lambda: bridge.to_numpy([Pair(torch.zeros(1))])).result()
        return (), None

    cls: Any = Intruder  # optree's types speak of Collections
    optree.register_pytree_node(cls, intrude, lambda _, __: cls(), namespace=NAMESPACE)
    bridge.to_numpy(Intruder())  # once, so that only the pair is new
    armed.append(True)
    pair, _ = bridge.to_numpy([Pair(torch.ones(2)), Intruder()])
    assert type(pair.tensor) is np.ndarray


def test_no_list_is_seen_before_it_is_full(native_bridge: tnb.Bridge) -> None:
    """The arrays of a caller are filled without the GIL, and the garbage collector shows every list to whoever asks."""
    tensors = [torch.ones(1_000_000) for _ in range(3)]
    out = [np.zeros(1_000_000, np.float32) for _ in tensors]
    ended = threading.Event()

    def look() -> bool:
        while not ended.is_set():
            lists = [found for found in gc.get_objects() if type(found) is list and len(found) == len(out)]
            if any(len(gc.get_referents(found)) < len(found) for found in lists):
                return True
        return False

    looking = Call(look)
    for _ in range(100):
        native_bridge.to_numpy(tensors, out=out)
    ended.set()
    assert not looking.result()


def test_what_is_counted_by_many_threads(bridge: tnb.Bridge, accelerator: str) -> None:
    x = torch.ones(2, device=accelerator)
    calls = [Call(lambda: [bridge.to_numpy(x) for _ in range(500)]) for _ in range(4)]
    for call in calls:
        call.result()
    assert bridge.stats().transfers == 2000
