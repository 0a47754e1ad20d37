"""Arithmetic of spans of time: sets of them are lists of pairs of begin and end, in order and apart from each other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

Spans = list[tuple[float, float]]


def union(spans: Iterable[tuple[float, float]]) -> Spans:
    """The set of moments that are in any of them, in whatever order they come."""
    merged: Spans = []
    for begin, end in sorted(spans):
        if end <= begin:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def minus(spans: Spans, taken: Spans) -> Spans:
    """What is in the first set and not in the second."""
    left: Spans = []
    index = 0
    for begin, end in spans:
        # Looked for by halves: one short span may be asked about beside very many.
        index = bisect_right(taken, begin, lo=index, key=lambda other: other[1])
        at = begin
        for place in range(index, len(taken)):
            other_begin, other_end = taken[place]
            if other_begin >= end:
                break
            if other_begin > at:
                left.append((at, other_begin))
            at = max(at, other_end)
        if at < end:
            left.append((at, end))
    return left


def common(spans: Spans, others: Spans) -> Spans:
    """What is in both sets."""
    return minus(spans, minus(spans, others))


def length(spans: Spans) -> float:
    """How long the moments of a set are together."""
    return sum(end - begin for begin, end in spans)
