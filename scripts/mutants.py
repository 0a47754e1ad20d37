#!/usr/bin/env python3
"""Removes each guarding line in turn, in a copy of the repository, and asks its tests whether they notice.

The guards stand in tests/guards.toml. The command fails if the tests fail without any mutation, if a snippet is not
found exactly once, if a mutated copy does not compile or import, and if a removal passes unnoticed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "guards.toml"
NOT_COPIED = (".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
COMPILED = (".cpp", ".h", ".cu", ".cuh")
# What these test is compiled by the tests themselves: the extension would be built again for nothing.
COMPILED_BY_TESTS = ("csrc/cuda/", "csrc/gather.h", "tests/kernel_on_cpu/")
BUILD = (sys.executable, "setup.py", "build_ext", "--inplace")
# Exit statuses of pytest that say nothing about the mutated line: interrupted, internal, usage, no tests.
BROKEN = (2, 3, 4, 5)


class MutantError(Exception):
    """The table, the copy or the tests are at fault, not the guard."""


@dataclass(frozen=True)
class Guard:
    """One guarding snippet, what it becomes, and the tests that have to fail then."""

    name: str
    contract: int
    file: str
    old: str
    tests: list[str]
    new: str = ""
    timeout: int = 300

    @property
    def compiled(self) -> bool:
        return self.file.endswith(COMPILED) and not self.file.startswith(COMPILED_BY_TESTS)

    def mutate(self, root: Path) -> str:
        """The text of the file without the guard; raises unless the snippet is there exactly once."""
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise MutantError(f"{self.name}: expected the snippet once in {self.file}, found {text.count(self.old)}")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Verdict:
    """What one run of pytest said."""

    noticed: bool
    by: str
    output: str


def read_guards(table: Path = TABLE) -> list[Guard]:
    """The rows of the table, those of the Python files first: they need no compiler."""
    known = {field.name for field in fields(Guard)}
    rows = tomllib.loads(table.read_text())["guard"]
    for row in rows:
        if unknown := row.keys() - known:
            raise MutantError(f"{row.get('name')}: unknown keys {sorted(unknown)}, expected some of {sorted(known)}")
    return sorted((Guard(**row) for row in rows), key=lambda guard: guard.compiled)


def judge(status: int | None, output: str) -> Verdict:
    """What the exit status of pytest (None: stopped at its time limit) says about a mutation."""
    lines = output.splitlines()
    if status in BROKEN:
        raise MutantError(f"pytest ended with status {status} instead of a test's answer:\n{_tail(output)}")
    if status == 0:
        return Verdict(False, "", output)
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    if failed:
        return Verdict(True, failed[0], output)
    running = next((match.group() for line in reversed(lines) if (match := re.match(r"\S+::\S+", line))), "?")
    how = "TIMEOUT" if status is None else f"CRASH (status {status})"
    return Verdict(True, f"{how} in or after {running}", output)


class Laboratory:
    """The copy that is mutated, one guard at a time; it keeps its build folder, so each costs one file."""

    def __init__(self, root: Path, folder: Path, build: Sequence[str] | None) -> None:
        self.root, self.folder, self.build_command = root, folder, build
        paths = os.pathsep.join([str(folder), str(folder / "tests")])
        self.environ = {
            "TNB_REQUIRE": "native,fake",
            **os.environ,
            "PYTHONPATH": paths,
            "PYTHONDONTWRITEBYTECODE": "1",  # a .pyc is trusted by second and size, a mutation may change neither
        }

    def refresh(self) -> None:
        """Bring in what differs from the repository; other files keep their time stamps and are not compiled again."""
        wanted = set(_files(self.root))
        for stale in set(_files(self.folder)) - wanted if self.folder.exists() else set():
            (self.folder / stale).unlink()
        for path in wanted:
            source, target = self.root / path, self.folder / path
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)

    def build(self) -> None:
        """Compile what changed."""
        if self.build_command is not None:
            status, output = self._run(self.build_command, timeout=1800)
            if status != 0:
                raise MutantError(f"the copy does not compile:\n{_tail(output)}")

    def test(self, tests: Sequence[str], timeout: int) -> Verdict:
        """Run ``tests`` until one fails."""
        command = [sys.executable, "-m", "pytest", "-x", "-v", "--tb=short", "-p", "no:cacheprovider", *tests]
        return judge(*self._run(command, timeout))

    def without(self, guard: Guard) -> Verdict:
        """The verdict of the guard's tests on the copy without it; the copy is whole again afterwards."""
        path = self.folder / guard.file
        original, mutated = path.read_text(), guard.mutate(self.folder)
        path.write_text(mutated)
        try:
            if guard.compiled:
                self.build()
            return self.test(guard.tests, guard.timeout)
        finally:
            path.write_text(original)

    def _run(self, command: Sequence[str], timeout: int) -> tuple[int | None, str]:
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            output = process.communicate(timeout=timeout)[0]
            return process.returncode, output
        except subprocess.TimeoutExpired:
            _kill(process)
            return None, process.communicate()[0]
        finally:
            if process.poll() is None:
                _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    # Its children too: a test that forks may leave one that holds the pipe open.
    os.killpg(process.pid, signal.SIGKILL)


