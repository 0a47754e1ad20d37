"""Runs a program under callgrind, and reads what it counted."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

# Counting is off until the program says otherwise, and then it is of the threads that ask for it. Names are spelled
# out each time, and lines left out, so that a file is read in one pass.
_OPTIONS = (
    "--tool=callgrind",
    "--quiet",
    "--instr-atstart=no",
    "--collect-atstart=no",
    "--compress-strings=no",
    "--compress-pos=no",
    "--dump-line=no",
)
_HELPER = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void stop(void) { CALLGRIND_STOP_INSTRUMENTATION; }
void toggle(void) { CALLGRIND_TOGGLE_COLLECT; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(const char* label) { CALLGRIND_DUMP_STATS_AT(label); }
"""
_ALLOCATING = {"malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign"}
_LABEL = "desc: Trigger: Client Request: "


class MissingError(Exception):
    """What is needed for counting is not there; the message says what to install."""


@dataclass
class Dump:
    """What was counted between two dumps, of the threads that had asked for it."""

    label: str = ""
    instructions: int = 0
    by_object: dict[str, int] = field(default_factory=dict)  # instructions of its own functions, by file name
    allocations: int = 0  # calls of malloc and its like
    # Instructions of calls to functions whose names match, and of all that these call.
    inside: dict[str, int] = field(default_factory=dict)


def run(program: list[str], environ: dict[str, str], inside: dict[str, re.Pattern[str]]) -> list[Dump]:
    """Run a Python program, which gets the path of the helper as its last argument; the labelled dumps in order.

    Raises:
        MissingError: valgrind or a C compiler is not here.
        subprocess.CalledProcessError: the program failed; it has said why.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise MissingError("expected valgrind on the PATH, found none; on Debian: apt-get install valgrind")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [valgrind, *_OPTIONS, f"--callgrind-out-file={out}", sys.executable, *program]
        fixed = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        subprocess.run([*command, str(_helper(Path(folder)))], env={**os.environ, **environ, **fixed}, check=True)
        parts = sorted(out.parent.glob("out.*"), key=lambda part: int(part.suffix[1:]))
        dumps = [read(part.read_text(errors="replace").splitlines(), inside) for part in parts]
        return [dump for dump in dumps if dump.label]


def _helper(folder: Path) -> Path:
    """The library that asks callgrind to begin, to count, and to dump."""
    compiler = os.environ.get("CC", "cc")
    source, library = folder / "requests.c", folder / "requests.so"
    source.write_text(_HELPER)
    try:
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MissingError(
            f"expected a C compiler that finds valgrind/callgrind.h, got {compiler} ({error}); "
            "on Debian: apt-get install gcc valgrind"
        ) from error
    return library


def read(lines: Iterable[str], inside: dict[str, re.Pattern[str]]) -> Dump:
    """A file of callgrind's, with names spelled out.

    A function's own costs follow its ``fn=``; each of its calls is three lines: ``cfn=``, ``calls=``, and what the
    callee and all below it cost. The callee's object stands before, where it is another.
    """
    dump = Dump(inside=dict.fromkeys(inside, 0))
    where = function = callee = ""
    called = False
    for line in lines:
        if line[:1].isdigit():
            cost = int(line.split()[1])
            if not called:
                dump.instructions += cost
                dump.by_object[where] = dump.by_object.get(where, 0) + cost
            else:
                for name, pattern in inside.items():
                    if pattern.match(callee) and not pattern.match(function):
                        dump.inside[name] += cost
            called = False
        elif line.startswith("ob="):
            where = Path(line[3:]).name
        elif line.startswith("fn="):
            function = line[3:]
        elif line.startswith("cfn="):
            callee = line[4:]
        elif line.startswith("calls="):
            called = True
            if callee in _ALLOCATING:
                dump.allocations += int(line[6:].split()[0])
        elif line.startswith(_LABEL):
            dump.label = line[len(_LABEL) :]
    return dump
