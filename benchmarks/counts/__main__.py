"""Counts instructions, allocations and calls of the device, and compares them with benchmarks/counts/baseline.json.

Instructions are counted by callgrind, so no load of the machine and no clock changes them; they depend on the compiler,
Python and torch, which are the key of an entry of the file. With another key there is nothing to compare with: an entry
is made. The accelerator is simulated: its own work is in the totals, and not in those of the extension.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from pathlib import Path

import harness
import torch
from rich.console import Console
from rich.table import Table

from torch_np_bridge.cli.bench.tables import NARROWEST
from torch_np_bridge.engine import extension

from . import baseline, callgrind, device_calls, figures

BASELINE = Path(__file__).with_name("baseline.json")
# valgrind has addresses for one simulated device, not for two
ENVIRON = {"FAKE_DEVICES": "1", "PYTHONPATH": str(harness.ROOT / "benchmarks")}


def main() -> int:
    """Count, print, and judge."""
    parser = argparse.ArgumentParser(
        prog="counts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--record", action="store_true", help="these are the counts from now on")
    options = parser.parse_args()
    module = extension().module
    if module is None:
        parser.error(f"expected the native engine, got none: {extension().problem}; run: make build")
    file = Path(str(module.__file__))
    try:
        dumps = callgrind.run(["-m", "counts.workload"], ENVIRON, figures.INSIDE)
    except (callgrind.MissingError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 2
    instructions = figures.of_one_call(dumps, file.name)
    fake, target = harness.simulated_accelerator()
    got = {**figures.compared(instructions), **device_calls.counts(fake, target.device)}
    show(got)
    bars = figures.bars(instructions)
    for bar in bars:
        print(f"{bar.name}: {'met' if bar.met else 'MISSED'}: {bar.wording()}")
    verdict = baseline.judge(BASELINE, key(file), got, record=options.record)
    print(*verdict.lines, sep="\n")
    return int(not (verdict.passed and all(bar.met for bar in bars)))


def key(extension_file: Path) -> str:
    """What the counts depend on beside this code."""
    named = re.search(rb"(GCC: \([^)\0]*\)|clang version) [\d.]+", extension_file.read_bytes())
    compiler = named.group().decode().replace("GCC: ", "GCC ") if named else "an unknown compiler"
    python = f"Python {platform.python_version()} by {platform.python_compiler()}"
    return f"{compiler}; {python}; torch {torch.__version__}; {platform.machine()}"


def show(counts: baseline.Counts) -> None:
    """A row a case, of what is not zero."""
    table = Table(title="Counts of one call")
    table.add_column("case", no_wrap=True)
    table.add_column("counts")
    for case, found in counts.items():
        table.add_row(case, "; ".join(f"{name} {baseline.text_of(value)}" for name, value in found.items() if value))
    console = Console(highlight=False)
    console.width = max(console.width, NARROWEST)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
