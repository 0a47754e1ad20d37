"""What grows: leaves, bytes, threads, devices. Each series is some ways at some amounts of work, measured in turns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.results import MIB

GIB = 1 << 30
LEAVES = (1, 10, 100, 1000, 10_000, 100_000)
BYTES = (1, 32, 1 << 10, 32 << 10, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB)
THREADS = (1, 2, 4, 8, 16)
DEVICES = (1, 2, 4, 8)
COPIES_AT_ONCE = 3  # of a tensor: on the device, page-locked, and torch's own for the one-liner
LARGE = 64 * MIB  # tensors that are copied few times
TORCHS, VIEW = ".cpu().numpy()", "on the CPU"
CONSTANT = 0.1
LEAST = 0.005  # seconds that a run takes
CALLS = 50  # of each thread, between two barriers


@dataclass(frozen=True)
class Way:
    """``call`` is timed, behind ``before``, which is not."""

    call: Callable[[], object]
    before: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Series:
    """``ways`` makes the calls to time, by name, for one amount of work; they live while it is measured.

    ``start`` is where the work outgrows what a call takes anyway: the exponent is fitted from there on.
    """

    name: str
    amounts: Sequence[int]
    ways: Callable[[int], Any]  # a context manager of a Mapping[str, Way]
    start: int
    limit: float


def all_series(device: torch.device, *, quick: bool) -> list[Series]:
    """Small ones of few points where ``quick``."""
    few = 3 if quick else None
    sizes = [size for size in BYTES if size * COPIES_AT_ONCE <= available_memory()]
    return [
        # Not 1: a leaf costs as many instructions in a large tree (make counts), and more of them wait for memory.
        Series("leaves", LEAVES[:few], on(leaves, device), 1 if quick else 100, 1.25),
        Series("bytes", sizes[:few], on(one_tensor, device), 1 if quick else 16 * MIB, 1.05),
        Series("threads", THREADS[:few], on(threads, device), 1, 0.25),
        Series("devices", DEVICES[:few], on(devices, device), 1, 1.1),
    ]


def on(ways: Callable[[torch.device, int], Iterator[Mapping[str, Way]]], device: torch.device) -> Callable[[int], Any]:
    """The ways of one series on a device, as context managers."""
    opened = contextmanager(ways)
    return lambda amount: opened(device, amount)


def available_memory() -> int:
    """Bytes that the system can give without pushing anything out."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("expected a line MemAvailable in /proc/meminfo, found none")


def leaves(device: torch.device, count: int) -> Iterator[Mapping[str, Way]]:
    """A dict of so many, on the CPU and on the device."""
    flat, on_cpu = torch.zeros(count, 64, device=device), torch.zeros(count, 64)
    trees = {
        kind: {f"tensor {index}": row for index, row in enumerate(rows.unbind())}
        for kind, rows in (("device", flat), ("cpu", on_cpu))
    }

    packed, one_by_one = partial(harness.set_packer, True), partial(harness.set_packer, False)
    yield {
        "packed": Way(lambda: tnb.to_numpy(trees["device"]), packed),
        "one by one": Way(lambda: tnb.to_numpy(trees["device"]), one_by_one),
        VIEW: Way(lambda: tnb.to_numpy(trees["cpu"])),
    }
    harness.set_packer(False)


def one_tensor(device: torch.device, size: int) -> Iterator[Mapping[str, Way]]:
    """One of so many bytes: in memory of the pool, beyond its limit, by torch, and on the CPU."""
    tensor, on_cpu = torch.zeros(size, dtype=torch.uint8, device=device), torch.zeros(min(size, MIB), dtype=torch.uint8)
    with tnb.Bridge(pinned_limit=size + size // 8 + 64 * MIB) as pooled, tnb.Bridge(pinned_limit=32 * MIB) as staged:
        ways = {
            "to_numpy": Way(lambda: pooled.to_numpy(tensor)),
            TORCHS: Way(lambda: tensor.cpu().numpy()),
            VIEW: Way(lambda: pooled.to_numpy(on_cpu)),
        }
        if size > 32 * MIB:
            ways["to_numpy, beyond the limit"] = Way(lambda: staged.to_numpy(tensor))
        yield ways
    tnb.trim()


def threads(device: torch.device, count: int) -> Iterator[Mapping[str, Way]]:
    """So many threads at once; a run is one call of each."""
    one = [torch.zeros(16, device=device) for _ in range(count)]
    trees = [[torch.zeros(16, device=device) for _ in range(100)] for _ in range(count)]
    with crew(count) as together:
        yield {
            "one tensor": Way(lambda: together(lambda index: tnb.to_numpy(one[index]))),
            "100 leaves": Way(lambda: together(lambda index: tnb.to_numpy(trees[index]))),
        }


@contextmanager
def crew(count: int) -> Iterator[Callable[[Callable[[int], object]], None]]:
    """So many threads that stay: each does the same job with its number, ``CALLS`` times, when all are told to."""
    begin, end = threading.Barrier(count + 1), threading.Barrier(count + 1)
    jobs: list[Callable[[int], object] | None] = [None]

    def work(index: int) -> None:
        while True:
            begin.wait()
            job = jobs[0]
            if job is None:
                return
            for _ in range(CALLS):
                job(index)
            end.wait()

    members = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
    for member in members:
        member.start()

    def together(job: Callable[[int], object]) -> None:
        jobs[0] = job
        begin.wait()
        end.wait()

    yield together
    jobs[0] = None
    begin.wait()
    for member in members:
        member.join()


def devices(device: torch.device, count: int) -> Iterator[Mapping[str, Way]]:
    """One tree with leaves on so many devices."""
    tree = [[torch.zeros(16, device=torch.device(device.type, index)) for _ in range(100)] for index in range(count)]
    yield {"one tree": Way(lambda: tnb.to_numpy(tree))}


def timed(way: Way, divisor: float) -> Callable[[], float]:
    """Seconds a call: as many of them as make a run long enough to be measured."""
    way.before()
    way.call()  # what is made on first need
    start = perf_counter()
    way.call()
    calls = max(1, min(1000, int(LEAST / (perf_counter() - start))))

    def run() -> float:
        way.before()
        begin = perf_counter()
        for _ in range(calls):
            way.call()
        return (perf_counter() - begin) / calls / divisor

    return run
