"""What a wait for a copy takes of a core, and how late it sees the end.

An engine has no event to sleep on: a wait that Ctrl-C and a timeout can end asks again and again, and sleeps in between
(csrc/waiting.h). Beside it the way that sleeps never, which is what waiting for an event of CUDA's is unless the event
was made to block. On the simulated accelerator, whose copies are made to take a time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter, thread_time
from types import ModuleType

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import Bar, Figure, Measured
from torch_np_bridge.cli.bench.timing import ratio, summarize, times, turns

SHARE_LIMIT = 5.0  # percent of a core, in a wait that is long enough for the thread to be worth giving to others
LONG = 0.1
COPY_SECONDS = (0.001, 0.01, LONG)
LATE_LIMIT = 1.05  # a pause is at most 1/32 of what was waited
SLEEPING, SPINNING = "result()", "asking without a pause"


def main() -> int:
    """Measure, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """Both ways to wait, for copies of each length."""
    source = torch.zeros(16, device=device)
    figures: list[Figure] = []
    bars: list[Bar] = []
    for seconds in COPY_SECONDS:
        fake.set_copy_cost(latency=seconds)
        case = f"a copy of {seconds * 1e3:g} ms"
        busy: dict[str, list[float]] = {SLEEPING: [], SPINNING: []}
        with tnb.Bridge(engine="native") as bridge:
            ways = {
                SLEEPING: waited(bridge, source, lambda transfer: transfer.result(), busy[SLEEPING]),
                SPINNING: waited(bridge, source, spin, busy[SPINNING]),
            }
            walls = turns(ways, harness.plan(quick, 20 if seconds == LONG else 100))
        late = ratio(case, walls, SLEEPING, SPINNING, "time until the end is seen", a_way=False)
        shares = [of_a_core(case, way, busy[way]) for way in ways]
        figures += [late, *shares, *times(case, walls, "time until the end is seen", "ms")]
        bars.append(Bar.of(f"{case}: the end is seen beside spinning", late, "at most", LATE_LIMIT))
        if seconds == LONG:
            bars.append(Bar.of(f"{case}: the waiting thread", shares[0], "at most", SHARE_LIMIT))
    fake.set_copy_cost()
    return Measured(figures, bars)


def waited(
    bridge: tnb.Bridge, source: torch.Tensor, wait: Callable[[tnb.Transfer], object], busy: list[float]
) -> Callable[[], float]:
    """Seconds from the submission until the wait is over; what the thread was busy of them is added to ``busy``."""

    def run() -> float:
        transfer = bridge.to_numpy_async(source)
        start, begin = perf_counter(), thread_time()
        wait(transfer)
        seconds, used = perf_counter() - start, thread_time() - begin
        busy.append(used / seconds * 100)
        if transfer.result().any():
            raise AssertionError("expected zeros, got others")
        return seconds

    return run


def spin(transfer: tnb.Transfer) -> None:
    """Ask until the answer is yes."""
    while not transfer.done():
        pass


def of_a_core(case: str, way: str, percent: list[float]) -> Figure:
    """How much of a core the waiting thread takes."""
    summary = summarize(percent)
    return Figure(case, f"of a core, {way}", summary.median, "%", summary.iqr, summary.p99)


if __name__ == "__main__":
    sys.exit(main())
