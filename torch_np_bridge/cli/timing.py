"""Time several ways of doing one thing, in turns, and compare what they give each time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


class DifferentResultsError(Exception):
    """Two ways gave different results; their times are worth nothing then."""


@dataclass(frozen=True)
class Summary:
    """Many times of one way, in seconds a call."""

    median: float
    iqr: float
    p99: float


def summarize(seconds: list[float]) -> Summary:
    """Median, interquartile range and 99th percentile."""
    low, median, high, p99 = np.quantile(seconds, [0.25, 0.5, 0.75, 0.99]).tolist()
    return Summary(median, high - low, p99)


def ratios(seconds: list[float], other: list[float]) -> tuple[float, float]:
    """Median and interquartile range of the ratios of runs that were made next to each other."""
    summary = summarize([mine / its for mine, its in zip(seconds, other, strict=True)])
    return summary.median, summary.iqr


def take_turns(ways: Mapping[str, Callable[[], Any]], *, runs: int, calls: int) -> dict[str, list[float]]:
    """``runs`` times of each way, each the mean of ``calls`` calls, in seconds.

    A run of every way is made before the next run of any, and each turn another way goes first, so that what changes on
    the machine meanwhile meets all of them. The results of each run must equal those of the first way.
    """
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        ways[name]()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(runs):
            results = {}
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                time_of_call, results[name] = _time(ways[name], calls)
                seconds[name].append(time_of_call)
            for name in names[1:]:
                if not _same(results[names[0]], results[name]):
                    raise DifferentResultsError(f"expected equal arrays, got others by {name} than by {names[0]}")
    finally:
        if collecting:
            gc.enable()
    return seconds


def _time(way: Callable[[], Any], calls: int) -> tuple[float, Any]:
    result = None
    start = time.perf_counter()
    for _ in range(calls):
        result = way()
    return (time.perf_counter() - start) / calls, result


def _same(expected: Any, got: Any) -> bool:
    if isinstance(expected, dict):
        return expected.keys() == got.keys() and all(_same(expected[key], got[key]) for key in expected)
    return bool(expected.dtype == got.dtype and np.array_equal(expected, got))
