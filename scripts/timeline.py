"""Makes the picture of docs/profile.md: the loops of examples/three_ways.py, on the simulated accelerator.

What the device computes and what it copies is slowed down to milliseconds, as far as the simulation has them: it shows
how the three ways behave, and no speed of any hardware.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "examples")]

import torch_np_bridge as tnb  # noqa: E402
from torch_np_bridge.cli.machine import cpu_model  # noqa: E402

COMPUTING, COPYING = 0.010, 0.005  # seconds a batch, and a copy; a batch has two


def main() -> None:
    """Profile the ways one after the other and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, nargs="?", default=ROOT / "docs" / "timeline.png")
    output = parser.parse_args().output
    fake = importlib.import_module("fake_device")
    importlib.import_module("fake_driver").register()
    three_ways = importlib.import_module("three_ways")

    class Slowed(three_ways.Classifier):  # type: ignore[misc, name-defined]
        def outputs(self) -> Iterator[dict[str, torch.Tensor]]:
            for outputs in super().outputs():
                # It adds one too: nobody looks at the shares here, only at the way that they take.
                fake.compute(outputs["shares"], COMPUTING)
                yield outputs

    classifier = Slowed("fake")
    three_ways.prefetched(classifier)  # page-locks what is needed
    fake.set_copy_cost(latency=COPYING)
    with tnb.profile() as profile:
        three_ways.accelerated(classifier)
        three_ways.prefetched(classifier)
    fake.restore_defaults()
    machine = f"simulated accelerator, {cpu_model()}, torch {torch.__version__}"
    profile.plot(output, title=f"{machine}: .cpu().numpy() under accelerate(), then prefetch_to_host()")


if __name__ == "__main__":
    main()
