"""Time several ways of doing one thing, in turns, as often as their spread asks for."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from .results import Figure

Clock = Callable[[], float]
Way = Callable[[], Any]
Run = Callable[[], float]  # one run of a way: the seconds of a call
Seconds = dict[str, list[float]]

LONG_ENOUGH = 5e-6  # a call that takes this long is timed alone; the clock's own time is a hundredth of it
RUN = 500e-6  # of shorter ones so many are timed together that a run takes this long
SETTLED = 0.05
LOOKS = 10  # turns between two looks at the spread


class DifferentResultsError(Exception):
    """Two ways gave different results; their times are worth nothing then."""


@dataclass(frozen=True)
class Plan:
    """How long to go on: till the ratios are precise, but for ``least`` and ``most`` turns, and ``seconds`` in all."""

    least: int = 10
    most: int = 1000
    seconds: float = 4.0
    precision: float = 0.01

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise ValueError(f"expected at least one turn and no more than the most, got {self}")


QUICK = Plan(least=3, most=3, seconds=0.0)


@dataclass(frozen=True)
class Summary:
    """Many times of one way, or ratios of two."""

    median: float
    iqr: float
    p99: float
    count: int

    @property
    def uncertainty(self) -> float:
        """How far the median may lie from that of the next series, relative to it: the notch of a box plot."""
        return 1.57 * self.iqr / math.sqrt(self.count) / self.median


def summarize(values: Sequence[float]) -> Summary:
    """Median, interquartile range and 99th percentile."""
    low, median, high, p99 = np.quantile(values, [0.25, 0.5, 0.75, 0.99]).tolist()
    return Summary(median, high - low, p99, len(values))


def ratios(seconds: Sequence[float], other: Sequence[float]) -> Summary:
    """Of the ratios of runs that were made next to each other."""
    return summarize([mine / its for mine, its in zip(seconds, other, strict=True)])


def turns(runs: Mapping[str, Run], plan: Plan, clock: Clock = time.perf_counter) -> Seconds:
    """Times of each way, in seconds.

    A run of every way is made before the next run of any, and each turn another way goes first, so that what changes on
    the machine meanwhile meets all of them. It ends when the ratio of the first way to each other one is known as well
    as the plan asks for, or when the plan's time is over. Garbage is not collected meanwhile: the next run would find
    cold caches.
    """
    names = list(runs)
    seconds: Seconds = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        _warm_up(runs, plan, clock)
        start = clock()
        for turn in range(plan.most):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                seconds[name].append(runs[name]())
            if turn + 1 >= plan.least and (_precise(seconds, turn + 1, plan) or clock() - start >= plan.seconds):
                break
    finally:
        if collecting:
            gc.enable()
    return seconds


def _warm_up(runs: Mapping[str, Run], plan: Plan, clock: Clock) -> None:
    """Until a turn in which no way is faster than it was before by more than a little."""
    start = clock()
    best: dict[str, float] = {}
    settled = False
    for _ in range(plan.least):
        found = {name: run() for name, run in runs.items()}
        settled = bool(best) and all(found[name] >= best[name] * (1 - SETTLED) for name in runs)
        best = {name: min(found[name], best.get(name, math.inf)) for name in runs}
        if settled or clock() - start >= plan.seconds / 4:
            break


def _precise(seconds: Seconds, turn: int, plan: Plan) -> bool:
    if turn % LOOKS:
        return False
    first, *others = seconds.values()
    found = [ratios(first, other) for other in others] or [summarize(first)]
    return all(summary.uncertainty <= plan.precision for summary in found)


def timed(way: Way, check: Callable[[Any], None], calls: int, clock: Clock = time.perf_counter) -> Run:
    """Runs of so many calls. What the last call of each gives is checked, and dropped before the next run."""

    def run() -> float:
        result = None
        start = clock()
        for _ in range(calls):
            result = way()
        seconds = (clock() - start) / calls
        check(result)
        return seconds

    return run


def calls_a_run(ways: Mapping[str, Way], clock: Clock = time.perf_counter) -> int:
    """How many calls have to be timed together, by the fastest way."""

    def best(way: Way) -> float:
        points = [clock()]
        for _ in range(5):
            way()
            points.append(clock())
        return max(min(after - before for before, after in pairwise(points)), 1e-9)

    fastest = min(map(best, ways.values()))
    return 1 if fastest >= LONG_ENOUGH else math.ceil(RUN / fastest)


def compared(ways: Mapping[str, Way], expected: Any, plan: Plan, *, calls: int | None = None) -> Seconds:
    """The times of ways whose results are compared each time with what they have to be."""
    count = calls or calls_a_run(ways)
    return turns({name: timed(way, equals(expected, name), count) for name, way in ways.items()}, plan)


def equals(expected: Any, name: str) -> Callable[[Any], None]:
    """A check of what a way gives."""

    def check(got: Any) -> None:
        if not same(expected, got):
            raise DifferentResultsError(f"expected the arrays of the tensors, got others by {name}")

    return check


def same(expected: Any, got: Any) -> bool:
    """Whether two arrays, or containers of them, are equal: dtypes, shapes and values."""
    if isinstance(expected, dict):
        return (
            isinstance(got, dict)
            and expected.keys() == got.keys()
            and all(same(expected[key], got[key]) for key in expected)
        )
    if isinstance(expected, list):
        return len(expected) == len(got) and all(map(same, expected, got))
    return bool(expected.dtype == got.dtype and np.array_equal(expected, got))


def times(case: str, seconds: Mapping[str, list[float]], what: str, unit: Literal["µs", "ms"]) -> list[Figure]:
    """The time of each way: the median of its runs."""
    scale = {"µs": 1e6, "ms": 1e3}[unit]
    summaries = {name: summarize(runs) for name, runs in seconds.items()}
    return [
        Figure(case, f"{what}, {name}", found.median * scale, unit, found.iqr * scale, found.p99 * scale)
        for name, found in summaries.items()
    ]


def ratio(
    case: str, seconds: Mapping[str, list[float]], mine: str, other: str, what: str, *, a_way: bool = True
) -> Figure:
    """How much of the other's time mine takes: the median of the ratios of runs that were made next to each other.

    Args:
        a_way: the other does the same thing, so that more than its time is a loss.
    """
    found = ratios(seconds[mine], seconds[other])
    return Figure(case, f"{what}, {mine} / {other}", found.median, "×", found.iqr, beside=other if a_way else None)


def beside_all(case: str, seconds: Mapping[str, list[float]], what: str, unit: Literal["µs", "ms"]) -> list[Figure]:
    """The ratios of the first way to each other one, then all times."""
    mine, *others = seconds
    return [*(ratio(case, seconds, mine, other, what) for other in others), *times(case, seconds, what, unit)]


def runs_of(seconds: Mapping[str, list[float]]) -> int:
    """How many turns were made."""
    return min(map(len, seconds.values()))
