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
from harness import Bar, Figure, Measured

from torch_np_bridge.cli.target import Target
from torch_np_bridge.cli.timing import summarize

LIMIT = 30.0
TARGET = Target(torch.device("cpu"), None)
CASE = "a fresh process"
BEFORE = "import sys, time, torch, numpy, optree; sys.path.insert(0, {!r}); start = time.perf_counter(); "
AFTER = "; print(time.perf_counter() - start)"


def main() -> int:
    """Measure, print, and judge."""
    return harness.run(__file__, __doc__ or "", lambda: TARGET, measure)


def measure(quick: bool) -> Measured:
    """The time of the import, and of what is in it that is not ours."""
    ways = {name: partial(seconds, name) for name in ("torch_np_bridge", "ml_dtypes")}
    runs = harness.turns(ways, 2 if quick else 30)
    figures = [
        Figure(CASE, f"time of import {name}", summary.median * 1e3, "ms", summary.iqr * 1e3)
        for name, summary in ((name, summarize(times)) for name, times in runs.items())
    ]
    value = statistics.median(runs["torch_np_bridge"]) * 1e3
    return Measured(figures, [Bar("import torch_np_bridge", value, "at most", LIMIT, "ms")], ["It imports ml_dtypes."])


def seconds(name: str) -> float:
    """Of one import, as its process measures it."""
    code = f"{BEFORE.format(str(harness.ROOT))}import {name}{AFTER}"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
