"""A loop whose copies overlap its computing: the next batch is made while the last one is copied.

python examples/pipeline.py [--device NAME]
"""

import argparse

import numpy as np
import torch

import torch_np_bridge as tnb

Batch = dict[str, torch.Tensor]


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
    # Each output is copied while the next ones are computed; they need not be kept, the transfers keep them alive.
    for batch, arrays in zip(batches, tnb.prefetch_to_host(map(compute, batches)), strict=True):
        expected = {name: output.cpu().numpy() for name, output in compute(batch).items()}
        assert arrays.keys() == expected.keys()
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected)
        count += len(arrays["best"])
    assert count == 10 * 256
    print(f"{device}, {tnb.engine_info().engine} engine: {count} rows, equal to those of .cpu().numpy()")


if __name__ == "__main__":
    main()
