"""What ``bench`` measures: each case does one thing by the bridge and by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..functions import to_numpy
from . import baselines
from .target import Target

BRIDGE = "to_numpy"
CPU_NUMPY = ".detach().cpu().numpy()"
NUMPY = ".numpy()"
SIDE_STREAM = "non_blocking, side stream"


@dataclass(frozen=True)
class Case:
    """One thing, the ways of doing it, the bridge's first, and how often each is timed."""

    name: str
    ways: dict[str, Callable[[], Any]]
    runs: int
    calls: int


def cpu_view(target: Target, quick: bool) -> list[Case]:
    """The cost of a call where there is nothing to copy: 8 elements on the CPU."""
    tensor = torch.arange(8.0)
    ways = {
        BRIDGE: lambda: to_numpy(tensor),
        CPU_NUMPY: lambda: tensor.detach().cpu().numpy(),
        NUMPY: lambda: tensor.numpy(),
    }
    return [Case("cpu_view, 8 elements", ways, 3 if quick else 30, 50 if quick else 5000)]


def one_tensor(target: Target, quick: bool) -> list[Case]:
    """One contiguous tensor, from the call to the array in hand."""
    sizes = {"4 KiB": (2**12, 300), "1 MiB": (2**20, 200), "64 MiB": (2**26, 30)}
    cases = []
    for label, (size, runs) in sizes.items():
        if quick and size > 2**20:
            continue
        tensor = torch.arange(size // 4, dtype=torch.int32).to(target.device)
        cases.append(Case(f"one_tensor, {label}", _ways_for_one(tensor, target), 3 if quick else runs, 1))
    return cases


def thousand_tensors(target: Target, quick: bool) -> list[Case]:
    """A dict of 1000 tensors of 64 by 64 float32, from the call to the arrays in hand."""
    count = 20 if quick else 1000
    values = torch.arange(count * 64 * 64, dtype=torch.float32).view(count, 64, 64)
    tree = {str(index): value.to(target.device, copy=True) for index, value in enumerate(values)}
    ways = {
        BRIDGE: lambda: to_numpy(tree),
        CPU_NUMPY: lambda: baselines.in_tree(baselines.cpu_numpy, tree),
        **_by_hand(target, lambda way: baselines.in_tree(way, tree)),
    }
    return [Case(f"thousand_tensors, {count} of 64×64", ways, 3 if quick else 50, 1)]


ALL: dict[str, Callable[[Target, bool], list[Case]]] = {
    "cpu_view": cpu_view,
    "one_tensor": one_tensor,
    "thousand_tensors": thousand_tensors,
}


def _ways_for_one(tensor: torch.Tensor, target: Target) -> dict[str, Callable[[], Any]]:
    return {
        BRIDGE: lambda: to_numpy(tensor),
        CPU_NUMPY: lambda: tensor.detach().cpu().numpy(),
        **_by_hand(target, lambda way: way([tensor])[0]),
    }


def _by_hand(target: Target, apply: Callable[[Any], Any]) -> dict[str, Callable[[], Any]]:
    """The strongest way to write it by hand: on the CPU there is nothing to copy."""
    if target.is_cpu:
        return {NUMPY: lambda: apply(lambda tensors: [tensor.numpy() for tensor in tensors])}
    side_stream = baselines.SideStream(target.device)
    return {SIDE_STREAM: lambda: apply(side_stream)}
