"""The shim finds what it is there to find: faults that are planted in a small kernel."""

from __future__ import annotations

import numpy as np
import pytest

from .library import PLANTED, Bytes, Kernels

UNITS = 33
WORDS = {
    "no fault": "",
    "overlap": "written twice: byte 511, before by",
    "gap": "never written: byte 527",
    "read outside": "read outside: 16 bytes of the source from 528",
    "written outside": "written outside: 16 bytes of the destination from 528",
    "misaligned store": "misaligned: 16 bytes, 12 past a multiple, by thread 32",
    "misaligned load": "misaligned: 16 bytes, 4 past a multiple, by thread 0",
}


def memory() -> Bytes:
    """Units of 16 bytes, aligned; the last is nobody's."""
    buffer = np.arange(16 * (UNITS + 2), dtype=np.uint8)
    lead = -buffer.ctypes.data % 16
    return buffer[lead : lead + 16 * UNITS + 16]


@pytest.mark.parametrize("fault", PLANTED)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_planted_fault_is_reported(kernels: Kernels, fault: str, seed: int) -> None:
    kernels.reset(seed=seed)
    report = kernels.planted(fault, memory(), memory())
    assert WORDS[fault] in report.faults
    assert bool(report.faults) == (fault != "no fault")


def test_a_report_says_who_wrote_and_by_how_many_accesses(kernels: Kernels) -> None:
    source, destination = memory(), memory()
    destination[:] = 0
    report = kernels.planted("no fault", source, destination)
    assert (destination[: 16 * UNITS] == source[: 16 * UNITS]).all()
    assert (destination[16 * UNITS :] == 0).all()
    assert report.loads == report.stores == {1: 0, 2: 0, 4: 0, 8: 0, 16: UNITS}
    assert report.writers[: 16 * UNITS].tolist() == [unit + 1 for unit in range(UNITS) for _ in range(16)]


def test_what_a_fault_does_stays_undone(kernels: Kernels) -> None:
    destination = memory()
    before = destination.copy()
    kernels.planted("written outside", memory(), destination)
    assert (destination[-16:] == before[-16:]).all()


def test_threads_run_in_an_order_of_the_seed(kernels: Kernels) -> None:
    """The one of two writers of a byte that comes first is now the one, now the other."""
    first = set()
    for seed in range(20):
        kernels.reset(seed=seed)
        report = kernels.planted("overlap", memory(), memory())
        first.add("before by 31" in report.faults)
    assert first == {True, False}