def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    ignored: Callable[[str, list[str]], set[str]] = shutil.ignore_patterns(*NOT_COPIED, "_C.*.so", "_build_info.py")
    for folder, subfolders, names in os.walk(root):
        skipped = ignored(folder, subfolders + names)
        subfolders[:] = [name for name in subfolders if name not in skipped]
        found += [Path(folder, name).relative_to(root) for name in names if name not in skipped]
    return found


def _tail(output: str) -> str:
    return "\n".join(output.splitlines()[-40:])


def try_guards(laboratory: Laboratory, guards: Sequence[Guard], say: Callable[[str], None]) -> list[Guard]:
    """The guards whose removal nothing noticed; raises where an answer cannot be had."""
    laboratory.refresh()
    for guard in guards:
        guard.mutate(laboratory.folder)
    say(f"building the copy in {laboratory.folder}")
    laboratory.build()
    tests = sorted({test for guard in guards for test in guard.tests})
    baseline = laboratory.test(tests, timeout=max(guard.timeout for guard in guards) * len(tests))
    if baseline.noticed:
        raise MutantError(f"the tests fail without any mutation: {baseline.by}\n{_tail(baseline.output)}")
    say(f"without any mutation all pass: {_closing_line(baseline.output)}")
    unnoticed = []
    for guard in guards:
        start = time.monotonic()
        verdict = laboratory.without(guard)
        seconds = f"{time.monotonic() - start:.0f} s"
        if verdict.noticed:
            say(f"noticed    {guard.name} (contract {guard.contract}, {seconds}): {verdict.by}")
        else:
            unnoticed.append(guard)
            closing = _closing_line(verdict.output)
            say(f"UNNOTICED  {guard.name} (contract {guard.contract}, {seconds}): {closing} of {' '.join(guard.tests)}")
    return unnoticed


def _closing_line(output: str) -> str:
    return next((line.strip("= ") for line in reversed(output.splitlines()) if line.strip()), "no output")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="this guard; may be given again")
    parser.add_argument("--list", action="store_true", help="print the guards and stop")
    options = parser.parse_args()
    guards = read_guards()
    if options.only:
        if unknown := set(options.only) - {guard.name for guard in guards}:
            parser.error(f"no guard is named {', '.join(sorted(unknown))}; --list prints the names")
        guards = [guard for guard in guards if guard.name in options.only]
    if options.list:
        for guard in guards:
            print(f"{guard.contract:2}  {guard.name:32} {guard.file:36} {' '.join(guard.tests)}")
        return 0
    laboratory = Laboratory(ROOT, ROOT / "build" / "mutants", BUILD)
    try:
        unnoticed = try_guards(laboratory, guards, lambda line: print(line, flush=True))
    except MutantError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    print(f"{len(guards)} guards, {len(guards) - len(unnoticed)} noticed, {len(unnoticed)} unnoticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
