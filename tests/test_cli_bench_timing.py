"""How ways are timed: in turns, as often as their spread asks for, by a clock that the tests wind."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import numpy as np
import pytest

from torch_np_bridge.cli.bench.timing import (
    LOOKS,
    RUN,
    DifferentResultsError,
    Plan,
    beside_all,
    calls_a_run,
    compared,
    ratios,
    same,
    summarize,
    timed,
    turns,
)


class Clock:
    """Goes on only when something takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def way(self, *seconds: float) -> Callable[[], float]:
        """What takes so long, one after the other and again."""
        times: Iterator[float] = cycle(seconds)

        def run() -> float:
            took = next(times)
            self.now += took
            return took

        return run


def test_ways_take_turns() -> None:
    order: list[str] = []

    def run(name: str) -> Callable[[], float]:
        def note() -> float:
            order.append(name)
            return 1.0

        return note

    seconds = turns({"a": run("a"), "b": run("b")}, Plan(least=2, most=2))
    assert "".join(order) == "abab" + "ab" + "ba"  # to warm up, twice; then each first once
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_it_ends_where_the_ratio_is_known() -> None:
    clock = Clock()
    seconds = turns({"a": clock.way(1.0), "b": clock.way(2.0)}, Plan(least=3, most=1000, seconds=1e6), clock)
    assert len(seconds["a"]) == LOOKS


def test_a_larger_spread_asks_for_more() -> None:
    """Ratios of 1 and 1.2, in turn: an interquartile range of 0.2 beside a median of 1.1."""
    clock = Clock()
    plan = Plan(least=3, most=10_000, seconds=1e6, precision=0.02)
    seconds = turns({"a": clock.way(1.0, 1.2), "b": clock.way(1.0)}, plan, clock)
    expected = (1.57 * 0.2 / 1.1 / 0.02) ** 2
    assert expected <= len(seconds["a"]) <= expected + LOOKS


def test_one_way_alone_ends_by_its_own_spread() -> None:
    clock = Clock()
    assert len(turns({"a": clock.way(1.0)}, Plan(least=3, most=1000, seconds=1e6), clock)["a"]) == LOOKS


def test_the_time_of_the_plan_ends_it() -> None:
    clock = Clock()
    plan = Plan(least=2, most=1000, seconds=30.0)
    assert (
        len(turns({"a": clock.way(1.0, 3.0), "b": clock.way(1.0)}, plan, clock)["a"]) == 10
    )  # of 3 s each, on average


def test_there_are_as_many_turns_as_the_plan_asks_for_at_least() -> None:
    clock = Clock()
    assert len(turns({"a": clock.way(1.0)}, Plan(least=7, most=1000, seconds=0.1), clock)["a"]) == 7


def test_warming_up_goes_on_while_a_way_becomes_faster() -> None:
    clock = Clock()
    slow = [9.0, 8.0, 7.0, 6.0]
    seconds = turns({"a": clock.way(*slow, *[5.0] * 100)}, Plan(least=12, most=12, seconds=1e6), clock)
    assert seconds["a"] == [5.0] * 12


def test_no_garbage_is_collected_meanwhile() -> None:
    collecting: set[bool] = set()

    def run() -> float:
        collecting.add(gc.isenabled())
        return 1.0

    turns({"a": run}, Plan(least=2, most=2))
    assert collecting == {False}
    assert gc.isenabled()


def test_garbage_is_collected_after_a_failure() -> None:
    def fail() -> float:
        raise RuntimeError("a way failed")

    with pytest.raises(RuntimeError, match="a way failed"):
        turns({"a": fail}, Plan())
    assert gc.isenabled()


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (6e-6, 1), (1e-6, 500), (2.5e-7, 2000)])
def test_short_calls_are_timed_together(seconds: float, calls: int) -> None:
    """By the fastest way: all take as many."""
    clock = Clock()
    assert calls_a_run({"a": clock.way(seconds), "b": clock.way(2 * seconds)}, clock) == pytest.approx(calls, abs=1)
    assert calls == 1 or calls * seconds == pytest.approx(RUN)


def test_a_run_is_the_mean_of_its_calls() -> None:
    clock = Clock()
    checked: list[Any] = []
    run = timed(clock.way(1.0, 3.0), checked.append, calls=2, clock=clock)
    assert run() == 2.0
    assert checked == [3.0]  # what the last call gave


def test_other_arrays_are_an_error_at_any_turn() -> None:
    results = iter([np.ones(2)] * 5 + [np.zeros(2)])
    ways = {"a": lambda: np.ones(2), "b": lambda: next(results)}
    with pytest.raises(DifferentResultsError, match="got others by b"):
        compared(ways, np.ones(2), Plan(least=20, most=20), calls=1)


@pytest.mark.parametrize(
    ("got", "equal"),
    [
        ({"a": np.ones(2)}, True),
        ({"a": np.ones(2, np.float32)}, False),
        ({"a": np.ones(3)}, False),
        ({"b": np.ones(2)}, False),
        ({"a": np.array([1.0, 2.0])}, False),
        ([np.ones(2)], False),
    ],
)
def test_what_is_the_same(got: Any, equal: bool) -> None:
    assert same({"a": np.ones(2)}, got) is equal


def test_lists_are_the_same_by_their_arrays() -> None:
    assert same([np.ones(1)], [np.ones(1)])
    assert not same([np.ones(1)], [np.ones(1), np.ones(1)])


@pytest.mark.parametrize(("least", "most"), [(0, 1), (3, 2)])
def test_a_plan_that_cannot_be(least: int, most: int) -> None:
    with pytest.raises(ValueError, match="at least one turn"):
        Plan(least=least, most=most)


def test_summaries() -> None:
    summary = summarize([float(value) for value in range(101)])
    assert (summary.median, summary.iqr, summary.p99, summary.count) == (50.0, 50.0, 99.0, 101)
    assert summary.uncertainty == pytest.approx(1.57 * 50 / 101**0.5 / 50)
    assert ratios([1.0, 4.0, 3.0], [2.0, 2.0, 2.0]).median == 1.5


def test_ratios_come_first() -> None:
    figures = beside_all("case", {"mine": [1e-3, 1e-3], "other": [2e-3, 2e-3]}, "time", "ms")
    assert [(figure.name, figure.value, figure.beside) for figure in figures] == [
        ("time, mine / other", 0.5, "other"),
        ("time, mine", 1.0, None),
        ("time, other", 2.0, None),
    ]
    assert figures[1].p99 == 1.0
