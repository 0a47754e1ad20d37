"""`python -m kernel_on_cpu 100000`: so many random layouts."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time

from .build import sanitized_environment
from .check import run
from .library import kernels

_STARTED = "KERNEL_ON_CPU_SANITIZED"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kernel_on_cpu", description=__doc__)
    parser.add_argument("layouts", type=int)
    parser.add_argument("--sanitized", action="store_true", help="under ASan and UBSan")
    parser.add_argument("--seed", type=int, default=None, help="repeats an earlier run")
    options = parser.parse_args()
    if options.sanitized and _STARTED not in os.environ:
        environment = sanitized_environment()
        if environment is None:
            parser.error("expected a C++ compiler and a system that have ASan and UBSan, found none")
        arguments = [sys.executable, "-m", __package__, *sys.argv[1:]]
        os.execve(sys.executable, arguments, {**environment, _STARTED: "1"})
    seed = secrets.randbits(32) if options.seed is None else options.seed
    how = ", under ASan and UBSan" if options.sanitized else ""
    print(f"{options.layouts} layouts, seed {seed}{how}", flush=True)
    start = time.monotonic()
    run(kernels(sanitized=options.sanitized), options.layouts, seed)
    print(f"all as torch has them, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
