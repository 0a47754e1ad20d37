"""`python -m kernel_on_cpu 100000`: so many random layouts, under the sanitizers if their runtimes are loaded before."""

from __future__ import annotations

import argparse
import os
import secrets
import time

from .check import run
from .library import kernels


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m kernel_on_cpu", description=__doc__)
    parser.add_argument("layouts", type=int)
    parser.add_argument("--seed", type=int, default=None, help="repeats an earlier run")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    sanitized = "libasan" in os.environ.get("LD_PRELOAD", "")
    how = "under ASan and UBSan" if sanitized else "without sanitizers"
    print(f"{options.layouts} layouts, seed {seed}, {how}", flush=True)
    start = time.monotonic()
    run(kernels(sanitized=sanitized), options.layouts, seed)
    print(f"all as torch has them, {time.monotonic() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
