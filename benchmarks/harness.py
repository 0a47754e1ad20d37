"""What the programs here share: their command line, the simulated accelerator, and what its driver can be asked."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch

ROOT = Path(__file__).resolve().parents[1]
# What is measured is this checkout, whatever package is installed. Every program imports this module first.
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from torch_np_bridge.cli.bench import tables  # noqa: E402
from torch_np_bridge.cli.bench.results import Entry, Measured, Report, can_be_written, describe, end  # noqa: E402
from torch_np_bridge.cli.bench.timing import QUICK, Plan  # noqa: E402
from torch_np_bridge.cli.target import Target  # noqa: E402


def simulated_accelerator() -> tuple[ModuleType, Target]:
    """The tests' simulated accelerator with its driver, at no cost per copy, and its first device."""
    fake = importlib.import_module("fake_device")
    fake.restore_defaults()
    importlib.import_module("fake_driver").register()
    return fake, Target(torch.device("fake", 0), fake)


def set_packer(present: bool) -> None:
    """The simulated accelerator's device type has a packer from now on, or none."""
    importlib.import_module("fake_driver").register(packer=present)


def set_kernel() -> None:
    """It has CUDA's entries and kernel from now on, which pack large blocks of small leaves in memory of the device."""
    importlib.import_module("fake_driver").register_cuda()


def without_page_locked_memory(fake: ModuleType) -> None:
    """Give all of it back and count anew.

    Torch's allocator gives back what the device has done with, so an array that is alive makes this fail.
    """
    torch.accelerator.synchronize()
    fake.empty_host_cache()
    if page_locked_bytes(fake):
        raise AssertionError(f"expected no page-locked memory at the start, got {page_locked_bytes(fake)} bytes")
    fake.reset_counters()


def page_locked_bytes(fake: ModuleType) -> int:
    """What the simulated driver has page-locked, whoever asked for it."""
    counted = fake.counters()
    return int(counted.host_bytes_live + counted.locked_pages_bytes)


def plan(quick: bool, runs: int) -> Plan:
    """So many runs, however much they differ."""
    return QUICK if quick else Plan(least=runs, most=runs)


def run(file: str, about: str, target: Callable[[], Target], measure: Callable[[bool], Measured]) -> int:
    """The command line of a program.

    Args:
        file: the program's own file, whose name its figures bear.
        about: its docstring; the first line is their title.
        target: what the figures are of.
        measure: makes the figures; tiny ones that say nothing about speed where its argument is true.

    Returns:
        The exit status: 1 where a bar was missed, except for tiny figures, which are not judged.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny figures, which say nothing and are not judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to this file")
    options = parser.parse_args()
    if options.json is not None and not can_be_written(options.json):
        parser.error(f"--json: expected a file that can be written, in a folder that exists, got {options.json}")
    chosen = target()
    facts = describe(chosen)
    measured = measure(options.quick)
    entry = Entry(Path(file).stem, about.splitlines()[0], "cpu" if chosen.is_cpu else "accelerator", measured)
    report = Report(end(facts), options.quick, [entry])
    tables.show(report)
    if options.json is not None:
        report.write(options.json)
    return int(not options.quick and not all(bar.met for bar in measured.bars))
