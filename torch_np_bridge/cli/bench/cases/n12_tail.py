"""The slowest calls while the device computes and copies for another stream.

A thread keeps its own stream busy: it computes, copies to the device, waits, and begins again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import torch

from ..baselines import BRIDGE
from ..results import MIB, Bar, Figure, Measured
from ..setting import Setting
from ..timing import beside_all, runs_of, summarize
from .trees import make_tree, time_tree

TIMES = 1.5  # of the median
COUNT, SHAPE = 100, (64, 64)
SECONDS = 0.002  # of computing, a turn of the thread


def measure(setting: Setting) -> Measured:
    """A tree of small tensors by all ways."""
    count = 10 if setting.quick else COUNT
    case = f"{count} of {'×'.join(map(str, SHAPE))} float32, under load"
    setting.say(case)
    tree = make_tree(count, SHAPE, setting.device)
    with load(setting):
        seconds = time_tree(tree, setting.plan(least=200, most=2000, seconds=10.0))
    tails = {name: tail.p99 / tail.median for name, tail in ((name, summarize(runs)) for name, runs in seconds.items())}
    figures = [Figure(case, f"99th percentile / median, {name}", tail, "×") for name, tail in tails.items()]
    notes = [f"{runs_of(seconds)} runs of each way in turns."]
    bars = []
    if setting.hardware:
        bars.append(Bar(f"N12, 99th percentile / median, {case}", tails[BRIDGE], "at most", TIMES, "×"))
    else:
        notes.append(f"The bar of N12, {TIMES} × the median, is of hardware.")
    return Measured([*beside_all(case, seconds, "time", "ms"), *figures], bars, notes)


@contextmanager
def load(setting: Setting) -> Iterator[None]:
    """The thread, until the end of the block; what it fails by is raised there."""
    over = Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _occupy(setting, over)
        except BaseException as failure:
            failures.append(failure)

    thread = Thread(target=work, name="load", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise RuntimeError(f"expected a device under load, the load ended: {failures[0]}") from failures[0]


def _occupy(setting: Setting, over: Event) -> None:
    host = torch.ones(MIB, dtype=torch.float32, pin_memory=True)
    stream = torch.Stream(device=setting.device)
    done = torch.Event(device=setting.device)
    with stream:
        there = host.to(setting.device)
        while not over.is_set():
            setting.controls.compute(there, SECONDS)
            there.copy_(host, non_blocking=True)
            done.record(stream)
            done.synchronize()
