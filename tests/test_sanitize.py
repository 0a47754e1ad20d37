"""`make sanitize` is run by hand: what can rot between two runs is looked at here."""

from __future__ import annotations

import pytest
from helpers import ROOT
from sanitize import NOT_UNDER_A_SANITIZER, STEPS, WITH_THREADS


@pytest.mark.parametrize("step", STEPS)
def test_the_seeded_faults_are_still_faults_of_the_sources(step: str) -> None:
    assert STEPS[step].faults
    for fault in STEPS[step].faults.values():
        assert fault.mutate(ROOT) != (ROOT / fault.file).read_text()
        for test in fault.tests:
            assert test.startswith("--") or (ROOT / test.split("::")[0]).exists()


@pytest.mark.parametrize("name", [*NOT_UNDER_A_SANITIZER, *WITH_THREADS])
def test_the_named_tests_exist(name: str) -> None:
    assert (ROOT / "tests" / name).exists()


def test_each_suppression_has_its_reason() -> None:
    lines = (ROOT / "tests" / "tsan.supp").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        assert not line or line.startswith("#") or before.startswith("#"), f"{line}: expected the reason above it"
