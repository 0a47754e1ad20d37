"""A program that converts four times as many bytes as may be page-locked, and keeps every array.

Beside it the same program with `.cpu().numpy()`. What comes after the limit is judged; all of it is shown, with what
the driver takes to page-lock the first quarter.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from ....bridge import Bridge
from ..memory import fresh_memory, release_page_locked
from ..results import MIB, NOISE, Bar, Figure, Measured
from ..setting import Setting
from ..timing import DifferentResultsError, ratio, runs_of, times, turns

TIMES_THE_LIMIT = 4
HARDWARE: dict[str, float | None] = {"": None}
SIMULATED: dict[str, float | None] = {", no cost per copy": None, ", 2 GB/s": 2e9}  # bytes a second
MINE, CPU_NUMPY = "to_numpy", ".cpu().numpy()"
Convert = Callable[[torch.Tensor], Any]


def measure(setting: Setting) -> Measured:
    """Programs of small and of large arrays."""
    limit = 32 * MIB if setting.quick else 1024 * MIB if setting.hardware else 64 * MIB
    figures: list[Figure] = []
    bars: list[Bar] = []
    for label, bandwidth in (HARDWARE if setting.hardware else SIMULATED).items():
        for size in (MIB, 16 * MIB):
            case = f"keeps all, {size // MIB} MiB each{label}"
            setting.say(case)
            with setting.controls.slow_copies(bandwidth=bandwidth):
                found, judged = Program(setting, case, size, limit).measure()
            figures += found
            bars += judged
    return Measured(figures, bars, [f"The limit of the programs is {limit // MIB} MiB."])


class Program:
    """Converts one tensor as often as its arrays fill four limits."""

    def __init__(self, setting: Setting, case: str, size: int, limit: int) -> None:
        self._setting = setting
        self._case = case
        self._source = torch.arange(size // 8).to(setting.device)
        self._limit = limit
        self._beyond: dict[str, list[float]] = {MINE: [], CPU_NUMPY: []}
        self._held: list[int] = []

    def measure(self) -> tuple[list[Figure], list[Bar]]:
        """Both ways, and what was held page-locked."""
        plan = self._setting.plan(seconds=10.0)
        whole = turns({MINE: self._by_bridge, CPU_NUMPY: self._by_torch}, plan)
        past = {name: seconds[-runs_of(whole) :] for name, seconds in self._beyond.items()}  # without warming up
        share = ratio(self._case, past, MINE, CPU_NUMPY, "past the limit")
        figures = [
            share,
            ratio(self._case, whole, MINE, CPU_NUMPY, "whole program"),
            *times(self._case, past, "past the limit", "ms"),
            *times(self._case, whole, "whole program", "ms"),
            Figure(self._case, "page-locked, at most", max(self._held), "bytes"),
        ]
        bars = [
            Bar.of(f"N13, past the limit, {self._case}", share, "at most", 1 + NOISE),
            Bar(f"N13, page-locked, {self._case}", max(self._held), "at most", self._limit, "bytes"),
        ]
        return figures, bars

    def _by_bridge(self) -> float:
        release_page_locked()
        with Bridge(engine="native", pinned_limit=self._limit) as bridge:
            nothing = self._setting.controls.locked(bridge).bytes
            seconds = self._run(bridge.to_numpy, MINE)
            self._held.append(self._setting.controls.locked(bridge).bytes - nothing)
        return seconds

    def _by_torch(self) -> float:
        return self._run(lambda tensor: tensor.cpu().numpy(), CPU_NUMPY)

    def _run(self, convert: Convert, name: str) -> float:
        size = self._source.nbytes
        total, at_limit = TIMES_THE_LIMIT * self._limit // size, self._limit // size
        fresh_memory(total * size)
        kept = []
        start = perf_counter()
        for _ in range(at_limit):
            kept.append(convert(self._source))
        middle = perf_counter()
        for _ in range(total - at_limit):
            kept.append(convert(self._source))
        end = perf_counter()
        self._beyond[name].append(end - middle)
        if any(array[-1] != size // 8 - 1 for array in kept):
            raise DifferentResultsError(f"expected the source's values, got others by {name}")
        return end - start
