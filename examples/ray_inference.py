"""Inference by Ray Data: a model on a pool of actors, arrays in and arrays out. Needs 'torch-np-bridge[ray,demo]'.

python examples/ray_inference.py [--device NAME]
"""

import argparse

import numpy as np
import ray
import torch
from rich.progress import track
from sklearn.datasets import load_digits

from torch_np_bridge.integrations.ray import Predictor

ACTORS = 2


class Classifier(torch.nn.Module):
    """The nearest of the means of ten kinds of images, in bfloat16 as large models are."""

    def __init__(self) -> None:
        super().__init__()
        digits = load_digits()
        images = torch.from_numpy(digits.data).float() / 16
        means = torch.stack([images[digits.target == label].mean(dim=0) for label in range(10)])
        self.register_buffer("means", means)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The share of each digit, and the best."""
        means = self.get_buffer("means")
        scores = 2 * images @ means.T - means.square().sum(dim=1)
        return {"shares": scores.softmax(dim=1).bfloat16(), "best": scores.argmax(dim=1)}


def main() -> None:
    """Send all images through the actors and compare the answers with the labels."""
    parser = argparse.ArgumentParser(description="Inference by Ray Data.")
    parser.add_argument("--device", default=None, help="of the actors; by default an accelerator, where they have one")
    options = parser.parse_args()
    if not ray.is_initialized():
        ray.init(num_cpus=ACTORS, object_store_memory=100 << 20, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False  # ours is below

    digits = load_digits()
    items = [
        {"row": row, "label": label, "image": image}
        for row, (label, image) in enumerate(zip(digits.target, (digits.data / 16).astype(np.float32), strict=True))
    ]
    answers = ray.data.from_items(items, override_num_blocks=8).map_batches(
        Predictor,
        fn_constructor_args=[Classifier, "image"],
        # Ray's blocks have no bfloat16: it is cast on the device, before the copy.
        fn_constructor_kwargs={
            "keep": ["row", "label"],
            "device": options.device,
            "dtype": {torch.bfloat16: np.float32},
        },
        batch_size=256,
        num_gpus=1 if torch.cuda.is_available() else 0,
        compute=ray.data.ActorPoolStrategy(size=1 if torch.cuda.is_available() else ACTORS),
    )
    right: dict[int, bool] = {}
    for answer in track(answers.iter_rows(), total=len(items), description="inference"):
        right[answer["row"]] = answer["best"] == answer["label"]
    assert sorted(right) == list(range(len(items)))
    share = sum(right.values()) / len(right)
    assert share > 0.85
    print(f"{len(right)} images, each once; {share:.1%} of the digits named right")


if __name__ == "__main__":
    main()
