"""What lies beyond the page-locked limit: the staged route, and a program that keeps every array.

The staged route copies through a ring of page-locked chunks of 4 MiB to ordinary memory. Its two halves by hand: the
device's copies to page-locked memory, and the host's from there to fresh ordinary memory. Where they overlap, the
route takes little more than the slower one. On the simulated accelerator, whose copies are made to take a time: 20 ms
a chunk, and as long as the host takes for one.

The program converts four times as many bytes as may be page-locked and keeps them all, beside the same program with
`.cpu().numpy()`; at no cost per copy and at 2 GB/s. What comes after the limit is judged; all of it is shown, with
what the simulated driver takes to page-lock the first quarter, which is no hardware's figure.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from types import ModuleType
from typing import Any

import harness
import numpy as np
import torch
from harness import MIB, Bar, Figure, Measured

import torch_np_bridge as tnb

CHUNK, CHUNKS = 4 * MIB, 4  # of the ring, in csrc/staging.h
SECONDS_A_CHUNK = 0.02
OVERLAP_LIMIT = 1.25
NOT_SLOWER = 1.02  # a ratio of medians below this is noise around one
TIMES_THE_LIMIT = 4
BANDWIDTH = 2e9
STAGED, DEVICE_HALF, HOST_HALF = "staged", "the device's half", "the host's half"
BRIDGE, CPU_NUMPY = "to_numpy", ".cpu().numpy()"
Convert = Callable[[torch.Tensor], Any]


def main() -> int:
    """Measure, print, and judge."""
    fake, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(fake, target.device, quick))


def measure(fake: ModuleType, device: torch.device, quick: bool) -> Measured:
    """Both halves and the whole; then the program that keeps all."""
    figures, bars = overlap(fake, device, runs=1 if quick else 20, chunks=6 if quick else 16)
    limit = 32 * MIB if quick else 64 * MIB
    for label, bandwidth in {"no cost per copy": None, "2 GB/s": BANDWIDTH}.items():
        fake.set_copy_cost(bandwidth=bandwidth)
        for size in (MIB, 16 * MIB):
            case = f"keeps all, {size // MIB} MiB each, {label}"
            found, judged = keep_all(fake, device, case, size, limit, runs=1 if quick else 30)
            figures += found
            bars += judged
    fake.set_copy_cost()
    return Measured(figures, bars, [f"The limit of the programs is {limit // MIB} MiB."])


def overlap(fake: ModuleType, device: torch.device, runs: int, chunks: int) -> tuple[list[Figure], list[Bar]]:
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
            seconds = harness.turns(ways, runs)
            slower = max((DEVICE_HALF, HOST_HALF), key=lambda half: sum(seconds[half]))
            both = {
                "both halves": [sum(pair) for pair in zip(seconds[DEVICE_HALF], seconds[HOST_HALF], strict=True)],
                STAGED: seconds[STAGED],
            }
            share = harness.ratio(case, seconds, STAGED, slower, "time")
            figures += [
                share,
                harness.ratio(case, both, STAGED, "both halves", "time"),
                *harness.times(case, seconds, "time", "ms"),
            ]
            if latency == SECONDS_A_CHUNK:
                bars.append(Bar("staged beside the slower half", share.value, "at most", OVERLAP_LIMIT, "×"))
        if bridge.stats().unpooled_leaves != bridge.stats().transfers:
            raise AssertionError(f"expected every array in ordinary memory, got {bridge.stats()}")
        fake.set_copy_cost()
    return figures, bars


def staged(bridge: tnb.Bridge, source: torch.Tensor) -> float:
    """Seconds of the whole route."""
    harness.fresh_memory(source.nbytes)
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
    harness.fresh_memory(chunks * CHUNK)
    start = perf_counter()
    array = np.empty((chunks, ring.shape[1]), dtype=np.int64)
    for index in range(chunks):
        array[index] = chunk[index % CHUNKS]
    return perf_counter() - start


def keep_all(
    fake: ModuleType, device: torch.device, case: str, size: int, limit: int, runs: int
) -> tuple[list[Figure], list[Bar]]:
    """The program by both ways, and what it held page-locked."""
    source = torch.arange(size // 8).to(device)
    total, at_limit = TIMES_THE_LIMIT * limit // size, limit // size
    beyond: dict[str, list[float]] = {BRIDGE: [], CPU_NUMPY: []}
    held: list[int] = []

    def program(convert: Convert, name: str) -> float:
        harness.fresh_memory(total * size)
        kept = []
        start = perf_counter()
        for _ in range(at_limit):
            kept.append(convert(source))
        middle = perf_counter()
        for _ in range(total - at_limit):
            kept.append(convert(source))
        end = perf_counter()
        beyond[name].append(end - middle)
        if any(array[-1] != size // 8 - 1 for array in kept):
            raise AssertionError(f"expected the source's values, got others by {name}")
        return end - start

    def by_bridge() -> float:
        harness.without_page_locked_memory(fake)
        with tnb.Bridge(engine="native", pinned_limit=limit) as bridge:
            seconds = program(bridge.to_numpy, BRIDGE)
            held.append(harness.page_locked_bytes(fake))
        return seconds

    whole = harness.turns({BRIDGE: by_bridge, CPU_NUMPY: lambda: program(lambda x: x.cpu().numpy(), CPU_NUMPY)}, runs)
    past = {name: seconds[1:] for name, seconds in beyond.items()}  # without the turn that warms up
    share = harness.ratio(case, past, BRIDGE, CPU_NUMPY, "past the limit")
    figures = [
        share,
        harness.ratio(case, whole, BRIDGE, CPU_NUMPY, "whole program"),
        *harness.times(case, past, "past the limit", "ms"),
        *harness.times(case, whole, "whole program", "ms"),
        Figure(case, "page-locked, at most", max(held), "bytes"),
    ]
    bars = [
        Bar(f"N13, past the limit, {case}", share.value, "at most", NOT_SLOWER, "×"),
        Bar(f"N13, page-locked, {case}", max(held), "at most", limit, "bytes"),
    ]
    return figures, bars


if __name__ == "__main__":
    sys.exit(main())
