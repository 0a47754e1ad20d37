"""One contiguous tensor of 1 MiB: a bare loop of page-locked copies is the limit."""

from __future__ import annotations

from ..baselines import BRIDGE, PINNED_LOOP
from ..results import MIB, Bar, Measured
from ..setting import Setting
from ..timing import ratio
from .single import measure_one

SHARE = 0.95  # of the bare loop's rate


def measure(setting: Setting) -> Measured:
    """Beside all ways."""
    case, seconds, figures, notes = measure_one(setting, MIB, 4.0)
    if not setting.hardware:
        return Measured(figures, [], [*notes, f"The bar of N4, {SHARE:.0%} of the bare copies' rate, is of hardware."])
    share = ratio(case, seconds, BRIDGE, PINNED_LOOP, "time")
    return Measured(figures, [Bar.of(f"N4, {case}, beside bare copies", share, "at most", 1 / SHARE)], notes)
