"""One large contiguous tensor: the rate of a bare loop of page-locked copies is the limit."""

from __future__ import annotations

from ..baselines import BRIDGE, PINNED_LOOP
from ..results import MIB, Bar, Measured
from ..setting import Setting
from ..timing import ratio
from .single import measure_one

SHARE = 0.98  # of the bare loop's rate
ON_HARDWARE, SIMULATED = 1024 * MIB, 64 * MIB


def measure(setting: Setting) -> Measured:
    """1 GiB; less where copies are the host's own, which say nothing of a bus."""
    size = MIB if setting.quick else ON_HARDWARE if setting.hardware else SIMULATED
    case, seconds, figures, notes = measure_one(setting, size, 20.0)
    if not setting.hardware:
        return Measured(figures, [], [*notes, f"The bar of N3, {SHARE:.0%} of the bare copies' rate, is of hardware."])
    share = ratio(case, seconds, BRIDGE, PINNED_LOOP, "time")
    return Measured(figures, [Bar.of(f"N3, {case}, beside bare copies", share, "at most", 1 / SHARE)], notes)
