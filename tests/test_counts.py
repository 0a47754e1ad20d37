"""What `make counts` makes of what callgrind and the simulated accelerator count. Nothing is counted here but calls."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import require

pytest.importorskip("rich", reason="expected rich, which the benchmarks print with, found none; pip install rich")
from counts import baseline, callgrind, device_calls, figures, workload
from counts.callgrind import Dump

import torch_np_bridge as tnb

CALL = "to_numpy_async, one tensor"
STAGED = ("64", "1,000")
KEY = "GCC 12"
INSTRUCTIONS, OWN, ALLOCATIONS = baseline.INSTRUCTIONS, baseline.OWN, baseline.ALLOCATIONS
COUNTS = {CALL: {INSTRUCTIONS: 18_700.0, OWN: 900.0, ALLOCATIONS: 484.0, "launches": 0.0}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Counts that were recorded under one key."""
    recorded = tmp_path / "baseline.json"
    baseline.judge(recorded, KEY, COUNTS, record=False)
    return recorded


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True),
        ({INSTRUCTIONS: 18_700 * 1.029}, True),
        ({INSTRUCTIONS: 18_700 * 1.031}, False),
        ({INSTRUCTIONS: 18_700 * 0.971}, True),
        ({INSTRUCTIONS: 18_700 * 0.969}, False),
        ({OWN: 900 * 1.031}, False),
        ({ALLOCATIONS: 485.0}, False),  # one more in a hundred leaves
        ({"launches": 1.0}, False),
        ({"launches": 0.05}, False),
    ],
)
def test_instructions_within_three_per_cent_and_calls_exactly(
    file: Path, change: dict[str, float], passes: bool
) -> None:
    before = file.read_text()
    verdict = baseline.judge(file, KEY, {CALL: {**COUNTS[CALL], **change}}, record=False)
    assert verdict.passed is passes
    assert file.read_text() == before
    said = "\n".join(verdict.lines)
    for name, value in change.items():
        line = f"{CALL}: {name}: expected {baseline.text_of(COUNTS[CALL][name])}, got {baseline.text_of(value)}"
        assert (line in said) is not passes
    assert ("make counts ARGS=--record" in said) is not passes


@pytest.mark.parametrize(
    ("got", "line"),
    [
        ({CALL: {INSTRUCTIONS: 18_700.0, OWN: 900.0, ALLOCATIONS: 484.0}}, f"{CALL}: launches: expected 0, got none"),
        ({**COUNTS, "another": {"launches": 1.0}}, "another: launches: expected none, got 1"),
    ],
)
def test_a_figure_that_is_missing_or_new(file: Path, got: dict[str, dict[str, float]], line: str) -> None:
    verdict = baseline.judge(file, KEY, got, record=False)
    assert not verdict.passed
    assert line in verdict.lines


def test_another_key_is_recorded_and_said(file: Path) -> None:
    twice = {CALL: {**COUNTS[CALL], INSTRUCTIONS: 40_000.0}}
    verdict = baseline.judge(file, "GCC 13", twice, record=False)
    assert verdict.passed
    assert f"for GCC 13: a new key, the file had {KEY}. Nothing was compared." in verdict.lines[0]
    assert json.loads(file.read_text()) == {KEY: COUNTS, "GCC 13": twice}
    assert not baseline.judge(file, "GCC 13", COUNTS, record=False).passed
    assert baseline.judge(file, KEY, COUNTS, record=False).passed


def test_recording_where_asked_to(file: Path) -> None:
    more = {CALL: {**COUNTS[CALL], ALLOCATIONS: 485.0}}
    verdict = baseline.judge(file, KEY, more, record=True)
    assert verdict.passed
    assert "as asked" in verdict.lines[0]
    assert json.loads(file.read_text()) == {KEY: more}


DUMP = """\
desc: Trigger: Client Request: one tensor|50
summary: 160

ob=/somewhere/_C.cpython-311.so
fl=???
fn=tnb::start_transfer
0 100
cob=/somewhere/libtorch_cpu.so
cfi=???
cfn=at::RecordFunction::RecordFunction(at::RecordScope)
calls=2 0
0 30
cob=/lib/libc.so.6
cfi=./malloc/malloc.c
cfn=malloc
calls=3 3281
0 20

ob=/somewhere/libtorch_cpu.so
fn=at::RecordFunction::RecordFunction(at::RecordScope)
0 20
cfn=at::getStepCallbacks(at::RecordScope)
calls=2 0
0 10

fn=at::getStepCallbacks(at::RecordScope)
0 10

ob=/lib/libc.so.6
fl=./malloc/malloc.c
fn=malloc
0 20
cfn=_int_malloc
calls=1 1338
0 10

fn=_int_malloc
fi=./malloc/arena.c
0 4
fe=./malloc/malloc.c
0 6
"""


