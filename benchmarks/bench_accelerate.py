"""What `.cpu().numpy()` takes with and without accelerate(), in code that nobody edits.

On the simulated accelerator at no cost per copy: what the host does.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from time import perf_counter

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import MIB, Figure, Measured
from torch_np_bridge.cli.bench.timing import beside_all, turns

ACCELERATED, PLAIN = ".cpu().numpy(), accelerate()", ".cpu().numpy()"


def main() -> int:
    """Measure and print."""
    _, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(target.device, quick))


def measure(device: torch.device, quick: bool) -> Measured:
    """Tensors of three sizes."""
    figures: list[Figure] = []
    for size in (4096, MIB, 16 * MIB):
        figures += unedited(device, size, calls=2 if quick else max(5, min(1000, 64 * MIB // size)), quick=quick)
    return Measured(figures)


def unedited(device: torch.device, size: int, calls: int, quick: bool) -> list[Figure]:
    """A call of `.cpu().numpy()`, whose array is dropped at the next one."""
    source = torch.ones(size // 4, device=device)

    def run(accelerated: bool) -> float:
        with tnb.accelerate() if accelerated else nullcontext():
            start = perf_counter()
            for _ in range(calls):
                array = source.cpu().numpy()
            seconds = perf_counter() - start
        assert array[-1] == 1
        return seconds / calls

    case = f"{size / MIB:g} MiB" if size >= MIB else f"{size} bytes"
    seconds = turns({ACCELERATED: lambda: run(True), PLAIN: lambda: run(False)}, harness.plan(quick, 30))
    return beside_all(case, seconds, "time", "µs")


if __name__ == "__main__":
    sys.exit(main())
