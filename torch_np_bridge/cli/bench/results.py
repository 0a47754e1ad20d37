"""What was measured, as plain values: figures, bars, and the file that keeps them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from .. import machine
from ..target import Target, UsageError

FORMAT = 2
NOISE = 0.02  # a ratio of medians that is this far above one is a loss, below it noise
MIB = 1 << 20
Unit = Literal["×", "µs", "ms", "%", "bytes", "GB/s", "exponent", ""]
Rule = Literal["at most", "at least"]


@dataclass(frozen=True)
class Figure:
    """One number, and what it is of.

    ``spread`` is an interquartile range in the same unit, ``p99`` the 99th percentile of the runs. Where the number is
    the bridge's time divided by another way's, ``beside`` names that way: below one the bridge is the faster.
    """

    case: str
    name: str
    value: float
    unit: Unit
    spread: float | None = None
    p99: float | None = None
    beside: str | None = None

    @property
    def loss(self) -> bool:
        """Whether the bridge is the slower one here."""
        return self.beside is not None and self.value > 1 + NOISE


@dataclass(frozen=True)
class Bar:
    """A number that has to reach something."""

    name: str
    value: float
    rule: Rule
    limit: float
    unit: Unit
    spread: float | None = None

    @classmethod
    def of(cls, name: str, figure: Figure, rule: Rule, limit: float) -> Self:
        """The bar that a figure has to reach."""
        return cls(name, figure.value, rule, limit, figure.unit, figure.spread)

    @property
    def met(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit if self.rule == "at most" else self.value >= self.limit

    def wording(self) -> str:
        """What is asked for, and what was got."""
        return f"expected {self.rule} {text_of(self.limit, self.unit)}, got {text_of(self.value, self.unit)}"


@dataclass(frozen=True)
class Measured:
    """What one measurement found. ``notes`` are sentences without which the figures would mislead."""

    figures: Sequence[Figure]
    bars: Sequence[Bar] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Entry:
    """A measurement in a report: its name and title, and whether the figures are of the CPU alone."""

    name: str
    title: str
    on: Literal["cpu", "accelerator"]
    measured: Measured


@dataclass(frozen=True)
class Report:
    """All that one run measured.

    ``skipped`` has the measurements that cannot be made here, ``failed`` those that ended by an error, ``not_compared``
    the libraries that are left out; each with the reason.
    """

    machine: Mapping[str, Any]
    quick: bool
    entries: Sequence[Entry]
    skipped: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    not_compared: Mapping[str, str] = field(default_factory=dict)

    def kind(self, entry: Entry) -> Literal["cpu", "simulated", "accelerator"]:
        """What an entry's figures are of. Those of a simulated accelerator are no hardware's."""
        if entry.on == "cpu":
            return "cpu"
        return "simulated" if self.machine["simulated"] else "accelerator"

    def losses(self) -> list[str]:
        """Where the bridge is slower than another way."""
        return [
            f"{entry.name}, {figure.case}: {figure.value:.2f} × {figure.beside}"
            for entry in self.entries
            for figure in entry.measured.figures
            if figure.loss
        ]

    def write(self, file: Path) -> None:
        """Keep it."""
        entries = [
            {
                "name": entry.name,
                "title": entry.title,
                "on": entry.on,
                "figures": [asdict(figure) for figure in entry.measured.figures],
                "bars": [{**asdict(bar), "met": bar.met} for bar in entry.measured.bars],
                "notes": list(entry.measured.notes),
            }
            for entry in self.entries
        ]
        whole = {
            "format": FORMAT,
            "quick": self.quick,
            "machine": dict(self.machine),
            "entries": entries,
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "not_compared": dict(self.not_compared),
        }
        file.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Self:
        """The report that a file keeps."""
        try:
            whole = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"expected a file that `bench --json` wrote, got {file}: {error}") from error
        got = whole.get("format") if isinstance(whole, dict) else None
        if got != FORMAT:
            raise UsageError(f"expected a report of format {FORMAT}, got {file} with format {got}; measure again")
        try:
            return cls._of(whole)
        except (KeyError, TypeError) as error:
            raise UsageError(f"expected all of what `bench --json` writes, got {file} with less: {error!r}") from error

    @classmethod
    def _of(cls, whole: Mapping[str, Any]) -> Self:
        entries = [
            Entry(
                entry["name"],
                entry["title"],
                entry["on"],
                Measured(
                    [Figure(**figure) for figure in entry["figures"]],
                    [Bar(**{key: bar[key] for key in bar if key != "met"}) for bar in entry["bars"]],
                    entry["notes"],
                ),
            )
            for entry in whole["entries"]
        ]
        reasons = (whole[kind] for kind in ("skipped", "failed", "not_compared"))
        return cls(whole["machine"], whole["quick"], entries, *reasons)


def can_be_written(file: Path) -> bool:
    """Whether a file can be made or written anew: asked before what it is to keep is measured, for minutes."""
    if file.exists():
        return not file.is_dir() and os.access(file, os.W_OK)
    return file.parent.is_dir() and os.access(file.parent, os.W_OK)


def describe(target: Target) -> dict[str, Any]:
    """What belongs beside every figure; :func:`end` completes it."""
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), **machine.describe(target)}


def end(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The same when all has been measured."""
    after = list(os.getloadavg()) if hasattr(os, "getloadavg") else None
    return {**facts, "load_average_after": after, "real_time_priority": machine.real_time_priority()}


def text_of(value: float, unit: Unit) -> str:
    """A figure as people write it."""
    if unit == "bytes":
        return f"{value / MIB:,.2f} MiB" if value >= MIB else f"{value:,.0f} bytes"
    if unit in ("%", "ms", "GB/s"):
        return f"{value:,.1f} {unit}"
    if unit == "×":
        return f"{value:,.3f} ×"
    if unit == "µs":
        return f"{value:,.2f} µs"
    if unit == "exponent":
        return f"{value:.2f}"
    return f"{value:,.0f}"


def about(report: Report) -> list[str]:
    """What the figures are of, as sentences."""
    facts = report.machine
    before, after = (" ".join(f"{value:.1f}" for value in facts[key] or ()) for key in _LOADS)
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines = [
        f"Machine: {facts['cpu']}, {facts['cpus']} threads, {facts['system']}; load average "
        f"{before or 'unknown'} before, {after or 'unknown'} after",
        f"Engine: {facts['engine']}; {versions}, commit {facts['commit'] or 'unknown'}; {facts['date']}",
    ]
    if any(report.kind(entry) == "accelerator" for entry in report.entries):
        driver = facts["driver"] or "unknown"
        lines.append(f"Device: {facts['device']}, {facts['device_name'] or 'no name'}, NVIDIA driver {driver}")
    if facts["real_time_priority"]:
        lines.append("It ran at real-time priority, before what else ran on the machine.")
    if any(report.kind(entry) == "simulated" for entry in report.entries):
        lines.append("The accelerator is simulated: these are costs on the host; nothing here is a figure of a GPU.")
    if report.quick:
        lines.append("These are the tiny figures of --quick: they say nothing.")
    return lines


_LOADS = ("load_average", "load_average_after")
