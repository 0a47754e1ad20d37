"""Transposed, sliced and strided sources, beside a contiguous one of as many bytes and beside `.cpu()`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ....functions import to_numpy
from ..baselines import BRIDGE, ONE_LINER, SideStream, cpu_numpy
from ..results import Bar, Figure, Measured
from ..setting import Setting
from ..timing import compared, ratio, runs_of, times
from .single import label

RATE = 0.9  # of the contiguous one's
CONTIGUOUS, CPU = f"{BRIDGE}, contiguous", ".cpu().numpy()"
LAYOUTS: dict[str, Callable[[int, torch.device], torch.Tensor]] = {
    "transposed": lambda side, device: _values(side, side, device).t(),
    "half of each row": lambda side, device: _values(side, 2 * side, device)[:, :side],
    "every other element": lambda side, device: _values(side, 2 * side, device)[:, ::2],
}


def measure(setting: Setting) -> Measured:
    """Each layout."""
    side = 128 if setting.quick else 8192 if setting.hardware else 2048
    figures: list[Figure] = []
    bars: list[Bar] = []
    notes = []
    for layout, make in LAYOUTS.items():
        case = f"{label(4 * side * side)}, {layout}"
        setting.say(case)
        found, bar, turns = _compare(setting, case, make(side, setting.device))
        figures += found
        notes.append(f"{case}: {turns} runs of each way in turns.")
        if setting.hardware:
            bars.append(bar)
    if not setting.hardware:
        notes.append(f"The bar of N11, {RATE:.0%} of the contiguous rate, is of hardware.")
    return Measured(figures, bars, notes)


def _compare(setting: Setting, case: str, source: torch.Tensor) -> tuple[list[Figure], Bar, int]:
    expected = source.cpu().contiguous().numpy()
    contiguous = source.contiguous()
    side_stream = SideStream(setting.device)
    ways = {
        BRIDGE: lambda: to_numpy(source),
        CPU: lambda: cpu_numpy([source])[0],
        ONE_LINER: lambda: side_stream([source])[0],
        CONTIGUOUS: lambda: to_numpy(contiguous),
    }
    seconds = compared(ways, expected, setting.plan())
    share = ratio(case, seconds, BRIDGE, CONTIGUOUS, "time", a_way=False)
    figures = [
        *(ratio(case, seconds, BRIDGE, other, "time") for other in (CPU, ONE_LINER)),
        share,
        *times(case, seconds, "time", "ms"),
    ]
    return figures, Bar.of(f"N11, {case}, beside contiguous", share, "at most", 1 / RATE), runs_of(seconds)


def _values(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    return torch.arange(rows * columns, dtype=torch.float32).view(rows, columns).to(device)
