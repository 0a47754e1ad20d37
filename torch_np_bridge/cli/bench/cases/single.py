"""What the cases of one contiguous tensor share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ....engine import extension
from ....functions import stats, to_numpy
from .. import others
from ..baselines import BARE_CPP, BRIDGE, alone, by_hand
from ..results import MIB, Figure
from ..setting import Setting
from ..timing import Plan, Run, Seconds, beside_all, calls_a_run, equals, runs_of, summarize, timed, turns

ONE_LEAF = "tensor"


def make_tensor(size: int, device: torch.device) -> torch.Tensor:
    """A contiguous tensor of so many bytes."""
    return torch.arange(size // 4, dtype=torch.int32).to(device)


def label(size: int) -> str:
    """A number of bytes as people write it."""
    for unit, factor in (("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} B"


def time_one(tensor: torch.Tensor, plan: Plan) -> Seconds:
    """The times of all ways to an array of a tensor, the bridge's first; copies in C++ where they can be timed."""
    expected = tensor.cpu().numpy()
    ways: dict[str, Callable[[], Any]] = {
        BRIDGE: lambda: to_numpy(tensor),
        **{name: alone(way) for name, way in by_hand([tensor]).items()},
    }
    ways |= {name: _leaf(way) for name, way in others.ways({ONE_LEAF: tensor}).items()}
    calls = calls_a_run(ways)
    runs = {name: timed(way, equals(expected, name), calls) for name, way in ways.items()}
    return turns(runs | bare_cpp(tensor), plan)


def _leaf(way: Callable[[], dict[str, Any]]) -> Callable[[], Any]:
    return lambda: way()[ONE_LEAF]


def bare_cpp(tensor: torch.Tensor) -> dict[str, Run]:
    """One plain copy and its event, timed in C++; nothing on devices that the CUDA kernels do not run on."""
    module: Any = extension().module
    expected = tensor.cpu().view(-1).view(torch.uint8).numpy()

    def run() -> float:
        seconds, arrived = module.time_copies([tensor], "each", 8, 64)  # the shape of a grid that none has
        equals(expected, BARE_CPP)(arrived[: tensor.nbytes].numpy())
        return float(seconds)

    try:
        run()
    except (RuntimeError, AttributeError):  # no such device; no extension
        return {}
    return {BARE_CPP: run}


def measure_one(setting: Setting, size: int, seconds_a_case: float) -> tuple[str, Seconds, list[Figure], list[str]]:
    """The case's name, all times, the figures and the notes for a tensor of so many bytes."""
    case = f"{label(size)}, contiguous"
    setting.say(case)
    before = stats().unpooled_leaves
    seconds = time_one(make_tensor(size, setting.device), setting.plan(seconds=seconds_a_case))
    figures = beside_all(case, seconds, "time", "µs" if size < 16 * MIB else "ms")
    if size >= MIB:
        rates = {name: size / summarize(runs).median / 1e9 for name, runs in seconds.items()}
        figures += [Figure(case, f"rate, {name}", rate, "GB/s") for name, rate in rates.items()]
    notes = [f"{case}: {runs_of(seconds)} runs of each way in turns."]
    if unpooled := stats().unpooled_leaves - before:
        limit = label(stats().limit_bytes)
        notes.append(f"{case}: {unpooled} arrays came in ordinary memory, since {limit} may be page-locked.")
    return case, seconds, figures, notes
