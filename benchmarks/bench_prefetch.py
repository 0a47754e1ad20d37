"""A loop whose copies overlap its computing; and code that nobody edits, under accelerate().

On the simulated accelerator computing and copying take 20 ms a batch each, in 50 batches. The most that overlapping can
do is the larger of both sums and one fill: the first batch is computed, or the last one copied, beside nothing. A
profile says how much of the copies was hidden, by events of the simulated device. Beside it a loop that waits for each.

The other half is what `.cpu().numpy()` takes with and without accelerate(), at no cost per copy: what the host does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from statistics import median
from time import perf_counter
from types import ModuleType

import harness
import torch
from harness import MIB, Bar, Figure, Measured

import torch_np_bridge as tnb

SECONDS = 0.02  # of computing, and of copying, a batch
OVERHEAD = 1.05
HIDDEN, NOT_HIDDEN = 0.9, 0.2
PREFETCH, EACH = "prefetch_to_host", "one after the other"
ACCELERATED, PLAIN = ".cpu().numpy(), accelerate()", ".cpu().numpy()"


def main() -> int:
    """Measure, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """Both halves."""
    figures, bars = overlap(fake, device, batches=3 if quick else 50, runs=1 if quick else 5)
    for size in (4096, MIB, 16 * MIB):
        figures += unedited(
            device, size, calls=2 if quick else max(5, min(1000, 64 * MIB // size)), runs=1 if quick else 30
        )
    note = "The loops are measured without a profile; what is hidden comes from a run of each of its own."
    return Measured(figures, bars, [note])


def overlap(fake: ModuleType, device: torch.device, batches: int, runs: int) -> tuple[list[Figure], list[Bar]]:
    """Both loops: their time, and what they hide."""
    case = f"{batches} batches, {SECONDS * 1e3:.0f} ms of computing and of copying each"
    fake.set_copy_cost(latency=SECONDS)
    with tnb.Bridge(engine="native") as bridge:

        def prefetched() -> float:
            start = perf_counter()
            for array in bridge.prefetch_to_host(produce(fake, device, batches)):
                assert array[0] == 1
            return perf_counter() - start

        def each() -> float:
            start = perf_counter()
            for batch in produce(fake, device, batches):
                assert bridge.to_numpy(batch)[0] == 1
            return perf_counter() - start

        ways = {PREFETCH: prefetched, EACH: each}
        seconds = harness.turns(ways, runs)
        shares = {}
        for name, way in ways.items():
            with bridge.profile() as profile:
                way()
            shares[name] = profile.hidden
    fake.set_copy_cost()
    best = SECONDS * (batches + 1)
    beside = median(seconds[PREFETCH]) / best
    figures = [
        Figure(case, f"time, {PREFETCH} / the larger sum and one fill", beside, "×"),
        harness.ratio(case, seconds, PREFETCH, EACH, "time"),
        *harness.times(case, seconds, "time", "ms"),
        *(Figure(case, f"hidden, {name}", 100 * share, "%") for name, share in shares.items()),
    ]
    bars = [
        Bar("N9, beside the larger sum and one fill", beside, "at most", OVERHEAD, "×"),
        Bar(f"hidden, {PREFETCH}", 100 * shares[PREFETCH], "at least", 100 * HIDDEN, "%"),
        Bar(f"hidden, {EACH}", 100 * shares[EACH], "at most", 100 * NOT_HIDDEN, "%"),
    ]
    return figures, bars


def produce(fake: ModuleType, device: torch.device, batches: int) -> Iterator[torch.Tensor]:
    """Batches of ones, each of which keeps the device busy."""
    for _ in range(batches):
        batch = torch.zeros(1000, device=device)
        fake.compute(batch, SECONDS)
        yield batch


def unedited(device: torch.device, size: int, calls: int, runs: int) -> list[Figure]:
    """A call of `.cpu().numpy()`, whose array is dropped at the next one."""
    source = torch.ones(size // 4, device=device)

    def run(accelerated: bool) -> float:
        with tnb.accelerate() if accelerated else nullcontext():
            start = perf_counter()
            for _ in range(calls):
                array = source.cpu().numpy()
            seconds = perf_counter() - start
        assert array[-1] == 1
        return seconds / calls

    case = f"{size / MIB:g} MiB" if size >= MIB else f"{size} bytes"
    seconds = harness.turns({ACCELERATED: lambda: run(True), PLAIN: lambda: run(False)}, runs)
    return [
        harness.ratio(case, seconds, ACCELERATED, PLAIN, "time"),
        *harness.times(case, seconds, "time", "µs"),
    ]


if __name__ == "__main__":
    sys.exit(main())
