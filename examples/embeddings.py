"""Embeddings of real images, written to an .npy file. Needs scikit-learn: pip install 'torch-np-bridge[demo]'.

python examples/embeddings.py [--device NAME] [--output FILE]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

import torch_np_bridge as tnb

BATCH = 256
WIDTH = 32


def main() -> None:
    """Embed scikit-learn's digits images batch by batch, each copied while the next one is computed."""
    parser = argparse.ArgumentParser(description="Embeddings of images, in a file.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir(), "digits_embeddings.npy"))
    options = parser.parse_args()

    images = torch.from_numpy(load_digits().data).float() / 16
    batches = torch.split(images, BATCH)
    # What the first half of the images varies in most is what the embedding keeps.
    _, _, directions = torch.linalg.svd(images[:900] - images[:900].mean(dim=0), full_matrices=False)
    basis = directions[:WIDTH].T.to(options.device)

    embeddings = np.lib.format.open_memmap(options.output, mode="w+", dtype=np.float32, shape=(len(images), WIDTH))
    written = 0
    previous: tnb.Transfer | None = None
    for batch in [*batches, None]:
        following = None if batch is None else tnb.to_numpy_async(batch.to(options.device) @ basis)
        if previous is not None:
            rows = previous.result()
            embeddings[written : written + len(rows)] = rows
            written += len(rows)
        previous = following
    embeddings.flush()

    stored = np.load(options.output)
    expected = np.concatenate([(batch.to(options.device) @ basis).cpu().numpy() for batch in batches])
    assert written == len(images)
    assert np.array_equal(stored, expected)
    print(f"{options.output}: {stored.shape[0]} embeddings of {stored.shape[1]} numbers, equal to .cpu().numpy()")


if __name__ == "__main__":
    main()
