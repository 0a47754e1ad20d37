"""The long run: `make soak`, `make soak MINUTES=60`, on a GPU `make soak DEVICE=cuda`.

Prints how each round went, then a summary as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import warnings
from dataclasses import asdict

import torch

from .device import DEVICES
from .rounds import run

PER_ROUND = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="stress", description=__doc__)
    parser.add_argument("--transfers", type=int, metavar="N", help="how many, default 10000000, or as time allows")
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no round after so many")
    parser.add_argument("--device", choices=DEVICES, default="fake", help="the simulated accelerator, or GPUs")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat its choices")
    warnings.filterwarnings("ignore", "ComplexHalf")  # torch says so once in a process
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: expected a CUDA device, torch.cuda.is_available() says that there is none")
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    transfers = options.transfers or (10_000_000 if options.minutes is None else sys.maxsize)
    deadline = float("inf") if options.minutes is None else time.monotonic() + 60 * options.minutes
    print(f"seed {seed}", flush=True)
    summary = run(
        seed,
        DEVICES[options.device](),
        transfers=transfers,
        per_round=PER_ROUND,
        deadline=deadline,
        say=lambda line: print(line, flush=True),
    )
    print(json.dumps(asdict(summary), indent=2))
    return 1 if summary.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
