"""What was counted, beside what was before under the same key: instructions within three per cent, calls exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INSTRUCTIONS, OWN, ALLOCATIONS = "instructions without the heap's", "of these in the extension", "heap allocations"
TOLERANCE = 0.03  # of instructions; all others are calls, of the heap and of the device: one more is one too many
Counts = Mapping[str, Mapping[str, float]]  # figures by case and name


@dataclass(frozen=True)
class Difference:
    """A figure that is another one now; None where there is none."""

    case: str
    name: str
    expected: float | None
    got: float | None

    def __str__(self) -> str:
        expected, got = ("none" if value is None else text_of(value) for value in (self.expected, self.got))
        change = f" ({self.got / self.expected - 1:+.1%})" if self.expected and self.got is not None else ""
        return f"{self.case}: {self.name}: expected {expected}, got {got}{change}"


def text_of(count: float) -> str:
    """A count as people write it."""
    return f"{count:,.2f}".removesuffix(".00")


def differences(expected: Counts, got: Counts) -> list[Difference]:
    """The figures beyond their tolerance, in either direction: what became cheaper must not become dearer unseen."""
    found = []
    for case in {**expected, **got}:
        before, now = expected.get(case, {}), got.get(case, {})
        for name in {**before, **now}:
            old, new = before.get(name), now.get(name)
            tolerance = TOLERANCE if name in (INSTRUCTIONS, OWN) else 0
            if old is None or new is None or abs(new - old) > tolerance * abs(old):
                found.append(Difference(case, name, old, new))
    return found


@dataclass(frozen=True)
class Verdict:
    """What to say, and whether the counts pass."""

    passed: bool
    lines: list[str]


def judge(file: Path, key: str, got: Counts, *, record: bool) -> Verdict:
    """Compare with the entry of the same key in ``file``; without one, or where asked to, make it.

    Args:
        file: JSON, counts by key. Entries of other keys stay.
        key: what the counts depend on beside this code.
        got: what was counted.
        record: that it is meant to be different.
    """
    kept: dict[str, Counts] = json.loads(file.read_text()) if file.exists() else {}
    if key in kept and not record:
        found = differences(kept[key], got)
        if not found:
            return Verdict(True, [f"As in {file.name}, for {key}, instructions within {TOLERANCE:.0%}."])
        heading = f"Not as in {file.name}, for {key}; instructions may differ by {TOLERANCE:.0%}:"
        advice = "Where that is meant to be: make counts ARGS=--record"
        return Verdict(False, [heading, *map(str, found), advice])
    others = "; ".join(kept) or "nothing"
    why = "as asked" if key in kept else f"a new key, the file had {others}"
    file.write_text(json.dumps({**kept, key: got}, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return Verdict(True, [f"Recorded in {file.name}, for {key}: {why}. Nothing was compared."])
