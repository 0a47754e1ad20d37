"""Embeddings of real images, written to a Parquet file while the device computes. Needs 'torch-np-bridge[arrow,demo]'.

python examples/parquet_embeddings.py [--device NAME] [--output FILE]
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet
from rich.progress import track
from sklearn.datasets import load_digits

from torch_np_bridge.integrations.arrow import write_parquet

BATCH = 256
WIDTH = 16


def embeddings(images: torch.Tensor, labels: np.ndarray, basis: torch.Tensor) -> Iterator[dict[str, Any]]:
    """Batches of a table: the row, its label, and its embedding, in bfloat16 as large models give it."""
    for first in track(range(0, len(images), BATCH), description="embedding"):
        rows = np.arange(first, min(first + BATCH, len(images)))
        vectors = (images[first : first + BATCH] @ basis).bfloat16()
        yield {"row": rows, "label": labels[rows], "embedding": vectors}


def neighbours_agree(path: Path) -> float:
    """Of how many images the nearest other one, by its embedding in the file, shows the same digit."""
    table = parquet.read_table(path)
    vectors = np.stack(table["embedding"].to_numpy())
    labels = table["label"].to_numpy()
    distances = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(axis=1)] == labels).mean())


def main() -> None:
    """Write the file, read it again, and say what the embeddings are worth."""
    parser = argparse.ArgumentParser(description="Embeddings of images, in a Parquet file.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    parser.add_argument("--output", type=Path, default=Path(tempfile.gettempdir(), "digits_embeddings.parquet"))
    options = parser.parse_args()

    digits = load_digits()
    images = torch.from_numpy(digits.data).float() / 16
    # What the first half of the images varies in most is what the embedding keeps.
    _, _, directions = torch.linalg.svd(images[:900] - images[:900].mean(dim=0), full_matrices=False)
    basis = directions[:WIDTH].T.to(options.device)

    # Arrow has no bfloat16: it is cast on the device, before the copy.
    batches = embeddings(images.to(options.device), digits.target, basis)
    rows = write_parquet(batches, options.output, dtype={torch.bfloat16: np.float32}, compression="zstd")

    share = neighbours_agree(options.output)
    assert rows == len(images)
    assert share > 0.95
    print(f"{options.output}: {rows} embeddings of {WIDTH} numbers; {share:.1%} of the nearest neighbours agree")


if __name__ == "__main__":
    main()
