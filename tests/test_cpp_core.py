"""Contracts 7, 8 and 11 without torch: the pool of page-locked memory, compiled by itself, under many threads.

The random part runs on eight threads; built with ThreadSanitizer it also fails where a block changes hands without the
next owner having seen all that the last one did.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT

SOURCES = ("csrc/host_pool.cpp", "csrc/slab_arena.cpp", "csrc/process.cpp")
FLAGS = ("-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{ROOT / 'csrc'}")
SANITIZERS = {"plain": (), "thread": ("-fsanitize=thread",)}
TURNS = 20_000


def compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "g++"))
    if found is None:
        pytest.skip("expected the C++ compiler g++, or one named by CXX; found none")
    return found


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def can_run(compiler: str, flags: tuple[str, ...], folder: Path) -> bool:
    """Whether an empty program works: the compiler may lack the sanitizer, or the system its address space."""
    source, program = folder / "empty.cpp", folder / "empty"
    source.write_text("int main() {}\n")
    return run(compiler, *flags, source, "-o", program).returncode == 0 and run(program).returncode == 0


@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("name", ["test_host_pool", "test_host_pool_sharing"])
def test_the_host_pool(tmp_path: Path, name: str, sanitizer: str) -> None:
    found, flags, program = compiler(), SANITIZERS[sanitizer], tmp_path / name
    if flags and not can_run(found, flags, tmp_path):
        pytest.skip(f"expected a compiler and a system that have {flags[0]}, got {found} without")
    sources = [ROOT / source for source in (f"tests/cpp/{name}.cpp", *SOURCES)]
    compiled = run(found, *FLAGS, *flags, *sources, "-o", program)
    assert compiled.returncode == 0, compiled.stderr
    seed = random.randrange(1 << 32)
    finished = run(program, str(seed), str(TURNS))
    assert finished.returncode == 0, f"seed {seed}, status {finished.returncode}: {finished.stderr}"
    assert finished.stderr == ""
