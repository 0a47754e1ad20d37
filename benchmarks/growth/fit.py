"""The exponent of a growth: 1 where twice the work takes twice as long, 0 where it takes no longer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from torch_np_bridge.cli.bench.results import Figure


def exponent(work: Sequence[float], taken: Sequence[float], *, start: float = 0.0) -> float:
    """The slope of a line through the logarithms, of the points from ``start`` on."""
    points = [(x, y) for x, y in zip(work, taken, strict=True) if x >= start]
    if len(points) < 2:
        raise ValueError(f"expected at least two points from {start:g} on, got {len(points)}")
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def axes(figures: Sequence[Figure], case: str) -> tuple[list[float], list[float]]:
    """The amounts and the values of a case."""
    chosen = [figure for figure in figures if figure.case == case]
    return [float(figure.name) for figure in chosen], [figure.value for figure in chosen]
