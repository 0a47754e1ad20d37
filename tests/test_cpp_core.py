"""Contracts 7, 8 and 11 without torch: the pool of page-locked memory and the worker, each compiled by itself.

Their random parts run on eight threads; built with ThreadSanitizer they also fail where a block or a job changes hands
without the next owner having seen all that the last one did. Nothing is suppressed.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import COMPILER
from helpers import ROOT

# A program that includes a stand-in for one of our headers takes a copy of what includes it: beside the original the
# original header is found first.
POOL = ("csrc/host_pool.cpp", "csrc/slab_arena.cpp", "csrc/process.cpp")
PROGRAMS = {
    "host_pool": POOL,
    "host_pool_sharing": POOL,
    "worker": ("csrc/worker.cpp", "csrc/process.cpp"),
}
INCLUDES = tuple(f"-I{ROOT / folder}" for folder in ("tests/cpp/stand_ins", "tests/cpp", "csrc"))
FLAGS = ("-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *INCLUDES)
SANITIZERS = {"plain": (), "thread": ("-fsanitize=thread",), "address": ("-fsanitize=address,undefined",)}
TURNS = {"host_pool": 20_000, "host_pool_sharing": 0, "worker": 4_000}


def compiler() -> list[str]:
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("expected the C++ compiler g++, or one named by CXX; found none")
    return COMPILER


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


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
    copies = [shutil.copy(ROOT / source, tmp_path) for source in PROGRAMS[name]]
    compiled = run(*found, *FLAGS, *flags, ROOT / f"tests/cpp/test_{name}.cpp", *copies, "-o", program)
    assert compiled.returncode == 0, compiled.stderr
    seed = random.randrange(1 << 32)
    finished = run(program, str(seed), str(TURNS[name]))
    assert finished.returncode == 0, f"seed {seed}, status {finished.returncode}: {finished.stderr}"
    assert finished.stderr == ""
