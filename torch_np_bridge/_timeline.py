"""From what an engine recorded to a timeline: all moments on the host's clock, and what follows from them. Pure.

docs/profile.md has the model in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Literal

from ._recording import AnchorRow, CallRow, CopyRow, Recording
from ._spans import Spans, common, length, minus, union


@dataclass(frozen=True)
class Copies:
    """The copies of one call from one device, as the profile of a Bridge shows them; seconds since it began.

    Attributes:
        device: where the tensors were.
        clock: ``"device"`` where its events tell ``started`` and ``ended``; ``"host"`` where it is known only when a
            thread of the host began and ended, so that what the device computed meanwhile may count as copying.
        submitted: when the call asked for them.
        computed: when the device had done what was submitted before them.
        started: when the first copy began: behind that, and behind the copies before them.
        ended: when the last one had ended.
    """

    device: str
    clock: Literal["device", "host"]
    submitted: float
    computed: float
    started: float
    ended: float


@dataclass(frozen=True)
class Wait:
    """A thread of the host was held up.

    Attributes:
        thread: its number, in the order in which threads were first seen.
        begin: when it began to wait, in seconds since the profile began.
        end: when it went on.
    """

    thread: int
    begin: float
    end: float


@dataclass(frozen=True)
class Call:
    """One conversion, as the profile of a Bridge shows it. All times in seconds, moments since the profile began.

    Attributes:
        thread: the number of the thread that submitted it.
        begin: when it was submitted.
        returned: when the submission was over.
        bytes: what was copied from devices.
        routes: how many tensors went which way; see docs/design.md.
        copies: of each device that tensors were copied from.
        waits: of the threads that waited for it.
    """

    thread: int
    begin: float
    returned: float
    bytes: int
    routes: dict[str, int]
    copies: tuple[Copies, ...]
    waits: tuple[Wait, ...]

    @property
    def leaves(self) -> int:
        """How many tensors it had."""
        return sum(self.routes.values())

    @property
    def queued(self) -> float:
        """How many seconds its copies waited for the device to compute their tensors, and for other copies."""
        return length(union((it.submitted, it.started) for it in self.copies))

    @property
    def copied(self) -> float:
        """How many seconds they took."""
        return length(union((it.started, it.ended) for it in self.copies))

    @property
    def waited(self) -> float:
        """How many seconds threads of the host were held up by it, all together."""
        return sum(it.end - it.begin for it in self.waits)


@dataclass(frozen=True)
class WaitedFor:
    """What threads of the host were waiting for, in seconds.

    Attributes:
        computing: for the device to compute the tensors.
        turn: then for other copies to end.
        copying: for the copies.
        rest: for nothing of these: to hear of the end, to page-lock memory.
    """

    computing: float
    turn: float
    copying: float
    rest: float


def read(recording: Recording) -> tuple[list[Call], int]:
    """The calls whose copies have ended, and how many others there are."""
    given_anchors, given_rows = recording.read()
    anchors = [AnchorRow(*anchor) for anchor in given_anchors]
    rows = [CallRow(*row) for row in given_rows]
    rows = [row._replace(copies=[CopyRow(*copy) for copy in row.copies]) for row in rows]
    offsets = _offsets(anchors, [copy for row in rows for copy in row.copies])
    ended = [row for row in rows if all(copy.ended_at is not None for copy in row.copies)]
    return [_call(row, offsets) for row in ended], len(rows) - len(ended)


def _offsets(anchors: list[AnchorRow], copies: list[CopyRow]) -> dict[str, float]:
    """The moment of the host at which each anchor passed, as nearly as is known.

    No event passes before the host records it, nor after the host has seen that it has: each event says that the
    anchor passed in some span, and the middle of what all of them allow is taken.
    """
    earliest = {anchor.device: anchor.recorded for anchor in anchors}
    latest = {anchor.device: math.inf if anchor.seen is None else anchor.seen for anchor in anchors}
    for copy in copies:
        if copy.computed is not None:
            earliest[copy.device] = max(earliest[copy.device], copy.submitted_at - copy.computed)
        if copy.ended is not None and copy.ended_at is not None:
            latest[copy.device] = min(latest[copy.device], copy.ended_at - copy.ended)
    return {
        device: begin if math.isinf(latest[device]) else (begin + latest[device]) / 2
        for device, begin in earliest.items()
    }


def _call(row: CallRow, offsets: dict[str, float]) -> Call:
    copies = tuple(_copies(copy, offsets) for copy in row.copies)
    waits = tuple(Wait(*wait) for wait in row.waits)
    return Call(row.thread, row.begin, row.returned, row.bytes, dict(row.routes), copies, waits)


def _copies(row: CopyRow, offsets: dict[str, float]) -> Copies:
    assert row.ended_at is not None
    computed = row.submitted_at
    if row.computed is not None:
        computed = max(computed, offsets[row.device] + row.computed)
    if row.started is None or row.ended is None:
        ended = max(row.ended_at, computed)
        return Copies(row.device, "host", row.submitted_at, computed, max(computed, row.started_at), ended)
    started = max(computed, offsets[row.device] + row.started)
    return Copies(row.device, "device", row.submitted_at, computed, started, started + row.ended - row.started)


def hidden(calls: Sequence[Call]) -> float:
    """The share of the time of copies that cost nobody anything; nan where nothing was copied.

    A moment of a copy is hidden where the device was still computing for a later transfer, or where no thread of the
    host was waiting.
    """
    waiting = union((wait.begin, wait.end) for call in calls for wait in call.waits)
    total = exposed = 0.0
    for copies in of_devices(calls).values():
        for index, copy in enumerate(copies):
            span = union([(copy.started, copy.ended)])
            meanwhile = takewhile(lambda later: later.submitted < copy.ended, islice(copies, index + 1, None))  # noqa: B023
            computing = union((later.submitted, later.computed) for later in meanwhile)
            total += length(span)
            exposed += length(minus(common(span, waiting), computing))
    return 1 - exposed / total if total > 0 else math.nan


def of_devices(calls: Sequence[Call]) -> dict[str, list[Copies]]:
    """The copies from each device, in the order in which they were submitted."""
    found: dict[str, list[Copies]] = {}
    for call in calls:
        for copy in call.copies:
            found.setdefault(copy.device, []).append(copy)
    for copies in found.values():
        copies.sort(key=lambda copy: copy.submitted)
    return found


def computing(copies: Sequence[Copies]) -> Spans:
    """When a device was computing for each of its transfers: behind what it computed for the one before."""
    spans: Spans = []
    reached = 0.0
    for copy in copies:
        spans.append((min(max(copy.submitted, reached), copy.computed), copy.computed))
        reached = max(reached, copy.computed)
    return spans


def waited_for(call: Call) -> WaitedFor:
    """What the waits for a call were for."""
    pending = union((it.submitted, it.computed) for it in call.copies)
    copying = union((it.started, it.ended) for it in call.copies)
    turn = union((it.computed, it.started) for it in call.copies)
    parts = [0.0, 0.0, 0.0, 0.0]
    for wait in call.waits:
        left = union([(wait.begin, wait.end)])
        for index, spans in enumerate((pending, turn, copying)):
            parts[index] += length(common(left, spans))
            left = minus(left, spans)
        parts[3] += length(left)
    return WaitedFor(*parts)
