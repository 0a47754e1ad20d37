"""What the staged route takes, by which arrays come that lie beyond the page-locked limit.

It copies through a ring of page-locked chunks of 4 MiB to ordinary memory. Its two halves by hand: the
device's copies to page-locked memory, and the host's from there to fresh ordinary memory. Where they overlap, the
route takes little more than the slower one. On the simulated accelerator, whose copies are made to take a time: 20 ms
a chunk, and as long as the host takes for one.
"""

from __future__ import annotations

import sys
from time import perf_counter
from types import ModuleType

import harness
import numpy as np
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.memory import fresh_memory
from torch_np_bridge.cli.bench.results import MIB, Bar, Figure, Measured
from torch_np_bridge.cli.bench.timing import ratio, times, turns

CHUNK, CHUNKS = 4 * MIB, 4  # of the ring, in csrc/staging.h
SECONDS_A_CHUNK = 0.02
OVERLAP_LIMIT = 1.25
STAGED, DEVICE_HALF, HOST_HALF = "staged", "the device's half", "the host's half"


def main() -> int:
    """Measure, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """Both halves and the whole."""
    figures, bars = overlap(fake, device, quick, chunks=6 if quick else 16)
    return Measured(figures, bars)


def overlap(fake: ModuleType, device: torch.device, quick: bool, chunks: int) -> tuple[list[Figure], list[Bar]]:
    """The staged route beside its halves."""
    source = torch.arange(chunks * CHUNK // 8).to(device)
    ring = torch.empty(CHUNKS, CHUNK // 8, dtype=torch.int64, pin_memory=True)
    with tnb.Bridge(engine="native", pinned_limit=2 * CHUNKS * CHUNK) as bridge:
        ways = {
            STAGED: lambda: staged(bridge, source),
            DEVICE_HALF: lambda: device_half(source, ring),
            HOST_HALF: lambda: host_half(ring, chunks),
        }
        figures: list[Figure] = []
        bars: list[Bar] = []
        a_chunk = min(host_half(ring, chunks) for _ in range(5)) / chunks
        cases = {
            f"{chunks} chunks, {SECONDS_A_CHUNK * 1e3:.0f} ms a copy": SECONDS_A_CHUNK,
            f"{chunks} chunks, a copy takes what the host takes": a_chunk,
        }
        for case, latency in cases.items():
            fake.set_copy_cost(latency=latency)
            seconds = turns(ways, harness.plan(quick, 20))
            slower = max((DEVICE_HALF, HOST_HALF), key=lambda half: sum(seconds[half]))
            both = {
                "both halves": [sum(pair) for pair in zip(seconds[DEVICE_HALF], seconds[HOST_HALF], strict=True)],
                STAGED: seconds[STAGED],
            }
            share = ratio(case, seconds, STAGED, slower, "time", a_way=False)
            figures += [
                share,
                ratio(case, both, STAGED, "both halves", "time", a_way=False),
                *times(case, seconds, "time", "ms"),
            ]
            if latency == SECONDS_A_CHUNK:
                bars.append(Bar.of("staged beside the slower half", share, "at most", OVERLAP_LIMIT))
        if bridge.stats().unpooled_leaves != bridge.stats().transfers:
            raise AssertionError(f"expected every array in ordinary memory, got {bridge.stats()}")
        fake.set_copy_cost()
    return figures, bars


def staged(bridge: tnb.Bridge, source: torch.Tensor) -> float:
    """Seconds of the whole route."""
    fresh_memory(source.nbytes)
    start = perf_counter()
    array = bridge.to_numpy_async(source).result()
    seconds = perf_counter() - start
    if (array[:: CHUNK // 8] != np.arange(0, source.numel(), CHUNK // 8)).any() or array[-1] != source.numel() - 1:
        raise AssertionError("expected the source's values, got others")
    return seconds


def device_half(source: torch.Tensor, ring: torch.Tensor) -> float:
    """Seconds of the device's copies to page-locked memory, chunk by chunk, and nothing else."""
    copied = torch.Event(device=source.device)
    start = perf_counter()
    for index, chunk in enumerate(source.view(-1, ring.shape[1])):
        ring[index % CHUNKS].copy_(chunk, non_blocking=True)
    copied.record()
    copied.synchronize()
    return perf_counter() - start


def host_half(ring: torch.Tensor, chunks: int) -> float:
    """Seconds of the host's copies from page-locked to fresh ordinary memory, and nothing else."""
    chunk = ring.numpy()
    fresh_memory(chunks * CHUNK)
    start = perf_counter()
    array = np.empty((chunks, ring.shape[1]), dtype=np.int64)
    for index in range(chunks):
        array[index] = chunk[index % CHUNKS]
    return perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
