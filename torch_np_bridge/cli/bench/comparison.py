"""Two reports beside each other: what became worse by more than its spread.

What is compared are ratios to other ways, which were measured in turns: the load of the machine is in both of their
sides. Times alone would call every busy hour a regression.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..target import UsageError
from .results import NOISE, Bar, Figure, Report, Unit

# What makes two machines different, as far as figures depend on it.
MACHINE = ("cpu", "cpus", "system", "device", "device_name", "simulated", "driver", "engine", "kernels")


@dataclass(frozen=True)
class Row:
    """One number in both reports. ``change`` says how much worse it became: above one is worse."""

    entry: str
    case: str
    name: str
    unit: Unit
    before: float
    after: float
    change: float
    spread: float

    @property
    def regression(self) -> bool:
        """Worse beyond the spread."""
        return self.change > 1 + self.spread

    @property
    def better(self) -> bool:
        """Better beyond the spread."""
        return self.change < 1 - self.spread


@dataclass(frozen=True)
class Comparison:
    """All numbers that are in both reports, and sentences about what is not alike."""

    rows: Sequence[Row]
    remarks: Sequence[str]

    @property
    def regressions(self) -> list[Row]:
        """What became worse."""
        return [row for row in self.rows if row.regression]


def compare(before: Report, after: Report) -> Comparison:
    """Ratios to other ways, and the bars that were met."""
    if before.quick or after.quick:
        raise UsageError(
            "compare: expected reports that say something, got tiny figures of --quick; measure without it"
        )
    first, second = _numbers(before), _numbers(after)
    rows = [_row(key, first[key], second[key]) for key in first if key in second]
    if not rows:
        raise UsageError("compare: expected reports with a case in common, got none")
    remarks = [*_machines(before, after)]
    for missing, where in (([key for key in first if key not in second], "the second"),
                           ([key for key in second if key not in first], "the first")):  # fmt: skip
        remarks += [f"Not in {where} file: {entry}, {case}: {name}" for entry, case, name in missing]
    remarks += [f"Failed in the second file: {name}: {reason}" for name, reason in after.failed.items()]
    return Comparison(rows, remarks)


_Key = tuple[str, str, str]  # measurement, case, figure


def _numbers(report: Report) -> dict[_Key, Figure | Bar]:
    """What is judged: figures that are ratios to another way, and bars that no such figure stands for."""
    found: dict[_Key, Figure | Bar] = {}
    for entry in report.entries:
        ratios = [figure for figure in entry.measured.figures if figure.beside is not None]
        found |= {(entry.name, figure.case, figure.name): figure for figure in ratios}
        values = {figure.value for figure in ratios}
        found |= {(entry.name, bar.name, "bar"): bar for bar in entry.measured.bars if bar.value not in values}
    return found


def _row(key: _Key, before: Figure | Bar, after: Figure | Bar) -> Row:
    return Row(*key, before.unit, before.value, after.value, _change(before, after), _spread(before, after))


def _change(before: Figure | Bar, after: Figure | Bar) -> float:
    """How many times worse. What was nothing and is something is worse without measure."""
    less, more = before.value, after.value
    if isinstance(before, Bar) and before.rule == "at least":
        less, more = more, less
    if less == more:
        return 1.0
    return more / less if less > 0 else math.inf


def _spread(before: Figure | Bar, after: Figure | Bar) -> float:
    """Of the change: half of both interquartile ranges together, and never less than noise."""
    parts = [(side.spread or 0.0) / 2 / side.value if side.value else 0.0 for side in (before, after)]
    return max(NOISE, math.hypot(*parts))


def _machines(before: Report, after: Report) -> Iterator[str]:
    for key in MACHINE:
        first, second = before.machine.get(key), after.machine.get(key)
        if first != second:
            yield f"Different machines: {key}: {first}, then {second}"
    for name in sorted({*before.machine["versions"], *after.machine["versions"]}):
        first, second = (report.machine["versions"].get(name) for report in (before, after))
        if first != second and name != "torch_np_bridge":
            yield f"Different versions: {name}: {first}, then {second}"
