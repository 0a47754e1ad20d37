"""Contracts 10 and 13 with CUDA's own graphs: what is captured, and what a replay writes.

tests/test_capture.py has the same for the fake accelerator, which plays the rules; here they are the driver's, and
torch's allocators are those of CUDA, which give memory to a capture in ways of their own.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
import torch
from cuda_tools import copy_stream, delay
from helpers import Call, assert_same_array, torchs_answer, wait_until
from test_capture import RING, WORK

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

pytestmark = pytest.mark.usefixtures("gpu")
TURNS = 6


class Doubled:
    """A graph with a static input and a static output: twice the input, in parts of a tree."""

    def __init__(self) -> None:
        self.input = torch.zeros(400, 300, device="cuda")
        self.compute()  # as torch asks for before a capture
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = self.compute()

    def compute(self) -> torch.Tensor:
        return self.input * 2

    @property
    def tree(self) -> list[torch.Tensor]:
        """Leaves for the kernel, dense and strided, a gather and a copy."""
        return [self.output[0], self.output[::2, 1], self.output[:, ::2], self.output]

    def replay(self, value: float) -> None:
        self.input.fill_(value)
        self.graph.replay()


@pytest.fixture
def doubled(gpu: str) -> Doubled:
    made = Doubled()
    torch.cuda.synchronize()
    return made


def assert_all(arrays: Any, value: float) -> None:
    assert all((array == value).all() for array in arrays)


@pytest.mark.parametrize("call", ["to_numpy", "to_numpy_async"])
def test_a_static_output_after_each_replay(bridge: tnb.Bridge, doubled: Doubled, call: str) -> None:
    for turn in range(TURNS):
        delay(3)
        doubled.replay(turn)
        arrays = bridge.to_numpy(doubled.tree) if call == "to_numpy" else bridge.to_numpy_async(doubled.tree).result()
        assert_all(arrays, 2 * turn)


def test_a_snapshot_and_the_next_replay_at_once(native_bridge: tnb.Bridge, doubled: Doubled) -> None:
    """The copies are held back: all replays have overwritten the output before the first of them begins."""
    ours = copy_stream(native_bridge, doubled.input)
    native_bridge.to_numpy_async(doubled.tree, snapshot=True).result()
    delay(50, ours)
    transfers = []
    for turn in range(TURNS):
        doubled.replay(turn)
        transfers.append(native_bridge.to_numpy_async(doubled.tree, snapshot=True))
    doubled.replay(-1)
    torch.cuda.current_stream().synchronize()
    for turn, transfer in enumerate(transfers):
        assert_all(transfer.result(), 2 * turn)


def test_a_replay_behind_a_barrier(native_bridge: tnb.Bridge, doubled: Doubled) -> None:
    """Without a snapshot: the stream of the replays waits for the copies."""
    ours = copy_stream(native_bridge, doubled.input)
    for turn in range(TURNS):
        doubled.replay(turn)
        delay(5, ours)
        transfer = native_bridge.to_numpy_async(doubled.tree)
        transfer.block_stream()
        doubled.replay(-1)
        assert_all(transfer.result(), 2 * turn)


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_a_call_within_a_capture_is_refused_and_the_capture_goes_on(
    bridge: tnb.Bridge, doubled: Doubled, mode: str, *, snapshot: bool
) -> None:
    bridge.to_numpy(doubled.tree)
    torch.cuda.synchronize()
    before = bridge.stats()
    x, graph = torch.zeros(1000, device="cuda"), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode=mode):
        for tree in (x, [x, x[::2]], {"a": torch.ones(3), "b": x}):
            with pytest.raises(tnb.UnsupportedTensorError, match=r"got one that is captured into a graph"):
                bridge.to_numpy_async(tree, snapshot=snapshot)
        x.add_(1)
        with pytest.raises(tnb.UnsupportedTensorError, match=r"got one that is captured into a graph"):
            bridge.to_numpy(x)
        x.add_(1)
    assert bridge.stats() == before
    assert (bridge.to_numpy(x) == 0).all()  # nothing of it has run
    for turn in range(3):
        graph.replay()
        assert (bridge.to_numpy(x) == 2 * (turn + 1)).all()


def test_results_of_before_can_be_had_within_a_capture(native_bridge: tnb.Bridge, kernels: str) -> None:
    """Waiting for an event would end it in any mode but a relaxed one."""
    x, graph = torch.arange(100_000.0, device=kernels), torch.cuda.CUDAGraph()
    transfers = [native_bridge.to_numpy_async([x, x[:9], x[::2]]) for _ in range(2)]
    y = torch.zeros(10, device=kernels)
    with torch.cuda.graph(graph):
        y.add_(1)
        wait_until(transfers[0].done)
        for transfer in transfers:
            assert (transfer.result()[0] == np.arange(100_000)).all()
        assert (native_bridge.to_numpy(torch.ones(3)) == 1).all()
    graph.replay()
    assert (native_bridge.to_numpy(y) == 1).all()


def grow(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    """More page-locked memory than there is, twice, and arrays of one's own."""
    arrays = [bridge.empty(size, np.float32) for size in (10, 300_000, 5_000_000)]
    arrays += [bridge.to_numpy(x.view(-1)[:1].expand(size)) for size in (3_000_000, 9_000_000)]
    return arrays


