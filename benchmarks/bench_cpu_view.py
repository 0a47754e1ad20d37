"""What a call costs where there is nothing to copy: `to_numpy` of 8 elements on the CPU.

Beside it `.detach().cpu().numpy()` and `.numpy()`: medians of 30 runs of each, made in turns.
"""

from __future__ import annotations

import sys

import harness
import torch
from harness import Bar, Figure, Measured

from torch_np_bridge.cli import bench, cases
from torch_np_bridge.cli.target import Target

LIMIT = 0.12
TARGET = Target(torch.device("cpu"), None)


def main() -> int:
    """Measure, print, and judge."""
    return harness.run(__file__, __doc__ or "", lambda: TARGET, measure)


def measure(quick: bool) -> Measured:
    """The times of the three ways, as ``python -m torch_np_bridge bench --only cpu_view`` makes them."""
    [case] = bench.measure(TARGET, ["cpu_view"], quick)["cases"]
    name = case["name"]
    figures = [
        Figure(name, f"time, {cases.BRIDGE} / {other}", ratio["median"], "×", ratio["iqr"])
        for other, ratio in case["ratios"].items()
    ]
    figures += [
        Figure(name, f"time, {way}", time["median_s"] * 1e6, "µs", time["iqr_s"] * 1e6)
        for way, time in case["ways"].items()
    ]
    value = case["ratios"][cases.CPU_NUMPY]["median"]
    notes = [f"{case['runs']} runs of each way in turns, {case['calls_per_run']} calls a run."]
    return Measured(figures, [Bar("N10, beside .detach().cpu().numpy()", value, "at most", LIMIT, "×")], notes)


if __name__ == "__main__":
    sys.exit(main())
