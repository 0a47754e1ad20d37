"""`bench`: its options, what it runs, and what it prints and writes."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from .. import tune
from ..target import Target, UsageError, add_device_argument, add_load_argument, choose
from . import comparison, others
from .cases.registry import ALL, Case
from .controls import controls_of
from .memory import release_page_locked
from .plot import draw
from .results import Entry, Report, can_be_written, describe, end
from .setting import Setting
from .timing import DifferentResultsError

Progress = AbstractContextManager[Callable[[str], None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``."""
    add_device_argument(parser)
    add_load_argument(parser)
    parser.add_argument("--quick", action="store_true", help="tiny cases, whose times say nothing")
    parser.add_argument(
        "--only", nargs="+", choices=ALL, type=str.upper, metavar="CASE", help=f"of {', '.join(ALL)} (default: all)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios, as SVG")
    parser.add_argument(
        "--tune", action="store_true", help="measure instead what sizes the CUDA kernel should have on this GPU"
    )
    parser.set_defaults(compare=False)
    actions = parser.add_subparsers(metavar="[compare A.json B.json]")
    compare = actions.add_parser("compare", help="two files of --json: is the second one slower?")
    compare.description = "Compare the ratios in two files; exit status 1 where the second is worse beyond the spread."
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.set_defaults(compare=True)


def run(options: argparse.Namespace) -> int:
    """Do what was asked; 1 if something failed, gave other arrays or became slower, else 0."""
    if options.tune and (options.only or options.json or options.plot):
        raise UsageError("--tune: expected neither --only nor --json nor --plot beside it; it prints what it measures")
    if options.compare:
        return _compare(options.before, options.after)
    return _tune(options) if options.tune else _measure(options)


def _tune(options: argparse.Namespace) -> int:
    target = choose(options)
    if target.is_cpu:
        raise UsageError("--tune: expected a GPU to measure on, got cpu; name another device by --device")
    try:
        return tune.run(target, quick=options.quick)
    except DifferentResultsError as difference:
        print(f"FAILED: {difference}")
        return 1


def _compare(before: Path, after: Path) -> int:
    _require_rich()
    from . import tables

    found = comparison.compare(Report.read(before), Report.read(after))
    tables.show_comparison(found)
    return int(bool(found.regressions))


def _measure(options: argparse.Namespace) -> int:
    _require_rich()
    for option, file in (("--json", options.json), ("--plot", options.plot)):
        if file is not None and not can_be_written(file):
            raise UsageError(f"{option}: expected a file that can be written, in a folder that exists, got {file}")
    from . import tables

    cases = [case for name, case in ALL.items() if name in (options.only or ALL)]
    report = measure(choose(options), cases, options.quick, tables.progress)
    tables.show(report)
    if options.json is not None:
        report.write(options.json)
    if options.plot is not None:
        options.plot.write_text(draw([report]), encoding="utf-8")
    return int(bool(report.failed))


def _require_rich() -> None:
    if find_spec("rich") is None:
        raise UsageError("expected rich for the tables, got none; run: pip install 'torch-np-bridge[bench]'")


def _say(say: Callable[[str], None], name: str, text: str) -> None:
    say(f"{name}: {text}")


def measure(
    target: Target,
    cases: Sequence[Case],
    quick: bool,
    progress: Callable[[int], Progress] = lambda total: nullcontext(lambda text: None),
) -> Report:
    """All figures of the cases, and the machine that they are of.

    A case that fails, whatever the device or another library raised, does not take the others with it.
    """
    facts = describe(target)
    controls = controls_of(target)
    entries: list[Entry] = []
    skipped: dict[str, str] = {}
    failed: dict[str, str] = {}
    with progress(len(cases)) as say:
        for case in cases:
            if reason := case.missing(target):
                skipped[case.name] = reason
                continue
            try:
                entries.append(
                    case.entry(case.measure(Setting(target, controls, quick, partial(_say, say, case.name))))
                )
                release_page_locked()
            except Exception as error:
                traceback.print_exc()
                failed[case.name] = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return Report(end(facts), quick, entries, skipped, failed, others.absences(target.device))