def drop(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    """The worker lets go of the source of a transfer that nobody waits for."""
    before = torch.cuda.memory_allocated()
    source = x.clone()
    delay(20)
    transfer = bridge.to_numpy_async(source)
    del transfer, source
    wait_until(lambda: torch.cuda.memory_allocated() <= before)


ELSEWHERE = {**WORK, "growing": (grow, None), "dropped": (drop, None), "growing beyond the limit": (grow, RING)}


@pytest.mark.parametrize("work", ELSEWHERE)
def test_a_capture_on_another_thread_goes_on(native: EngineChoice, kernels: str, work: str) -> None:
    """Whatever has to be allocated, locked, freed and waited for meanwhile: pytorch#146924 and pytorch#161583."""
    function, limit = ELSEWHERE[work]
    x = torch.arange(10_000.0, device=kernels).view(100, 100)
    y, graph = torch.zeros(1000, device=kernels), torch.cuda.CUDAGraph()
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        gc.collect()
        with torch.cuda.graph(graph):  # which has emptied torch's caches: all is allocated anew
            y.add_(1)
            Call(lambda: function(bridge, x)).result()
            y.add_(1)
    graph.replay()
    assert_same_array(tnb.to_numpy(y), torchs_answer(torch.full((1000,), 2.0)))
    assert_same_array(tnb.to_numpy(x), torchs_answer(x))


def test_accelerate_gives_ordinary_memory_within_a_capture(native_bridge: tnb.Bridge, kernels: str) -> None:
    """On a stream that is not captured; and the capture goes on."""
    x, there = torch.arange(6.0, device="cuda"), torch.zeros(3, device="cuda")
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    torch.cuda.synchronize()
    with native_bridge.accelerate(), torch.cuda.graph(graph):
        there.add_(1)
        before = native_bridge.stats().transfers
        with torch.cuda.stream(side):
            host = x.cpu()
        assert native_bridge.stats().transfers == before + 1
    assert not host.is_pinned()
    assert host.tolist() == list(range(6))
    graph.replay()
    assert there.tolist() == [1, 1, 1]


def test_the_stream_of_the_copies_may_be_the_one_that_is_captured(native_bridge: tnb.Bridge, gpu: str) -> None:
    """Torch's pool gives its streams out again and again; the words say to capture on another."""
    x, graph = torch.zeros(1000, device=gpu), torch.cuda.CUDAGraph()
    ours = copy_stream(native_bridge, x)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=ours):
        x.add_(1)
        with (
            torch.cuda.stream(torch.cuda.default_stream()),
            pytest.raises(tnb.UnsupportedTensorError, match=r"that torch_np_bridge copies on.*another stream"),
        ):
            native_bridge.to_numpy(x)
    graph.replay()
    assert (native_bridge.to_numpy(x) == 1).all()
