"""The timeline of a profile for others to show: Chrome's trace events, and a picture."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from ._timeline import Call, computing, of_devices

COLOURS = {"computing": "#4c78a8", "copying": "#54a24b", "waiting": "#e45756"}


class Lane(NamedTuple):
    """What happened one after the other: spans, and the number of the call that each belongs to."""

    owner: str
    kind: str
    spans: list[tuple[float, float, int]]


def lanes(calls: Sequence[Call]) -> list[Lane]:
    """Of each device what it computed for transfers and what was copied, and the waits of each thread."""
    numbers = {id(copy): number for number, call in enumerate(calls) for copy in call.copies}
    found: list[Lane] = []
    for device, copies in of_devices(calls).items():
        order = [numbers[id(copy)] for copy in copies]
        spans = [(*span, number) for span, number in zip(computing(copies), order, strict=True)]
        found.append(Lane(device, "computing", _seen(spans)))
        # What a worker copies beside the copy stream is a lane of its own.
        for clock, kind in (("device", "copying"), ("host", "copying, as the host saw it")):
            mine = [(it.started, it.ended, numbers[id(it)]) for it in copies if it.clock == clock]
            if mine:
                found.append(Lane(device, kind, mine))
    threads = sorted({wait.thread for call in calls for wait in call.waits})
    for thread in threads:
        waits = [
            (wait.begin, wait.end, number)
            for number, call in enumerate(calls)
            for wait in call.waits
            if wait.thread == thread
        ]
        found.append(Lane(f"thread {thread}", "waiting", sorted(waits)))
    return found


def _seen(spans: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    return [span for span in spans if span[1] > span[0]]


def trace(calls: Sequence[Call]) -> str:
    """Trace events in JSON; times in microseconds since the profile began."""
    events: list[dict[str, Any]] = []
    processes: dict[str, int] = {}
    for number, lane in enumerate(lanes(calls), start=1):
        group = "host" if lane.owner.startswith("thread ") else lane.owner
        if group not in processes:
            processes[group] = len(processes) + 1
            events.append(_name("process_name", processes[group], 0, group))
        name = lane.owner if group == "host" else lane.kind
        events.append(_name("thread_name", processes[group], number, name))
        for begin, end, call in lane.spans:
            times = {"ts": 1e6 * begin, "dur": 1e6 * (end - begin)}
            place = {"pid": processes[group], "tid": number}
            about = _arguments(call, calls[call])
            events.append({"ph": "X", "name": f"{lane.kind}: call {call}", **times, **place, "args": about})
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _name(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}}


def _arguments(number: int, call: Call) -> dict[str, Any]:
    times = {"queued_us": 1e6 * call.queued, "copied_us": 1e6 * call.copied, "waited_us": 1e6 * call.waited}
    return {"call": number, "bytes": call.bytes, "leaves": call.leaves, "routes": call.routes, **times}


def plot(calls: Sequence[Call], path: str | os.PathLike[str], title: str) -> None:
    """Write the picture."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "expected matplotlib for the picture of a profile, got none; pip install 'torch-np-bridge[plot]', or call "
            "trace() and open its file at https://ui.perfetto.dev"
        ) from error
    shown = lanes(calls)
    # No pyplot: it is global, and would ask for a display.
    figure = Figure(figsize=(11, 1.2 + 0.55 * max(len(shown), 1)), layout="constrained")
    axes = figure.subplots()
    for height, lane in enumerate(reversed(shown)):
        bars = [(1e3 * begin, 1e3 * (end - begin)) for begin, end, _ in lane.spans]
        colour = COLOURS[lane.kind.split(",")[0]]
        axes.broken_barh(bars, (height - 0.4, 0.8), facecolors=colour, edgecolor="white", linewidth=0.4)
    axes.set_yticks(range(len(shown)), [f"{lane.owner}, {lane.kind}" for lane in reversed(shown)])
    axes.set_xlabel("ms since the profile began")
    axes.set_title(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
