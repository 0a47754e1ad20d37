"""One tensor of at most 4 KiB, from the call to the array in hand: what a call costs, since few bytes take no time."""

from __future__ import annotations

from ..baselines import BARE_CPP, BRIDGE
from ..results import Bar, Measured
from ..setting import Setting
from ..timing import ratio
from .single import measure_one

TIMES = 1.5  # of a bare copy and its event in C++


def measure(setting: Setting) -> Measured:
    """A few bytes, and 4 KiB."""
    figures, bars, notes = [], [], []
    for size in (64, 4096):
        case, seconds, found, said = measure_one(setting, size, 4.0)
        figures += found
        notes += said
        if setting.hardware and BARE_CPP in seconds:
            share = ratio(case, seconds, BRIDGE, BARE_CPP, "time")
            bars.append(Bar.of(f"N5, {case}, beside a bare copy in C++", share, "at most", TIMES))
    if not bars:
        notes.append(f"The bar of N5, {TIMES} × a bare copy in C++, is of a GPU that the kernels in this build run on.")
    return Measured(figures, bars, notes)
