"""Classify real images with features that came through the bridge, beside plain .cpu().numpy()."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, get_args

import numpy as np

from ..bridge import Bridge
from ..config import EngineChoice
from ..engine import EngineInfo
from .digits import Digits, by_bridge, by_cpu_numpy
from .target import Target, UsageError, add_device_argument, add_load_argument, choose

Array = np.ndarray[Any, Any]
ROUNDS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo``."""
    add_device_argument(parser)
    add_load_argument(parser)
    parser.add_argument("--engine", choices=get_args(EngineChoice), default="auto", help="the engine (default: auto)")


@dataclass(frozen=True)
class Way:
    """What one way of bringing the features to the host gave."""

    name: str
    seconds: list[float]
    accuracy: float | None  # None where none was trained: arrays that differ may hold anything

    @property
    def median(self) -> float:
        """Of the time for all images."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Outcome:
    """Both ways, and whether they gave the same arrays in every round."""

    bridge: Way
    plain: Way
    equal_arrays: bool
    shape: tuple[int, ...]

    @property
    def passed(self) -> bool:
        """Whether the bridge changed nothing."""
        return self.equal_arrays and self.bridge.accuracy == self.plain.accuracy


def run(options: argparse.Namespace) -> int:
    """Run the job both ways and show a table; 1 if arrays or accuracy differ, else 0."""
    missing = [name for name in ("sklearn", "rich") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"expected scikit-learn and rich, got no {' and no '.join(missing)}; run: pip install scikit-learn rich"
        )
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    target = choose(options)
    prepare = getattr(target.module, "prepare_demo", None) if not target.is_cpu else None
    with Bridge(engine=options.engine) as bridge:
        info = bridge.engine_info()
        console.print(f"Device: {target.device}{' (simulated)' if target.simulated else ''}", markup=False)
        fallback = ", the fallback" if info.engine == "python" else ""
        console.print(f"Engine: {info.engine}{fallback}: {info.reason}", markup=False)
        outcome = _compare(Digits(target.device, prepare() if prepare else None), bridge, console)
    _show(outcome, console)
    if not outcome.passed:
        console.print("FAILED: expected what .cpu().numpy() gives, got something else", markup=False)
        return 1
    console.print(_verdict(outcome, target, info), markup=False)
    return 0


def _compare(digits: Digits, bridge: Bridge, console: Any) -> Outcome:
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = Progress.get_default_columns()[:2]
    with Progress(TextColumn("  "), *columns, MofNCompleteColumn(), TimeElapsedColumn(), console=console) as progress:
        job = progress.add_task("features, both ways", total=2 * (ROUNDS + 1) * len(digits.batches))

        def advance() -> None:
            progress.advance(job)

        def plain() -> list[Array]:
            return by_cpu_numpy(digits, advance)

        def bridged() -> list[Array]:
            return by_bridge(digits, bridge, advance)

        # The first round warms up; what it gives is compared like all others.
        references, results = plain(), bridged()
        equal = _equal(references, results)
        seconds: dict[Callable[[], list[Array]], list[float]] = {plain: [], bridged: []}
        for turn in range(ROUNDS):
            for way in (plain, bridged) if turn % 2 else (bridged, plain):
                start = time.perf_counter()
                arrays = way()
                seconds[way].append(time.perf_counter() - start)
                equal = equal and _equal(references, arrays)
        accuracies: list[float | None] = [None, None]
        if equal:
            training = progress.add_task("training classifiers", total=2)
            for place, arrays in enumerate((results, references)):
                accuracies[place] = digits.accuracy(arrays)
                progress.advance(training)
    return Outcome(
        Way("to_numpy_async", seconds[bridged], accuracies[0]),
        Way(".cpu().numpy()", seconds[plain], accuracies[1]),
        equal,
        (sum(len(array) for array in references), *references[0].shape[1:]),
    )


def _equal(expected: Sequence[Array], got: Sequence[Array]) -> bool:
    return len(expected) == len(got) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.strides == b.strides and a.tobytes() == b.tobytes()
        for a, b in zip(expected, got, strict=True)
    )


def _show(outcome: Outcome, console: Any) -> None:
    from rich.table import Table

    table = Table(title=f"Features of {outcome.shape[0]} images, {outcome.shape[1]} each")
    for heading in ("way", "arrays", "accuracy", f"median of {ROUNDS}", "spread"):
        table.add_column(heading)
    equal = "equal bits" if outcome.equal_arrays else "DIFFERENT"
    for way, arrays in ((outcome.bridge, equal), (outcome.plain, "the reference")):
        spread = f"{min(way.seconds) * 1e3:.1f} – {max(way.seconds) * 1e3:.1f} ms"
        accuracy = "not trained" if way.accuracy is None else f"{way.accuracy:.4f}"
        table.add_row(way.name, arrays, accuracy, f"{way.median * 1e3:.1f} ms", spread)
    console.print(table)


def _verdict(outcome: Outcome, target: Target, info: EngineInfo) -> str:
    """What the times say, and what they do not."""
    bridge, plain = outcome.bridge.median * 1e3, outcome.plain.median * 1e3
    if target.is_cpu:
        return (
            "No accelerator was used: the features lie in host memory already and both ways share it, so there is "
            "nothing to copy or to overlap, and the times claim no speed."
        )
    if info.engine == "python":
        return "The fallback copies like .cpu().numpy(), synchronously: it overlaps nothing and claims no speed."
    if target.simulated:
        return (
            f"{target.device} is simulated: its computing and copying take the time that they were told to take. By "
            f".cpu().numpy() they take turns, {plain:.1f} ms; by the bridge they overlap, {bridge:.1f} ms. "
            "This shows the overlap and says nothing about the speed of any hardware."
        )
    ratio = statistics.median(b / p for b, p in zip(outcome.bridge.seconds, outcome.plain.seconds, strict=True))
    return f"On {target.device} the bridge took {ratio:.2f} × the time of .cpu().numpy(), median of {ROUNDS} rounds."
