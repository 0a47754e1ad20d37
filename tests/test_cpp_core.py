"""Contracts 7, 8 and 11 without torch: the pool of page-locked memory and the worker, each compiled by itself.

Their random parts run on eight threads; built with ThreadSanitizer they also fail where a block or a job changes hands
without the next owner having seen all that the last one did. Nothing is suppressed.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from cpp_programs import compile_program, compiler, run
from helpers import ROOT

POOL = ("csrc/host_pool.cpp", "csrc/slab_arena.cpp", "csrc/process.cpp")
PROGRAMS = {
    "host_pool": POOL,
    "host_pool_sharing": POOL,
    "worker": ("csrc/worker.cpp", "csrc/process.cpp"),
}
SANITIZERS = {"plain": (), "thread": ("-fsanitize=thread",), "address": ("-fsanitize=address,undefined",)}
TURNS = {"host_pool": 20_000, "host_pool_sharing": 0, "worker": 4_000}


def can_run(compiler: list[str], flags: tuple[str, ...], folder: Path) -> bool:
    """Whether an empty program works: the compiler may lack the sanitizer, or the system its address space."""
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}\n")
    return run(*compiler, *flags, source, "-o", program).returncode == 0 and run(program).returncode == 0


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_under_many_threads(tmp_path: Path, name: str, sanitizer: str) -> None:
    found, flags, program = compiler(), SANITIZERS[sanitizer], tmp_path / name
    if flags and not can_run(found, flags, tmp_path):
        pytest.skip(f"expected a compiler and a system that have {flags[0]}, got {' '.join(found)} without")
    compile_program(program, ROOT / f"tests/cpp/test_{name}.cpp", PROGRAMS[name], flags)
    seed = random.randrange(1 << 32)
    finished = run(program, str(seed), str(TURNS[name]))
    assert finished.returncode == 0, f"seed {seed}, status {finished.returncode}: {finished.stderr}"
    assert finished.stderr == ""
