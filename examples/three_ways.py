"""Metrics of a classifier of images, in three ways that give the same. Needs scikit-learn: 'torch-np-bridge[demo]'.

python examples/three_ways.py [--device NAME]
"""

import argparse
from collections.abc import Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

import torch_np_bridge as tnb

BATCH = 200
Outputs = dict[str, np.ndarray]


class Classifier:
    """The nearest of the means of ten kinds of images, on a device."""

    def __init__(self, device: str) -> None:
        digits = load_digits()
        images = torch.from_numpy(digits.data).float() / 16
        self.labels = digits.target
        self.means = torch.stack([images[self.labels == label].mean(dim=0) for label in range(10)]).to(device)
        self.images = images.to(device)

    def outputs(self) -> Iterator[dict[str, torch.Tensor]]:
        """What the device makes of each batch."""
        for batch in self.images.split(BATCH):
            scores = 2 * batch @ self.means.T - self.means.square().sum(dim=1)
            yield {"shares": scores.softmax(dim=1), "best": scores.argmax(dim=1)}


def plain(classifier: Classifier) -> list[Outputs]:
    """As it is written everywhere."""
    return [{name: x.cpu().numpy() for name, x in outputs.items()} for outputs in classifier.outputs()]


def accelerated(classifier: Classifier) -> list[Outputs]:
    """The same code, unchanged, for where it cannot be edited."""
    with tnb.accelerate():
        return plain(classifier)


def prefetched(classifier: Classifier) -> list[Outputs]:
    """Each batch is copied while the next one is computed."""
    return list(tnb.prefetch_to_host(classifier.outputs()))


def metrics(batches: list[Outputs], labels: np.ndarray) -> tuple[float, float]:
    """The share of images that are recognised, and the loss, by NumPy and scikit-learn."""
    best, shares = (np.concatenate([batch[name] for batch in batches]) for name in ("best", "shares"))
    return float((best == labels).mean()), float(log_loss(labels, shares))


def main() -> None:
    """Run all three, and compare."""
    parser = argparse.ArgumentParser(description="Metrics in three ways.")
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    parser.add_argument("--device", default=str(accelerator or "cpu"))
    classifier = Classifier(parser.parse_args().device)
    results = [way(classifier) for way in (plain, accelerated, prefetched)]
    for got in results[1:]:
        for batch, expected in zip(got, results[0], strict=True):
            assert all(np.array_equal(batch[name], expected[name]) for name in expected)
    accuracy, loss = metrics(results[2], classifier.labels)
    assert metrics(results[0], classifier.labels) == metrics(results[1], classifier.labels) == (accuracy, loss)
    assert accuracy > 0.8
    device = classifier.images.device
    print(f"{device}: {accuracy:.3f} of {len(classifier.labels)} images, loss {loss:.3f}, three ways alike")


if __name__ == "__main__":
    main()
