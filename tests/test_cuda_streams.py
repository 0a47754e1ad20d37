"""Contract 3 on CUDA: the copy is behind its producer, whatever kind of stream that is.

The fake accelerator has pool streams and a default stream. CUDA has streams of several priorities, those of other
libraries, a default stream that others wait for, and one for each thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from cuda_tools import (
    STREAMS_OF_A_POOL,
    blocking_stream,
    copy_stream,
    delay,
    fastest_stream,
    own_default_stream,
)
from helpers import PATIENCE, Call

import torch_np_bridge as tnb

pytestmark = pytest.mark.usefixtures("gpu")
LATE = 10  # milliseconds that a producer takes: some hundred times as long as a call that does not wait for it

PRODUCERS: dict[str, Callable[[tnb.Bridge, torch.Tensor, ExitStack], torch.cuda.Stream]] = {
    "the legacy default stream": lambda bridge, x, stack: torch.cuda.default_stream(),
    "a side stream": lambda bridge, x, stack: torch.cuda.Stream(),
    "one of the highest priority": lambda bridge, x, stack: fastest_stream(),
    "the stream of the copies": lambda bridge, x, stack: copy_stream(bridge, x),
    "one of another library's": lambda bridge, x, stack: stack.enter_context(blocking_stream()),
    "the thread's own default stream": lambda bridge, x, stack: own_default_stream(),
}


@pytest.fixture
def x(gpu: str, native_bridge: tnb.Bridge) -> torch.Tensor:
    """What is overwritten, when all that is needed to convert it is there."""
    tensor = torch.zeros(300, 500, device=gpu)
    native_bridge.to_numpy(views(tensor))
    torch.cuda.synchronize()
    return tensor


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def views(x: torch.Tensor) -> list[torch.Tensor]:
    """Leaves for the kernel, dense and strided, a copy and a gather."""
    return [x[0], x[::3, 1], x[2, :7], x, x[:, ::2]]


def assert_all(arrays: Any, value: float) -> None:
    assert all((array == value).all() for array in arrays)


@pytest.mark.parametrize("producer", PRODUCERS)
def test_the_copy_is_behind_its_producer(
    native_bridge: tnb.Bridge, x: torch.Tensor, stack: ExitStack, producer: str
) -> None:
    stream = PRODUCERS[producer](native_bridge, x, stack)
    for value in (1, 2):
        with torch.cuda.stream(stream):
            delay(LATE)
            x.fill_(value)
            transfer = native_bridge.to_numpy_async(views(x))
        assert_all(transfer.result(), value)
        with torch.cuda.stream(stream):
            delay(LATE)
            x.neg_()
            arrays = native_bridge.to_numpy(views(x))
        assert_all(arrays, -value)


@pytest.mark.parametrize("producer", PRODUCERS)
def test_what_comes_behind_a_barrier_is_behind_the_copy(
    native_bridge: tnb.Bridge, x: torch.Tensor, stack: ExitStack, producer: str
) -> None:
    """The copies are late here, and the stream that overwrites their sources has been told to wait for them."""
    ours, stream = copy_stream(native_bridge, x), PRODUCERS[producer](native_bridge, x, stack)
    x.fill_(3)
    torch.cuda.synchronize()
    delay(LATE, ours)
    transfer = native_bridge.to_numpy_async(views(x))
    transfer.block_stream(stream)
    with torch.cuda.stream(stream):
        x.fill_(4)
    assert_all(transfer.result(), 3)
    torch.cuda.synchronize()


def test_every_stream_of_the_copies_pool(native_bridge: tnb.Bridge, x: torch.Tensor) -> None:
    """Torch gives them out again and again: one of so many is the stream of the copies."""
    streams = [fastest_stream() for _ in range(STREAMS_OF_A_POOL + 1)]
    assert len({stream.cuda_stream for stream in streams}) == STREAMS_OF_A_POOL
    for value, stream in enumerate(streams, 1):
        with torch.cuda.stream(stream):
            delay(2)
            x.fill_(value)
            transfer = native_bridge.to_numpy_async(views(x))
        assert_all(transfer.result(), value)


def test_a_stream_that_waits_for_the_default_stream(
    native_bridge: tnb.Bridge, x: torch.Tensor, stack: ExitStack
) -> None:
    """Nothing but CUDA knows of that wait: our copies see it by the event on the producer's stream."""
    stream = stack.enter_context(blocking_stream())
    delay(LATE)
    x.fill_(5)
    with torch.cuda.stream(stream):
        transfer = native_bridge.to_numpy_async(views(x))
    assert_all(transfer.result(), 5)


@pytest.mark.parametrize("of_its_own", [torch.cuda.Stream, own_default_stream], ids=["side stream", "default stream"])
def test_threads_with_streams_of_their_own(
    native_bridge: tnb.Bridge, x: torch.Tensor, of_its_own: Callable[[], torch.cuda.Stream]
) -> None:
    """What is current in one thread is not in another, though the handle of the default stream be the same."""
    together = threading.Barrier(4, timeout=PATIENCE)
    parts = [torch.zeros_like(x) for _ in range(4)]
    torch.cuda.synchronize()

    def work(index: int) -> list[Any]:
        results = []
        with torch.cuda.stream(of_its_own()):
            for turn in range(5):
                together.wait()
                delay(1 + index)
                parts[index].fill_(10 * turn + index)
                results.append(native_bridge.to_numpy_async(views(parts[index])).result())
            torch.cuda.current_stream().synchronize()
        return results

    calls = [Call(lambda index=index: work(index)) for index in range(4)]  # type: ignore[misc]
    for index, call in enumerate(calls):
        for turn, arrays in enumerate(call.result()):
            assert_all(arrays, 10 * turn + index)


def test_a_copy_back_on_the_current_stream(native_bridge: tnb.Bridge, x: torch.Tensor) -> None:
    """Contract 7: an array is dropped while the device still reads it; its block is written to no earlier."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for value in range(5):
            x.fill_(value)
            array = native_bridge.to_numpy(x)
            delay(LATE)
            back = torch.from_numpy(array).to(x.device, non_blocking=True)
            del array
            taken = native_bridge.empty((300, 500), np.float32)  # the host would write at once: another block
            taken.fill(-1)
            following = native_bridge.to_numpy_async(x + 1)  # the device writes later: into the same one
            assert (native_bridge.to_numpy(back) == value).all()
            assert (following.result() == value + 1).all()
            del following, taken
