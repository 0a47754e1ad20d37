#!/usr/bin/env python3
"""Runs the tests under GCC's sanitizers, in copies of the repository, and shows that each sanitizer would speak.

    core     the torch-free core, as C++ programs, under TSan (no suppression) and under ASan, leaks included
    address  the extension and the fake accelerator under ASan and UBSan: all tests that use them
    thread   the extension and the fake accelerator under TSan: the tests with threads; tests/tsan.supp says what is
             suppressed, and why

In each a fault is then seeded, and has to be reported. It takes half an hour; the copies in build/sanitize keep what
was compiled.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mutants import BUILD, ROOT, Guard, Laboratory, MutantError, Verdict, judge

FOLDER = ROOT / "build" / "sanitize"
# The extension is not in these, or they build and start programs of their own.
NOT_UNDER_A_SANITIZER = (
    "kernel_on_cpu",  # `make kernels` runs that under both; here they would look for memory where ASan has its own
    "test_build.py",
    "test_build_objects.py",
    "test_benchmarks.py",  # measures
    "test_cli_bench.py",  # measures
    "test_cpp_core.py",  # a step of its own
    "test_cuda_toolkit.py",
    "test_mutants.py",
    "test_pages.py",
    "test_public_api.py",  # mypy reads the extension
)
WITH_THREADS = (
    "test_block_stream.py",
    "test_bounded.py",
    "test_change_in_progress.py",
    "test_host_pool.py",
    "test_lifetime.py",
    "test_mutation.py",
    "test_ordering.py",
    "test_snapshot.py",
    "test_staged.py",
    "test_staged_failure.py",
    "test_steady.py",
    "test_stress.py",
    "test_threads.py",
    "test_transfer.py",
    "test_worker.py",
)
LIMIT = 3600  # seconds that the tests of a step may take


@dataclass(frozen=True)
class Step:
    """One build, the tests that it has to pass, and faults of which a report has to speak."""

    name: str
    tests: list[str]
    faults: dict[str, Guard]  # by what the report has to say
    flags: str = ""  # for the compiler; none: no extension is built
    libraries: tuple[str, ...] = ()  # that have to be loaded before all others
    environ: dict[str, str] = field(default_factory=dict)


def _fault(name: str, file: str, old: str, new: str, *tests: str) -> Guard:
    return Guard(name=name, contract=11, file=file, old=old, new=new, tests=list(tests), timeout=900)


CORE = Step(
    "core",
    ["--noconftest", "tests/test_cpp_core.py"],
    {
        "data race": _fault(
            "pool-without-its-lock",
            "csrc/host_pool.cpp",
            "    const std::lock_guard<std::mutex> lock(mutex_);\n    collect_returned();\n    return arena_.take",
            "    collect_returned();\n    return arena_.take",
            "--noconftest",
            "tests/test_cpp_core.py::test_under_many_threads[host_pool-thread]",
        )
    },
    environ={"TORCH_NP_BRIDGE_ENGINE": "python"},  # no extension is built in this copy
)
ADDRESS = Step(
    "address",
    [f"--ignore=tests/{name}" for name in NOT_UNDER_A_SANITIZER],
    {
        "heap-buffer-overflow": _fault(
            "ordinary-memory-too-short",
            "csrc/ordinary_memory.cpp",
            "cache_line, bytes) != 0",
            "cache_line, bytes - 1) != 0",
            "tests/test_staged.py::test_any_size",
        ),
        "shift exponent": _fault(
            "undefined-shift",
            "csrc/numpy_array.cpp",
            "static_cast<std::size_t>(strides[dim]) * itemsize);",
            "static_cast<std::size_t>(strides[dim]) * itemsize + 0 * (itemsize << (64 + dim)));",
            "--capture=sys",  # UBSan may end the process before its report is in the log
            "tests/test_staged.py::test_any_size",
        ),
    },
    "-fsanitize=address,undefined -fno-sanitize-recover=undefined",
    ("libasan.so", "libubsan.so", "libstdc++.so"),  # ASan looks for the exceptions of the last when it starts
    {
        # Leaks: Python and torch keep objects for good, and so do we at exit. The core is asked for its own, and the
        # stress run counts what the extension holds.
        "ASAN_OPTIONS": "detect_leaks=0 handle_segv=0",  # tests of the fake accelerator expect the signal itself
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # else Python's objects are pieces of arenas that ASan knows nothing of
    },
)
THREAD = Step(
    "thread",
    [f"tests/{name}" for name in WITH_THREADS],
    {
        "data race": _fault(
            "lane-without-its-lock",
            "csrc/copy_lane.cpp",
            "    const std::lock_guard<std::mutex> lock(mutex_);\n    in_flight_.push_back",
            "    in_flight_.push_back",
            "tests/test_threads.py::test_threads_with_streams_and_devices_of_their_own",
        )
    },
    "-fsanitize=thread",
    ("libtsan.so",),
    {
        # What torch and Python do to memory of their own is not ours to judge; their locks are seen all the same.
        "TSAN_OPTIONS": f"ignore_noninstrumented_modules=1 suppressions={ROOT / 'tests' / 'tsan.supp'}",
        "OMP_NUM_THREADS": "1",  # OpenMP's barriers are not seen
    },
)
STEPS = {step.name: step for step in (CORE, ADDRESS, THREAD)}


class SanitizedCopy(Laboratory):
    """A copy whose extension and fake accelerator are built with a sanitizer."""

    def __init__(self, step: Step) -> None:
        super().__init__(ROOT, FOLDER / step.name, BUILD if step.flags else None)
        self._step = step
        self._reports = FOLDER / f"{step.name}-reports"
        self._plain = dict(self.environ)

    def prepare(self) -> None:
        """Bring the copy up to date and build it."""
        self.refresh()
        if self._step.flags:
            self._replace("setup.py", '"-O2", "-g0"', '"-O1", "-g1", "-fno-omit-frame-pointer"')
            flags = "".join(f'"{flag}", ' for flag in self._step.flags.split())
            self._replace("tests/fake_device/build.py", '"-g0",', f'"-g1", "-fno-omit-frame-pointer", {flags}')
            self._replace("tests/fake_device/build.py", '"-shared",', f'"-shared", {flags}')
        self.build()

    def build(self) -> None:
        """The extension, then the fake accelerator: a test would build it with the sanitizer in the compiler."""
        self.environ = {**self._plain, "CFLAGS": self._step.flags, "TORCH_NP_BRIDGE_CUDA": "0"}
        super().build()
        if self.build_command is not None:
            path = str(self.folder / "tests" / "fake_device" / "build.py")
            build = f'import runpy; runpy.run_path({path!r})["library_path"]()'
            status, output = self._run((sys.executable, "-c", build), timeout=1800)
            if status != 0:
                raise MutantError(f"the fake accelerator does not compile:\n{output}")
        self.environ = {**self._plain, **self._sanitized_environ()}

    def test_all(self) -> Verdict:
        """Run all tests of the step, also behind one that fails."""
        command = (
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--tb=short",
            "--capture=sys",
            "-p",
            "no:cacheprovider",
            *self._step.tests,
        )
        return judge(*self._run(command, LIMIT))

    def take_reports(self) -> str:
        """What the sanitizers of all processes have said since the last time."""
        texts = [path.read_text(errors="replace") for path in sorted(self._reports.glob("*"))]
        shutil.rmtree(self._reports, ignore_errors=True)
        self._reports.mkdir(parents=True)
        return "\n".join(texts)

    def _sanitized_environ(self) -> dict[str, str]:
        environ = dict(self._step.environ)
        for name in [name for name in environ if name.endswith("_OPTIONS")]:
            environ[name] += f" log_path={self._reports / name.removesuffix('_OPTIONS').lower()}"
        if self._step.libraries:
            environ["LD_PRELOAD"] = " ".join(map(_library, self._step.libraries))
        return environ

    def _replace(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        if path.read_text().count(old) != 1:
            raise MutantError(f"expected {old} once in {file}")
        path.write_text(path.read_text().replace(old, new))


def _library(name: str) -> str:
    compiler = os.environ.get("CXX", "g++")
    path = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    found = path.stdout.strip()
    if found == name:
        raise MutantError(f"expected {compiler} to have {name}, it has none; install GCC's sanitizers")
    return str(Path(found).resolve())


def run(step: Step, faults: bool) -> list[str]:
    """What is wrong: reports, tests that failed, and faults that were not reported."""
    copy = SanitizedCopy(step)
    _say(step, "building")
    copy.prepare()
    copy.take_reports()
    verdict = copy.test_all()
    problems = []
    if verdict.noticed:
        problems.append(f"{verdict.by}\n{verdict.output}")
    if reports := copy.take_reports():
        problems.append(reports)
    closing = verdict.output.strip().splitlines()[-1].strip("= ")
    if not step.flags and "skipped" in closing:
        problems.append(f"expected a compiler and a system with TSan and ASan: {closing}")
    _say(step, "\n".join([f"{closing}; {len(problems) or 'no'} problems", *problems]))
    for words, fault in step.faults.items() if faults else ():
        verdict = copy.without(fault)
        if words in copy.take_reports() + verdict.output:
            _say(step, f"seeded {fault.name}: reported as a {words}")
        else:
            problems.append(f"seeded {fault.name}: expected a report of a {words}, got none")
            _say(step, f"{problems[-1]}\n{verdict.output}")
    return problems


def _say(step: Step, text: str) -> None:
    print(f"{step.name:8} {text}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(STEPS), help="this step; may be given again")
    parser.add_argument("--no-faults", action="store_true", help="seed none")
    options = parser.parse_args()
    problems: list[str] = []
    try:
        for name in options.only or STEPS:
            problems += run(STEPS[name], not options.no_faults)
    except MutantError as error:
        print(f"sanitize: {error}", file=sys.stderr)
        return 2
    print(f"{len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
