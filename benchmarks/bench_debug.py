"""What a call takes with TORCH_NP_BRIDGE_DEBUG=1 and without.

On the simulated accelerator at no cost per copy: what the host does. Each array is dropped at the next call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import perf_counter
from unittest import mock

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import MIB, Figure, Measured
from torch_np_bridge.cli.bench.timing import beside_all, turns

DEBUGGED, PLAIN = "debugged", "not debugged"
Convert = Callable[[torch.Tensor], object]


def main() -> int:
    """Measure and print."""
    _, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(target.device, quick))


def measure(device: torch.device, quick: bool) -> Measured:
    """Tensors of two sizes, at once and in two steps."""
    with mock.patch.dict(os.environ, TORCH_NP_BRIDGE_DEBUG="1"):
        debugged = tnb.Bridge()
    with mock.patch.dict(os.environ, TORCH_NP_BRIDGE_DEBUG="0"):
        plain = tnb.Bridge()
    figures: list[Figure] = []
    with debugged, plain:
        for size in (4096, 16 * MIB):
            source = torch.ones(size // 4, device=device)
            calls = 2 if quick else max(5, min(1000, 64 * MIB // size))
            for name, way in (("to_numpy", at_once), ("to_numpy_async, result()", in_two_steps)):
                ways = {DEBUGGED: way(debugged), PLAIN: way(plain)}
                case = f"{name}, {size // MIB} MiB" if size >= MIB else f"{name}, {size} bytes"
                seconds = turns({key: timed(ways[key], source, calls) for key in ways}, harness.plan(quick, 30))
                figures += beside_all(case, seconds, "time", "µs")
    return Measured(figures)


def at_once(bridge: tnb.Bridge) -> Convert:
    """The blocking call."""
    return bridge.to_numpy


def in_two_steps(bridge: tnb.Bridge) -> Convert:
    """The asynchronous call, asked for its result at once."""
    return lambda source: bridge.to_numpy_async(source).result()


def timed(convert: Convert, source: torch.Tensor, calls: int) -> Callable[[], float]:
    """The seconds of a call."""

    def run() -> float:
        start = perf_counter()
        for _ in range(calls):
            array = convert(source)
        seconds = perf_counter() - start
        del array
        return seconds / calls

    return run


if __name__ == "__main__":
    sys.exit(main())
