"""What `to_numpy_async` of one small tensor costs the thread that calls it.

Beside it the same steps written with torch in Python: a page-locked buffer from a free list, a side stream that waits
for the producer's, a copy, an event, the source kept alive. A call is timed until it returns, a run is the median of
its calls.

Behind a producer that computes, the case for which one calls it, what is timed is the caller's work alone. On an idle
accelerator a simulated one has to wake its threads, which costs many times what is measured and which no hardware
needs: that case is shown, and not judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from ....functions import to_numpy_async
from ..baselines import HandMadeCopier
from ..controls import Controls
from ..results import Bar, Figure, Measured
from ..setting import Setting
from ..timing import Run, beside_all, equals, runs_of, summarize, turns

SHARE, MICROSECONDS = 0.5, 10.0
MINE, BY_HAND = "to_numpy_async", "torch in Python"
BUSY, IDLE = "16 float32, behind a producer that computes", "16 float32, on an idle accelerator"
WHAT = "host time of a call"
IN_FLIGHT = 16


@dataclass(frozen=True)
class Way:
    """How one way starts a copy, and how it ends: the array, and the buffer's return."""

    submit: Callable[[], Any]
    finish: Callable[[Any], Any]


def measure(setting: Setting) -> Measured:
    """Both ways, in both cases."""
    calls = 2 * IN_FLIGHT if setting.quick else 20 * IN_FLIGHT
    plan = setting.plan(least=30, seconds=8.0)
    ways = ways_for(torch.arange(16, dtype=torch.float32).to(setting.device))
    for way in ways.values():
        make_memory(way)
    setting.say(BUSY)
    busy = turns({name: behind_producer(setting.controls, way, calls) for name, way in ways.items()}, plan)
    setting.say(IDLE)
    idle = turns({name: on_idle(way, calls) for name, way in ways.items()}, plan)
    figures = [*beside_all(BUSY, busy, WHAT, "µs"), *beside_all(IDLE, idle, WHAT, "µs")]
    bars = [Bar.of("N7, host time of a call", figures[0], "at most", SHARE)]
    if setting.hardware:
        mine = summarize(busy[MINE])
        time = Figure(BUSY, WHAT, mine.median * 1e6, "µs", mine.iqr * 1e6)
        bars.append(Bar.of("N7, host time of a call", time, "at most", MICROSECONDS))
    notes = [
        f"{runs_of(busy)} runs of each way in turns, {calls} calls a run; {IN_FLIGHT} in flight behind the producer."
    ]
    return Measured(figures, bars, notes)


def ways_for(tensor: torch.Tensor) -> dict[str, Way]:
    """Both ways; each array is compared when its copy is finished."""
    copier = HandMadeCopier(tensor.device)
    expected = tensor.cpu().numpy()

    def finish(transfer: Any) -> None:
        equals(expected, MINE)(transfer.result())

    def give_back(transfer: Any) -> None:
        equals(expected, BY_HAND)(transfer.result())
        transfer.release()

    return {MINE: Way(lambda: to_numpy_async(tensor), finish), BY_HAND: Way(lambda: copier.submit(tensor), give_back)}


def make_memory(way: Way) -> None:
    """Have all page-locked memory made that so many in flight need: to make some may wait for the producer's end."""
    for transfer in [way.submit() for _ in range(IN_FLIGHT)]:
        way.finish(transfer)


def behind_producer(controls: Controls, way: Way, calls: int) -> Run:
    """Seconds a call while the current stream is occupied and all copies wait for it: the median of the calls."""

    def run() -> float:
        seconds = []
        for _ in range(calls // IN_FLIGHT):
            transfers = []
            with controls.busy():
                for _ in range(IN_FLIGHT):
                    start = perf_counter()
                    transfer = way.submit()
                    seconds.append(perf_counter() - start)
                    transfers.append(transfer)
            for transfer in transfers:
                way.finish(transfer)
        return median(seconds)

    return run


def on_idle(way: Way, calls: int) -> Run:
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
