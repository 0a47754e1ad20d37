"""A loop whose copies overlap its computing, where both take as long.

The most that overlapping can do is the larger of both sums and one fill: the first batch is computed, or the last one
copied, beside nothing. Both sums are measured in turns with the loops. A profile says how much of the copies was
hidden, by events of the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from time import perf_counter

import torch

from ....bridge import Bridge
from ..baselines import PinnedLoop
from ..results import MIB, Bar, Figure, Measured
from ..setting import Setting
from ..timing import DifferentResultsError, Seconds, ratio, runs_of, times, turns

OVERHEAD = 1.05
HIDDEN, NOT_HIDDEN = 0.9, 0.2
PREFETCH, EACH = "prefetch_to_host", "one after the other"
COMPUTING, COPYING, LEAST = "computing alone", "copying alone", "the larger sum and one fill"
SIMULATED_SECONDS = 0.02  # of a copy, where it can be chosen
BATCHES, BYTES = 50, 64 * MIB


def measure(setting: Setting) -> Measured:
    """The loops and the sums."""
    batches, size = (3, 4096) if setting.quick else (BATCHES, BYTES if setting.hardware else 4096)
    with setting.controls.slow_copies(seconds=SIMULATED_SECONDS), Bridge(engine="native") as bridge:
        job = Job(setting, bridge, batches, torch.zeros(size // 4, device=setting.device))
        case = f"{batches} batches, {job.seconds * 1e3:.1f} ms of computing and of copying each"
        setting.say(case)
        runs = {PREFETCH: job.prefetched, EACH: job.each, COMPUTING: job.computing, COPYING: job.copying}
        seconds = turns(runs, setting.plan(least=5, seconds=20.0))
        hidden = {name: job.hidden(name) for name in (PREFETCH, EACH)}
    seconds[LEAST] = least(seconds, batches)
    share = ratio(case, seconds, PREFETCH, LEAST, "time", a_way=False)
    figures = [
        share,
        ratio(case, seconds, PREFETCH, EACH, "time"),
        *times(case, seconds, "time", "ms"),
        *(Figure(case, f"hidden, {name}", 100 * part, "%") for name, part in hidden.items()),
    ]
    bars = [
        Bar.of("N9, beside the larger sum and one fill", share, "at most", OVERHEAD),
        Bar(f"hidden, {PREFETCH}", 100 * hidden[PREFETCH], "at least", 100 * HIDDEN, "%"),
        Bar(f"hidden, {EACH}", 100 * hidden[EACH], "at most", 100 * NOT_HIDDEN, "%"),
    ]
    note = (
        f"{runs_of(seconds)} runs of each loop in turns, without a profile; what is hidden comes from a run of its own."
    )
    return Measured(figures, bars, [note])


def least(seconds: Seconds, batches: int) -> list[float]:
    """What a perfect overlap would take, in each turn."""
    sums = zip(seconds[COMPUTING], seconds[COPYING], strict=True)
    return [max(computing, copying) + min(computing, copying) / batches for computing, copying in sums]


class Job:
    """Batches that take as long to compute as to copy, by every loop; the arrays are looked at."""

    def __init__(self, setting: Setting, bridge: Bridge, batches: int, batch: torch.Tensor) -> None:
        self._controls = setting.controls
        self._device = setting.device
        self._bridge = bridge
        self._batches = batches
        self._batch = batch
        self._copy = PinnedLoop([batch])
        self.seconds = median(self._time_of_a_copy() for _ in range(5))

    def prefetched(self) -> float:
        """Overlapping."""
        start = perf_counter()
        for array in self._bridge.prefetch_to_host(self._produce()):
            self._look(float(array[0]), PREFETCH)
        return perf_counter() - start

    def each(self) -> float:
        """Waiting for each."""
        start = perf_counter()
        for batch in self._produce():
            self._look(float(self._bridge.to_numpy(batch)[0]), EACH)
        return perf_counter() - start

    def computing(self) -> float:
        """No copies."""
        start = perf_counter()
        for _ in self._produce():
            pass
        torch.accelerator.synchronize(self._device)
        return perf_counter() - start

    def copying(self) -> float:
        """Nothing but page-locked copies."""
        return sum(self._time_of_a_copy() for _ in range(self._batches))

    def hidden(self, name: str) -> float:
        """How much of the copies of a loop was hidden."""
        with self._bridge.profile() as profile:
            self.prefetched() if name == PREFETCH else self.each()
        return float(profile.hidden)

    def _produce(self) -> Iterator[torch.Tensor]:
        for _ in range(self._batches):
            batch = torch.zeros_like(self._batch)
            self._controls.compute(batch, self.seconds)
            yield batch

    def _time_of_a_copy(self) -> float:
        start = perf_counter()
        self._copy()
        return perf_counter() - start

    def _look(self, first: float, name: str) -> None:
        if first != 1:
            raise DifferentResultsError(f"expected a batch of ones, got {first} by {name}")
