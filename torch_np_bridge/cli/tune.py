"""``bench --tune``: what the sizes in ``csrc/cuda/tuning.h`` and ``csrc/pack_plan.h`` should be on this GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch

from ..engine import extension
from . import machine
from .bench.timing import DifferentResultsError
from .target import Target, UsageError

Way = Literal["each", "mapped", "staged"]
WARP = 32
THREADS = (64, 128, 256)
BLOCKS = (4, 8, 16, 24, 32, 64, 128)
MAX_WARPS = 256  # of csrc/cuda/tuning.h, as the largest block is; more of either takes another build
# Leaves and their floats: those that the kernel is for, 1000 of 16 KiB and 528 of some 300 bytes.
TREES = {"1000 × 16 KiB": (1000, 4096), "528 × 284 B": (528, 71)}
SIZES = tuple(1 << power for power in range(8, 21))  # bytes of a leaf, to find the threshold among
LEAVES = 64


@dataclass(frozen=True)
class Shape:
    """Of a grid."""

    blocks: int
    threads: int

    def __str__(self) -> str:
        return f"{self.blocks} × {self.threads}"


SHAPES = [Shape(blocks, threads) for threads in THREADS for blocks in BLOCKS if blocks * threads <= MAX_WARPS * WARP]


@dataclass(frozen=True)
class Row:
    """One way to copy one tree, and the median of its times in seconds."""

    tree: str
    way: Way
    shape: Shape
    seconds: float


def run(target: Target, *, quick: bool) -> int:
    """Measure, and print the tables and what follows from them."""
    rows = list(measure_shapes(target, quick=quick))
    shape = best_shape(rows)
    sizes = list(measure_sizes(target, shape, quick=quick))
    print(render(target, rows, shape, sizes, quick=quick))
    return 0


def measure_shapes(target: Target, *, quick: bool) -> Iterator[Row]:
    """Each tree by each way, in each shape of the grid."""
    for name, (count, floats) in TREES.items():
        tensors = _tensors(target, 8 if quick else count, floats)
        for shape in SHAPES[::6] if quick else SHAPES:
            for way in ("mapped", "staged"):
                yield Row(name, way, shape, _seconds(target, tensors, way, shape, quick=quick))
        yield Row(name, "each", SHAPES[0], _seconds(target, tensors, "each", SHAPES[0], quick=quick))


def measure_sizes(target: Target, shape: Shape, *, quick: bool) -> Iterator[Row]:
    """Leaves of each size by each way, in the best shape."""
    for size in SIZES[::6] if quick else SIZES:
        tensors = _tensors(target, 2 if quick else LEAVES, size // 4)
        for way in ("mapped", "staged", "each"):
            yield Row(f"{size} B", way, shape, _seconds(target, tensors, way, shape, quick=quick))


def best_shape(rows: list[Row]) -> Shape:
    """The one that costs least over all trees, each measured by its best."""
    mapped = [row for row in rows if row.way == "mapped"]
    least = {row.tree: min(other.seconds for other in mapped if other.tree == row.tree) for row in mapped}
    cost = {row.shape: sum(o.seconds / least[o.tree] for o in mapped if o.shape == row.shape) for row in mapped}
    return min(cost, key=lambda shape: cost[shape])


def threshold(sizes: list[Row]) -> int:
    """The largest leaf in bytes up to which the kernel is the faster way at every size; 0 where it never is."""
    largest = 0
    times = {(row.tree, row.way): row.seconds for row in sizes}
    for tree in dict.fromkeys(row.tree for row in sizes):
        if times[tree, "mapped"] > times[tree, "each"]:
            break
        largest = int(tree.split()[0])
    return largest


def staged_from(sizes: list[Row]) -> int | None:
    """The bytes of leaves from which packing on the device is the faster way, up to the largest measured."""
    least = None
    times = {(row.tree, row.way): row.seconds for row in sizes}
    for tree in reversed(dict.fromkeys(row.tree for row in sizes)):
        if times[tree, "staged"] > times[tree, "mapped"]:
            break
        least = int(tree.split()[0]) * LEAVES
    return least


def render(target: Target, rows: list[Row], shape: Shape, sizes: list[Row], *, quick: bool) -> str:
    """The tables as plain text, and the entries of the sources that follow from them."""
    lines = [f"Device: {target.device} ({machine.device_name(target.device) or 'no name'})", ""]
    for title, part in (("Trees, by the shape of the grid", rows), (f"{LEAVES} leaves of a size, in {shape}", sizes)):
        lines += [
            title,
            *(f"  {row.tree:<14} {row.way:<7} {row.shape!s:<9} {row.seconds * 1e6:10.1f} µs" for row in part),
        ]
        lines.append("")
    lines += [
        "csrc/cuda/tuning.h:",
        f"  inline constexpr unsigned MAX_BLOCKS = {shape.blocks};",
        f"  inline constexpr unsigned THREADS = {shape.threads};",
        _entry_of_staging(staged_from(sizes)),
        "csrc/pack_plan.h:",
        f"  largest_shared_leaf = {threshold(sizes)};  // the kernel is the faster way up to there",
    ]
    if quick:
        lines.append("These are the tiny cases of --quick: their times say nothing.")
    if target.simulated:
        lines.append("The device is simulated: its times say nothing about any hardware.")
    return "\n".join(lines)


def _entry_of_staging(least: int | None) -> str:
    if least is None:
        return "  STAGED_FROM: beyond what was measured; stores across the bus were the faster way"
    return f"  inline constexpr unsigned STAGED_FROM = {least};  // or less, for the sake of what computes beside it"


def _tensors(target: Target, count: int, floats: int) -> list[torch.Tensor]:
    values = torch.arange(count * floats, dtype=torch.int32).view(count, floats)
    return [value.to(target.device, copy=True) for value in values]


def _seconds(target: Target, tensors: list[torch.Tensor], way: Way, shape: Shape, *, quick: bool) -> float:
    """The median of many turns; what arrives first is looked at."""
    module: Any = extension().module
    if module is None:
        raise UsageError(f"--tune: expected the native engine, got none: {extension().problem}")
    torch.accelerator.synchronize()
    seconds: list[float] = []
    for turn in range(3 if quick else 50):
        try:
            took, arrived = module.time_copies(tensors, way, shape.blocks, shape.threads)
        except RuntimeError as error:
            raise UsageError(f"--tune: {error}") from error
        if turn == 0:
            _check(tensors, arrived, way)
        seconds.append(took)
    return median(seconds)


def _check(tensors: list[torch.Tensor], arrived: torch.Tensor, way: Way) -> None:
    line = -(-tensors[0].nbytes // 128) * 128
    rows = arrived.view(len(tensors), line)[:, : tensors[0].nbytes]
    expected = torch.stack([tensor.cpu() for tensor in tensors]).view(torch.uint8)
    if not torch.equal(rows, expected):
        raise DifferentResultsError(f"expected the bytes of the tensors, got others by the way {way!r}")
