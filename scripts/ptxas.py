#!/usr/bin/env python3
"""Compiles the CUDA kernels and prints what each takes of an SM, for each architecture; fails where one spills."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from build_support.cuda_toolkit import FLAGS, Toolkit, ToolkitError, find_toolkit  # noqa: E402


@dataclass(frozen=True)
class Usage:
    """What ptxas says of one kernel."""

    kernel: str
    arch: str
    registers: int
    stack: int
    spills: int
    shared: int


def read_usage(said: str) -> Iterator[Usage]:
    """The kernels in what ptxas says under -v, one after the other."""
    for part in re.split(r"Compiling entry function ", said)[1:]:
        name, arch = re.findall(r"'([^']+)'", part)[:2]
        stack, stores, loads = map(int, re.findall(r"(\d+) bytes (?:stack|spill)", part)[:3])
        registers = int(re.findall(r"Used (\d+) registers", part)[0])
        shared = re.findall(r"(\d+) bytes smem", part)
        yield Usage(readable(name), arch, registers, stack, stores + loads, int(shared[0]) if shared else 0)


def readable(symbol: str) -> str:
    """The last name of a mangled one."""
    demangled = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\w+)(?:<(\d+)u>)?\((?!anonymous)", demangled)
    if found is None:
        return symbol
    return f"{found[1]}<{found[2]}>" if found[2] else found[1]


def compile_for(toolkit: Toolkit, source: Path, arch: str, folder: Path) -> tuple[list[Usage], float, int]:
    """The kernels of a source for one architecture; the seconds of a processor that took; the bytes of machine code."""
    cubin = folder / f"{source.stem}.cubin"
    code = [f"-arch={arch}", "-cubin", "-Xptxas", "-v", str(source), "-o", str(cubin)]
    before = os.times()
    done = subprocess.run([toolkit.nvcc, *FLAGS, *code], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolkitError(f"nvcc refuses {source.name} for {arch}:\n{done.stderr}")
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return list(read_usage(done.stderr)), seconds, cubin.stat().st_size


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    toolkit = find_toolkit()
    print(f"CUDA {toolkit.version}\n")
    print("| kernel | architecture | registers | stack | spills | shared memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    spills, sizes = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(ROOT.glob("csrc/cuda/*.cu")):
            for arch in (arch for arch in toolkit.archs if arch.startswith("sm_")):
                usages, seconds, size = compile_for(toolkit, source, arch, Path(folder))
                spills += sum(usage.spills for usage in usages)
                sizes += [f"{source.name} for {arch}: {size:,} bytes, compiled in {seconds:.0f} s"] if usages else []
                for usage in usages:
                    numbers = usage.registers, usage.stack, usage.spills, usage.shared
                    print(f"| {usage.kernel} | {usage.arch} | {' | '.join(map(str, numbers))} |", flush=True)
    print("\n" + "\n".join(sizes))
    if spills:
        print("a kernel spills", file=sys.stderr)
    return 1 if spills else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToolkitError as error:
        sys.exit(f"ptxas: {error}")
