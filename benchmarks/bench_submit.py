"""What `to_numpy_async` of one small tensor costs the thread that calls it.

Beside it the same steps written with torch in Python: a page-locked buffer from a free list, a side stream that waits
for the producer's, a copy, an event, the source kept alive. On the simulated accelerator, at no cost per copy. A call
is timed until it returns, a run is the median of its calls.

Behind a producer that computes, the case for which one calls it, the simulated device's threads sleep, and what is
timed is the caller's work alone. On an idle accelerator each call wakes those threads, which costs many times what is
measured and which no hardware needs: that case is shown, and not judged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from types import ModuleType
from typing import Any

import harness
import torch
from baselines import HandMadeCopier
from harness import Bar, Figure, Measured
from instructions import InstructionCounter

import torch_np_bridge as tnb

LIMIT = 0.5
BRIDGE, BY_HAND = "to_numpy_async", "torch in Python"
BUSY, IDLE = "16 float32, behind a producer that computes", "16 float32, on an idle accelerator"
WHAT = "host time of a call"
IN_FLIGHT = 16


@dataclass(frozen=True)
class Way:
    """How one way starts a copy, and how it ends: the array, and the buffer's return."""

    submit: Callable[[], Any]
    finish: Callable[[Any], Any]


def main() -> int:
    """Measure, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """The times of both ways in turns, and their instructions."""
    runs, calls = (3, 2 * IN_FLIGHT) if quick else (100, 20 * IN_FLIGHT)
    ways = ways_for(torch.arange(16, dtype=torch.float32).to(device))
    busy = harness.turns({name: behind_producer(fake, way, calls) for name, way in ways.items()}, runs)
    idle = harness.turns({name: on_idle(way, calls) for name, way in ways.items()}, runs)
    share = harness.ratio(BUSY, busy, BRIDGE, BY_HAND, WHAT)
    figures = [
        share,
        *harness.times(BUSY, busy, WHAT, "µs"),
        harness.ratio(IDLE, idle, BRIDGE, BY_HAND, WHAT),
        *harness.times(IDLE, idle, WHAT, "µs"),
    ]
    bars = [Bar("N7, host time of a call", share.value, "at most", LIMIT, "×")]
    notes = [f"{runs} runs of each way in turns, {calls} calls a run; {IN_FLIGHT} in flight behind the producer."]
    try:
        counter = InstructionCounter()
    except OSError as error:
        return Measured(figures, bars, [*notes, f"Main-thread instructions could not be counted here: {error}."])
    counts = {name: instructions(fake, way, calls, counter) for name, way in ways.items()}
    counter.close()
    figures += [Figure(BUSY, f"main-thread instructions, {name}", count, "") for name, count in counts.items()]
    less = counts[BRIDGE] / counts[BY_HAND]
    return Measured(figures, [*bars, Bar("N7, main-thread instructions", less, "at most", LIMIT, "×")], notes)


def ways_for(tensor: torch.Tensor) -> dict[str, Way]:
    """Both ways, after a check that they give the tensor's values."""
    copier = HandMadeCopier(tensor.device)

    def give_back(transfer: Any) -> None:
        transfer.result()
        transfer.release()

    ways = {
        BRIDGE: Way(lambda: tnb.to_numpy_async(tensor), lambda transfer: transfer.result()),
        BY_HAND: Way(lambda: copier.submit(tensor), give_back),
    }
    expected = tensor.cpu().numpy()
    for name, way in ways.items():
        transfer = way.submit()
        if not (transfer.result() == expected).all():
            raise AssertionError(f"expected the tensor's values, got others by {name}")
        way.finish(transfer)
    return ways


def behind_producer(fake: ModuleType, way: Way, calls: int) -> Callable[[], float]:
    """Seconds a call while the current stream is occupied and all copies wait for it: the median of the calls."""

    def run() -> float:
        seconds = []
        for _ in range(calls // IN_FLIGHT):
            transfers = []
            with fake.hold():
                for _ in range(IN_FLIGHT):
                    start = perf_counter()
                    transfer = way.submit()
                    seconds.append(perf_counter() - start)
                    transfers.append(transfer)
            for transfer in transfers:
                way.finish(transfer)
        return median(seconds)

    return run


def on_idle(way: Way, calls: int) -> Callable[[], float]:
    """Seconds a call while nothing is under way: the median of the calls."""

    def run() -> float:
        seconds = []
        for _ in range(calls):
            start = perf_counter()
            transfer = way.submit()
            seconds.append(perf_counter() - start)
            torch.accelerator.synchronize()  # both ways wait alike: how one waits decides which threads sleep next time
            way.finish(transfer)
            del transfer  # here, not within the time of the next call
        return median(seconds)

    return run


def instructions(fake: ModuleType, way: Way, calls: int, counter: InstructionCounter) -> float:
    """Instructions of this thread in a call: the median of the calls, less what reading the counter takes."""
    empty, counts, transfers = [], [], []
    with fake.hold():
        for _ in range(calls):
            start = counter.read()
            empty.append(counter.read() - start)
            start = counter.read()
            transfer = way.submit()
            counts.append(counter.read() - start)
            transfers.append(transfer)
    for transfer in transfers:
        way.finish(transfer)
    return median(counts) - median(empty)


if __name__ == "__main__":
    sys.exit(main())
