"""From what callgrind counted to the counts of one call, and what some of them have to reach."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median

from torch_np_bridge.cli.bench.results import Bar

from . import workload
from .baseline import ALLOCATIONS, INSTRUCTIONS, OWN, Counts
from .callgrind import Dump

RANGE, PROFILE, HEAP = "record_function", "profile", "heap"
INSIDE = {
    RANGE: re.compile(r"at::(RecordFunction|getStepCallbacks)"),
    PROFILE: re.compile(r"tnb::Profil"),
    HEAP: re.compile(r"(malloc|calloc|realloc|free|aligned_alloc|posix_memalign)$"),
}
MANY, FEW = 10_000, 100
Figures = dict[str, dict[str, float]]


def of_one_call(dumps: Sequence[Dump], extension: str) -> Figures:
    """Of each case, all figures of one call, without what the counting takes.

    Args:
        dumps: of the workload; its label says the case, and how many calls were made.
        extension: the file name of the extension.
    """
    cases: dict[str, dict[str, list[Dump]]] = {}
    for dump in dumps:
        case, _, calls = dump.label.partition("|")
        cases.setdefault(case, {}).setdefault(calls, []).append(dump)
    found = {case: _figures(by_calls, extension) for case, by_calls in cases.items()}
    nothing = found.pop(workload.NOTHING)
    return {case: {name: figures[name] - nothing[name] for name in figures} for case, figures in found.items()}


def _figures(by_calls: dict[str, list[Dump]], extension: str) -> dict[str, float]:
    """From dumps of so many calls and of twice as many, whose beginning and end are in both, and of single ones."""
    once, twice = sorted(int(calls) for calls in by_calls if calls != workload.SINGLE)
    pairs = list(zip(by_calls[str(once)], by_calls[str(twice)], strict=True))

    def more(figure: str) -> float:
        found = [[_instructions(dump, figure, extension) for dump in pair] for pair in pairs]
        return median(double - single for single, double in found) / (twice - once)

    counted = {figure: more(figure) for figure in (INSTRUCTIONS, OWN, RANGE, PROFILE)}
    return {**counted, ALLOCATIONS: median(dump.allocations for dump in by_calls[workload.SINGLE])}


def _instructions(dump: Dump, figure: str, extension: str) -> int:
    if figure == INSTRUCTIONS:
        # How long the heap searches depends on what other threads have left there; how often it is asked does not.
        return dump.instructions - dump.inside[HEAP]
    return dump.by_object.get(extension, 0) if figure == OWN else dump.inside[figure]


def compared(figures: Figures) -> Figures:
    """Those that a baseline keeps."""
    kept = (INSTRUCTIONS, OWN, ALLOCATIONS)
    return {case: {name: round(found[name], 2) for name in kept} for case, found in figures.items()}


def bars(figures: Counts) -> list[Bar]:
    """What has to hold whatever the baseline says."""

    def share(case: str, figure: str) -> float:
        return 100 * figures[case][figure] / figures[case][INSTRUCTIONS]

    def a_leaf(names: dict[int, str]) -> float:
        return (figures[names[MANY]][OWN] / MANY) / (figures[names[FEW]][OWN] / FEW)

    both = [figures[workload.ONE], figures[workload.READY]]
    ranges = 100 * sum(case[RANGE] for case in both) / sum(case[INSTRUCTIONS] for case in both)
    by_hand = figures[workload.ONE][INSTRUCTIONS] / figures[workload.BY_HAND][INSTRUCTIONS]
    return [
        Bar("N7, instructions beside torch in Python", by_hand, "at most", 0.5, "×"),
        Bar("the ranges for torch's profiler, of one submission and its result()", ranges, "at most", 1.0, "%"),
        Bar("a profile that is not active, of one submission", share(workload.ONE, PROFILE), "at most", 1.0, "%"),
        Bar("a profile that is not active, of a result()", share(workload.READY, PROFILE), "at most", 1.0, "%"),
        Bar(f"walk, instructions a leaf, {MANY:,} beside {FEW}", a_leaf(workload.WALKS), "at most", 1.1, "×"),
        Bar(f"submission, instructions a leaf, {MANY:,} beside {FEW}", a_leaf(workload.TREES), "at most", 1.1, "×"),
    ]
