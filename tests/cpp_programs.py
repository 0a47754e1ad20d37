"""Programs made of parts of the engine that need no torch, compiled by the tests themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import COMPILER
from helpers import ROOT

INCLUDES = tuple(f"-I{ROOT / folder}" for folder in ("tests/cpp/stand_ins", "tests/cpp", "csrc"))
FLAGS = ("-std=c++20", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", *INCLUDES)


def compiler() -> list[str]:
    """The command of the C++ compiler; without one the test is skipped."""
    if shutil.which(COMPILER[0]) is None:
        pytest.skip("expected the C++ compiler g++, or one named by CXX; found none")
    return COMPILER


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command and what it printed."""
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def compile_program(program: Path, main: Path, sources: tuple[str, ...], flags: tuple[str, ...] = ()) -> None:
    """Compiles `main` with copies of sources of the engine.

    A program that includes a stand-in for one of our headers takes a copy of what includes it: beside the original the
    original header is found first.
    """
    copies = [shutil.copy(ROOT / source, program.parent) for source in sources]
    compiled = run(*compiler(), *FLAGS, *flags, main, *copies, "-o", program)
    assert compiled.returncode == 0, compiled.stderr
