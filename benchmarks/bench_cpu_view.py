"""What a call costs where there is nothing to copy: `to_numpy` of 8 elements on the CPU.

It has to take at most 0.12 of the time of `.detach().cpu().numpy()`: the median of the ratios of 30 runs of each, made
in turns. Exit status 1 where it takes more. `--quick` makes a few short runs and judges nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from torch_np_bridge.cli import bench, cases
from torch_np_bridge.cli.target import Target

LIMIT = 0.12


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few short runs that say nothing about speed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to this file")
    options = parser.parse_args()
    report = bench.measure(Target(torch.device("cpu"), None), ["cpu_view"], options.quick)
    print(bench.render(report))
    if options.json is not None:
        bench.write(report, options.json)
    if options.quick:
        return 0
    ratio = report["cases"][0]["ratios"][cases.CPU_NUMPY]["median"]
    reached = ratio <= LIMIT
    print(f"\nExpected at most {LIMIT} × {cases.CPU_NUMPY}, got {ratio:.3f}: {'reached' if reached else 'MISSED'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
