"""What `import torch_np_bridge` costs beyond torch, NumPy and optree, which are imported before.

Medians of fresh processes; the files are compiled, as pip leaves them, and the system has read them before.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from functools import partial

import harness
import torch

from torch_np_bridge.cli.bench.results import Bar, Measured
from torch_np_bridge.cli.bench.timing import times, turns
from torch_np_bridge.cli.target import Target

LIMIT = 30.0
TARGET = Target(torch.device("cpu"), None)
CASE, OURS = "a fresh process", "torch_np_bridge"
BEFORE = "import sys, time, torch, numpy, optree; sys.path.insert(0, {!r}); start = time.perf_counter(); "
AFTER = "; print(time.perf_counter() - start)"


def main() -> int:
    """Measure, print, and judge."""
    return harness.run(__file__, __doc__ or "", lambda: TARGET, measure)


def measure(quick: bool) -> Measured:
    """The time of the import, and of what is in it that is not ours."""
    found = turns({name: partial(seconds, name) for name in (OURS, "ml_dtypes")}, harness.plan(quick, 30))
    bar = Bar(f"import {OURS}", statistics.median(found[OURS]) * 1e3, "at most", LIMIT, "ms")
    return Measured(times(CASE, found, "time of the import", "ms"), [bar], ["It imports ml_dtypes."])


def seconds(name: str) -> float:
    """Of one import, as its process measures it."""
    code = f"{BEFORE.format(str(harness.ROOT))}import {name}{AFTER}"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
