"""The summary of a profile, as text."""

from __future__ import annotations

import io
import math
import sys
from collections import Counter
from collections.abc import Sequence

from ._timeline import Call, WaitedFor, hidden, of_devices, waited_for

MOSTLY = 0.5
SHOWN = 8  # of the calls, those that were waited for longest
HEADINGS = ("call", "tensors", "bytes", "routes", "queued", "copied", "waited")


def summary(calls: Sequence[Call], in_flight: int) -> str:
    """What :meth:`torch_np_bridge.profile().summary` gives."""
    lines = [*_totals(calls), *_verdict(calls)]
    if in_flight:
        lines.append(f"In flight, and left out: {in_flight} calls")
    slowest = sorted(enumerate(calls), key=lambda numbered: -numbered[1].waited)[:SHOWN]
    rows = [_row(index, call) for index, call in slowest]
    return "\n".join([*lines, "", _table(f"The {len(rows)} calls that were waited for longest", rows)])


def _totals(calls: Sequence[Call]) -> list[str]:
    routes: Counter[str] = Counter()
    for call in calls:
        routes.update(call.routes)
    copied = sum(call.copied for call in calls)
    size = sum(call.bytes for call in calls)
    rate = f", {size / copied / 1e9:.2f} GB/s" if copied > 0 else ""
    lines = [
        f"{len(calls)} calls, {sum(call.leaves for call in calls)} tensors ({_routes(routes)}), {_bytes(size)}",
        f"copied: {_time(copied)}{rate}; hidden: {_share(hidden(calls))}",
    ]
    on_host = sorted({device for device, all_ in of_devices(calls).items() if any(it.clock == "host" for it in all_)})
    if on_host:
        lines.append(f"Some times of {', '.join(on_host)} are the host's: there, computing and copying are one.")
    return lines


def _verdict(calls: Sequence[Call]) -> list[str]:
    """Why it is slow, if it is: the largest part of what was waited for."""
    parts = [waited_for(call) for call in calls]
    total = sum(call.waited for call in calls)
    sums = WaitedFor(*(sum(getattr(part, name) for part in parts) for name in _WORDS))
    lines = [f"waited: {_time(total)}"]
    if total <= 0:
        return lines
    lines += [f"  {_share(getattr(sums, name) / total):>6}  {words}" for name, words in _WORDS.items()]
    most = max(_WORDS, key=lambda name: float(getattr(sums, name)))
    beside = most == "copying" and hidden(calls) >= MOSTLY
    return [*lines, "Mostly copying, and the device computes meanwhile." if beside else _ADVICE[most]]


_WORDS = {
    "computing": "for the device to compute the tensors",
    "turn": "for other copies, which came first",
    "copying": "for the copies themselves",
    "rest": "for none of these",
}
_ADVICE = {
    "computing": "Mostly waiting for the device to compute: faster copies would not help.",
    "turn": "Mostly waiting for other copies: fewer bytes would help, and fetching only what is needed next.",
    "copying": "Mostly copying: fewer bytes would help, and something to do meanwhile, as prefetch_to_host has.",
    "rest": "Mostly neither computing nor copying: many small calls, or memory that is page-locked for the first time.",
}


def _row(index: int, call: Call) -> tuple[str, ...]:
    times = (_time(call.queued), _time(call.copied), _time(call.waited))
    return (str(index), str(call.leaves), _bytes(call.bytes), _routes(call.routes), *times)


def _table(title: str, rows: list[tuple[str, ...]]) -> str:
    if sys.stdout.isatty():
        try:
            return _rich_table(title, rows)
        except ImportError:
            pass
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in (HEADINGS, *rows)]
    return "\n".join([title, *lines])


def _rich_table(title: str, rows: list[tuple[str, ...]]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), force_terminal=True, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def _routes(routes: dict[str, int]) -> str:
    return ", ".join(f"{count} {route}" for route, count in sorted(routes.items())) or "none"


def _share(share: float) -> str:
    return "nothing to hide" if math.isnan(share) else f"{100 * share:.1f} %"


def _time(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f} ms" if seconds >= 1e-3 else f"{1e6 * seconds:,.1f} µs"


def _bytes(size: int) -> str:
    if size < 1024:
        return f"{size} bytes"
    power = min((size.bit_length() - 1) // 10, 4)
    return f"{size / (1 << 10 * power):,.1f} {' KMGT'[power]}iB"
