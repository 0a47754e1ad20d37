"""A loop whose copies overlap its computing: two transfers stay in flight while the next batch is made.

python examples/pipeline.py [--device NAME]
"""

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

import torch_np_bridge as tnb

Batch = dict[str, torch.Tensor]
Arrays = dict[str, np.ndarray[Any, Any]]


def overlapped(
    batches: Iterable[torch.Tensor], compute: Callable[[torch.Tensor], Batch], depth: int
) -> Iterator[Arrays]:
    """What `compute` makes of each batch, as arrays, in order; up to `depth` copies are under way meanwhile."""
    transfers: deque[tnb.Transfer] = deque()
    for batch in batches:
        # Returns at once: the copy starts when the device has made the outputs, and the next batch can be submitted.
        # The outputs need not be kept: the transfer keeps them alive until the copy has ended.
        transfers.append(tnb.to_numpy_async(compute(batch)))
        if len(transfers) > depth:
            yield transfers.popleft().result()
    while transfers:
        yield transfers.popleft().result()


def main() -> None:
    """Compare the pipeline with one blocking copy after another."""
    parser = argparse.ArgumentParser(description="Copies that overlap computing.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    device = torch.device(parser.parse_args().device)

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 32, generator=generator).to(device)
    batches = [torch.randn(256, 64, generator=generator).to(device) for _ in range(10)]

    def compute(batch: torch.Tensor) -> Batch:
        scores = (batch @ weight).tanh()
        return {"scores": scores, "best": scores.argmax(dim=1)}

    count = 0
    for batch, arrays in zip(batches, overlapped(batches, compute, depth=2), strict=True):
        expected = {name: output.cpu().numpy() for name, output in compute(batch).items()}
        assert arrays.keys() == expected.keys()
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected)
        count += len(arrays["best"])
    assert count == 10 * 256
    print(f"{device}, {tnb.engine_info().engine} engine: {count} rows, equal to those of .cpu().numpy()")


if __name__ == "__main__":
    main()
