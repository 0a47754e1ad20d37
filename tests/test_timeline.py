"""The arithmetic behind a profile, by tables: no clock, no device."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import pytest

from torch_np_bridge._recording import AnchorRow, CallRow, CopyRow
from torch_np_bridge._spans import common, length, minus, union
from torch_np_bridge._timeline import Call, Copies, Wait, WaitedFor, computing, hidden, read, waited_for


def moments(spans: Iterable[tuple[float, float]]) -> set[int]:
    return {moment for begin, end in spans for moment in range(int(begin), int(end))}


def test_sets_of_spans() -> None:
    dice = random.Random(3)
    for _ in range(500):
        first, second = (
            [(begin, begin + dice.randrange(6)) for begin in (dice.randrange(30) for _ in range(dice.randrange(6)))]
            for _ in range(2)
        )
        a, b = union(first), union(second)
        assert moments(a) == moments(first)
        assert all(end < begin for (_, end), (begin, _) in pairwise(a))
        assert moments(minus(a, b)) == moments(a) - moments(b)
        assert moments(common(a, b)) == moments(a) & moments(b)
        assert length(common(a, b)) == len(moments(a) & moments(b))


def test_a_short_span_beside_many() -> None:
    class Counted(list[tuple[float, float]]):
        looks = 0

        def __getitem__(self, place: Any) -> Any:
            self.looks += len(range(*place.indices(len(self)))) if isinstance(place, slice) else 1
            return super().__getitem__(place)

    many = Counted((begin, begin + 0.5) for begin in range(1000))
    assert minus([(700, 701)], many) == [(700.5, 701)]
    assert many.looks < 20


def call(submitted: float, computed: float, started: float, ended: float, *waits: tuple[float, float]) -> Call:
    copies = Copies("cuda:0", "device", submitted, computed, started, ended)
    return Call(1, submitted, submitted, 8, {"dense": 1}, (copies,), tuple(Wait(1, *wait) for wait in waits))


@pytest.mark.parametrize(
    ("calls", "share"),
    [
        ([call(0, 2, 2, 4, (0, 4))], 0.0),  # waited for, and nothing else to do
        ([call(0, 2, 2, 4)], 1.0),  # nobody waits
        ([call(0, 2, 2, 4, (3, 4))], 0.5),
        ([call(0, 2, 2, 4, (0, 4)), call(1, 4, 4, 6)], 1.0),  # it computes for the next one meanwhile
        ([call(0, 2, 2, 4, (0, 4)), call(1, 3, 4, 6)], 0.75),
        ([call(0, 2, 2, 4, (0, 4)), call(4, 6, 6, 8, (4, 8))], 0.0),  # what comes later is no excuse
        ([call(1, 2, 2, 4, (1, 4)), call(0, 4, 5, 7)], 0.5),  # nor is what came earlier
        ([call(0, 2, 2, 4), call(0.5, 2, 4, 6, (2, 6))], 0.0),  # a wait for the later one waits for both
        ([], math.nan),
    ],
)
def test_hidden(calls: list[Call], share: float) -> None:
    assert hidden(calls) == pytest.approx(share, nan_ok=True)


def test_another_devices_computing_hides_nothing() -> None:
    other = Call(1, 1, 1, 8, {"dense": 1}, (Copies("cuda:1", "device", 1, 4, 4, 6),), ())
    assert hidden([call(0, 2, 2, 4, (0, 4)), other]) == pytest.approx(0.5)


def test_what_was_waited_for() -> None:
    parts = waited_for(call(0, 2, 3, 6, (0, 7), (6, 8)))
    assert parts == WaitedFor(computing=2, turn=1, copying=3, rest=3)


def test_computing_is_one_after_the_other() -> None:
    copies = [copy for it in (call(0, 2, 2, 3), call(0.5, 4, 4, 5), call(1, 3, 5, 6)) for copy in it.copies]
    assert computing(copies) == [(0, 2), (2, 4), (3, 3)]


class Recorded:
    def __init__(self, anchors: list[AnchorRow], calls: list[CallRow]) -> None:
        self._read = (anchors, calls)

    def read(self) -> tuple[list[AnchorRow], list[CallRow]]:
        return self._read


def recorded(anchor: AnchorRow, *copies: CopyRow) -> Recorded:
    return Recorded([anchor], [CallRow(1, 0, 0, 8, {"dense": 1}, [], [copy]) for copy in copies])


@pytest.mark.parametrize(
    ("anchor", "copies", "started"),
    [
        # An anchor that was seen at once says it all.
        (AnchorRow("d", 10, 10.2), [CopyRow("d", 1, 2, 3, 10, 10, 20)], 12.1),
        # It was not seen: an event does not pass before it is recorded …
        (AnchorRow("d", 10, None), [CopyRow("d", 1, 2, 3, 12, 12, 14)], 13.0),
        # … nor after it was seen to have passed.
        (AnchorRow("d", 10, None), [CopyRow("d", 1, 2, 3, 10, 10, 14)], 12.5),
        (AnchorRow("d", 10, None), [CopyRow("d", 1, 2, 3, 10, 10, 14), CopyRow("d", 4, 5, 6, 13, 13, 16.2)], 12.1),
    ],
)
def test_the_clocks_of_host_and_device(anchor: AnchorRow, copies: list[CopyRow], started: float) -> None:
    calls, in_flight = read(recorded(anchor, *copies))
    assert in_flight == 0
    [copy] = calls[0].copies
    assert copy.started == pytest.approx(started)
    assert copy.ended - copy.started == pytest.approx(1)
    assert copy.submitted <= copy.computed <= copy.started


def test_what_only_the_host_has_seen() -> None:
    """A worker copies, behind what the device computes: from then on it is copying."""
    calls, in_flight = read(
        recorded(
            AnchorRow("d", 0, 0),
            CopyRow("d", 5, None, None, 1, 2, 9),
            CopyRow("e", None, None, None, 1, 2, 9),
            CopyRow("e", None, None, None, 1, 2, None),
        )
    )
    assert in_flight == 1
    behind, alone = (copy for it in calls for copy in it.copies)
    assert (behind.clock, behind.computed, behind.started, behind.ended) == ("host", 5, 5, 9)
    assert (alone.clock, alone.computed, alone.started, alone.ended) == ("host", 1, 2, 9)
