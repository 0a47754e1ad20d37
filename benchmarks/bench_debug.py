"""What a call of the package takes with TORCH_NP_BRIDGE_DEBUG=1 and without.

On the simulated accelerator at no cost per copy: what the host does. The setting is read when the package is imported,
so each has a process of its own; they take turns, and the other one waits. Each array is dropped at the next call.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter
from unittest import mock

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import MIB, Figure, Measured
from torch_np_bridge.cli.bench.timing import beside_all, turns

DEBUGGED, PLAIN = "debugged", "not debugged"
WAYS = {
    "to_numpy": tnb.to_numpy,
    "to_numpy_async, result()": lambda source: tnb.to_numpy_async(source).result(),
}
Ask = Callable[[str, int, int], float]


def main() -> int:
    """Measure and print."""
    _, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, measure)


def measure(quick: bool) -> Measured:
    """Tensors of two sizes, at once and in two steps."""
    figures: list[Figure] = []
    with process("1") as debugged, process("0") as plain:
        for size in (4096, 16 * MIB):
            calls = 2 if quick else max(5, min(1000, 64 * MIB // size))
            for way in WAYS:
                runs = {
                    name: functools.partial(ask, way, size, calls)
                    for name, ask in ((DEBUGGED, debugged), (PLAIN, plain))
                }
                case = f"{way}, {size // MIB} MiB" if size >= MIB else f"{way}, {size} bytes"
                figures += beside_all(case, turns(runs, harness.plan(quick, 30)), "time", "µs")
    return Measured(figures)


@contextmanager
def process(debug: str) -> Iterator[Ask]:
    """One with this setting: what it is asked for is a way, bytes and calls, what it answers the seconds of a call."""
    ours, theirs = get_context("spawn").Pipe()
    with mock.patch.dict(os.environ, TORCH_NP_BRIDGE_DEBUG=debug):
        started = get_context("spawn").Process(target=answer, args=(theirs,), daemon=True)
        started.start()
    theirs.close()

    def ask(*question: str | int) -> float:
        ours.send(question)
        seconds: float = ours.recv()
        return seconds

    try:
        yield ask
    finally:
        ours.close()
        started.join()


def answer(questions: Connection) -> None:
    """Until nobody asks any more."""
    gc.disable()  # as `turns` does in the process that asks
    _, target = harness.simulated_accelerator()
    sources: dict[int, torch.Tensor] = {}
    while True:
        try:
            way, size, calls = questions.recv()
        except EOFError:
            return
        if size not in sources:
            sources = {size: torch.ones(size // 4, device=target.device)}
        questions.send(seconds_of(WAYS[way], sources[size], calls))


def seconds_of(convert: Callable[[torch.Tensor], object], source: torch.Tensor, calls: int) -> float:
    """Of one call; as many arrays are dropped as are made, but for the first time."""
    start = perf_counter()
    for _ in range(calls):
        array = convert(source)
    seconds = perf_counter() - start
    if not torch.equal(torch.as_tensor(array), source.cpu()):
        raise AssertionError("expected the values of the tensor, got an array of others")
    return seconds / calls


if __name__ == "__main__":
    sys.exit(main())