def test_a_file_of_callgrinds() -> None:
    """Costs of functions add up to the summary; those of calls are what is inside of what is looked for, once."""
    found = callgrind.read(DUMP.splitlines(), {"range": re.compile(r"at::(RecordFunction|getStepCallbacks)")})
    assert found == Dump(
        label="one tensor|50",
        instructions=160,
        by_object={"_C.cpython-311.so": 100, "libtorch_cpu.so": 30, "libc.so.6": 30},
        allocations=3,
        inside={"range": 30},
    )


def dumps_of(case: str, start: int, instructions: int, allocations: int) -> list[Dump]:
    """As of a case whose beginning and end take `start`, whatever the number of its calls."""
    heap = iter((40, 90, 70, 20, 60, 50, 0, 0, 0))  # an accident each time

    def dump(calls: int | str, cost: int) -> Dump:
        searched = next(heap)
        inside = {figures.RANGE: 0, figures.PROFILE: 0, figures.HEAP: searched}
        return Dump(f"{case}|{calls}", cost + searched, {"_C.so": cost // 2}, allocations, inside)

    runs = [dump(calls, start + calls * instructions) for _ in range(3) for calls in (10, 20)]
    return [*runs, *(dump(workload.SINGLE, 0) for _ in range(3))]


def test_counts_of_one_call() -> None:
    """Not in them: the beginning and the end of a run, what the heap searches, and what the counting takes."""
    dumps = [*dumps_of(workload.NOTHING, 500, 300, 0), *dumps_of(CALL, 900, 1300, 19)]
    found = figures.compared(figures.of_one_call(dumps, "_C.so"))
    assert found == {
        CALL: {INSTRUCTIONS: 1000.0, OWN: 500.0, ALLOCATIONS: 19},
    }


def test_without_valgrind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(callgrind.MissingError, match="apt-get install valgrind"):
        callgrind.run(["-c", ""], {}, {})


@pytest.fixture
def counted(fake: ModuleType) -> ModuleType:
    """The simulated accelerator, where the functions that are counted are those of the native engine."""
    require("native")
    if (chosen := tnb.engine_info()).engine != "native":
        pytest.skip(f"native: expected it to be the engine of to_numpy, got {chosen.engine}: {chosen.reason}")
    return fake


def test_calls_of_the_device(counted: ModuleType) -> None:
    """They are exact, so a second count is the same; and they are what the contract says."""
    first, second = (device_calls.counts(counted, torch.device("fake", 0)) for _ in range(2))
    assert first == second
    assert all((found["events recorded"], found["waits of a stream"]) == (2, 1) for found in first.values())
    assert first["1,000 tensors, packed, calls of the device"]["launches"] == 1
    assert first["1,000 tensors, one by one, calls of the device"]["copies to the host"] == 1000
    block, tree = (first[f"{count} tensors of 16 KiB, packed on the device, calls of the device"] for count in STAGED)
    each = ("allocations on the device", "launches", "copies to the host")
    assert [block[name] for name in each] == [1, 1, 1]  # into memory of the device, and from there to the block
    assert [tree[name] for name in each] == [2, 2, 16]  # in turns of 8 MiB, each with a copy for each of its blocks


def test_the_cases_run(counted: ModuleType) -> None:
    """As under callgrind, but for what counts."""
    toggles: list[None] = []
    for case in workload.cases(counted, torch.device("fake", 0)):
        case.driver()
        case.run(2, lambda: toggles.append(None), lambda: toggles.append(None))
        assert len(toggles) == 4, case.name
        toggles.clear()


def test_the_baseline_has_all_cases(fake: ModuleType) -> None:
    require("native")
    kept = json.loads((Path(baseline.__file__).with_name("baseline.json")).read_text())
    names = {case.name for case in workload.cases(fake, torch.device("fake", 0))} - {workload.NOTHING}
    names |= {f"{name}, calls of the device" for name in device_calls.transfers(torch.device("fake", 0))}
    for key, counts in kept.items():
        assert counts.keys() == names, key
