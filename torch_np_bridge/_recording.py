"""What an engine records while it is profiled: moments, and nothing that follows from them.

Moments of the host are seconds since the recording began. Those of a device are seconds since its anchor, an event
that passed between two moments of the host. The C++ engine gives plain tuples of these fields, in this order.
"""

from __future__ import annotations

import os
import threading
from time import perf_counter
from typing import NamedTuple, Protocol

Span = tuple[int, float, float]  # the number of a thread, begin and end


class AnchorRow(NamedTuple):
    """``seen`` is None where it was not seen to have passed soon after it was recorded."""

    device: str
    recorded: float
    seen: float | None


class CopyRow(NamedTuple):
    """Copies of one call from one device. The first three moments are the device's, None where it cannot say them."""

    device: str
    computed: float | None
    started: float | None
    ended: float | None
    submitted_at: float
    started_at: float
    ended_at: float | None  # None while they are in flight


class CallRow(NamedTuple):
    """One call of an engine's ``submit``; ``bytes`` are those that were copied from a device."""

    thread: int
    begin: float
    returned: float
    bytes: int
    routes: dict[str, int]
    waits: list[Span]
    copies: list[CopyRow]


class Recording(Protocol):
    """Grows while its engine is profiled; may be read at any time."""

    def read(self) -> tuple[list[AnchorRow], list[CallRow]]:
        """The anchor of each device, and the calls in the order in which they were submitted."""


class HostRecording:
    """The recording of an engine whose calls end before they return: all it knows is how long they took."""

    def __init__(self) -> None:
        self.begin = perf_counter()
        self.process = os.getpid()  # a forked child is not recorded
        self.calls: list[CallRow] = []
        self.threads: dict[int, int] = {}

    def add(self, begin: float, sizes: dict[str, int], routes: dict[str, int]) -> None:
        """A call that is about to return; ``sizes`` are the bytes that it copied from each device."""
        span = (begin - self.begin, perf_counter() - self.begin)
        thread = self.threads.setdefault(threading.get_ident(), len(self.threads) + 1)
        copies = [CopyRow(device, None, None, None, span[0], *span) for device in sizes]
        waits = [(thread, *span)] if copies else []
        self.calls.append(CallRow(thread, *span, sum(sizes.values()), routes, waits, copies))

    def read(self) -> tuple[list[AnchorRow], list[CallRow]]:
        """No device has been asked for anything."""
        return [], list(self.calls)
