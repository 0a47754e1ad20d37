"""The work of the demo: features of scikit-learn's digits images from a small network, and a classifier on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..bridge import Bridge
from ..transfer import Transfer

Array = np.ndarray[Any, Any]

BATCH = 128
FILTERS = 32
IN_FLIGHT = 2
TRAINING_IMAGES = 1200
SEED = 0


class RandomFilters(torch.nn.Module):
    """One convolution with random filters of 3 by 3, halved in size by its maxima: 512 features an image.

    It is written as a product of matrices, which every device type has; few have all kinds of convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        # Drawn on the CPU, so that every device gets the same filters.
        generator = torch.Generator().manual_seed(SEED)
        self.filters = torch.nn.Parameter(torch.randn(FILTERS, 9, generator=generator) / 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The features of images, one row each."""
        patches = torch.nn.functional.unfold(images.unsqueeze(1), kernel_size=3, padding=1)
        maps = (self.filters @ patches).relu().view(-1, FILTERS, *images.shape[1:])
        return torch.nn.functional.max_pool2d(maps, 2).flatten(1)


class Digits:
    """The images, in batches on a device, the network that turns them into features, and their labels."""

    def __init__(self, device: torch.device, after_batch: Callable[[torch.Tensor], object] | None) -> None:
        """``after_batch`` is called with each batch of features, on the device, before it leaves for the host."""
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = (torch.from_numpy(bunch.images).float() / 16).to(device)
        self.labels: Array = bunch.target
        self.batches: tuple[torch.Tensor, ...] = torch.split(images, BATCH)
        self._after_batch = after_batch
        self._network = RandomFilters().to(device)

    def features(self, batch: torch.Tensor) -> torch.Tensor:
        """The features of one batch, on the device."""
        with torch.inference_mode():
            features: torch.Tensor = self._network(batch)
            if self._after_batch is not None:
                self._after_batch(features)
        return features

    def accuracy(self, features: Sequence[Array]) -> float:
        """How many of the other images a classifier names rightly that was trained on the first ones."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows = np.concatenate(features)
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        classifier.fit(rows[:TRAINING_IMAGES], self.labels[:TRAINING_IMAGES])
        return float(classifier.score(rows[TRAINING_IMAGES:], self.labels[TRAINING_IMAGES:]))


def by_cpu_numpy(digits: Digits, advance: Callable[[], object]) -> list[Array]:
    """All features, each batch copied before the next one is computed."""
    arrays = []
    for batch in digits.batches:
        arrays.append(digits.features(batch).cpu().numpy())
        advance()
    return arrays


def by_bridge(digits: Digits, bridge: Bridge, advance: Callable[[], object]) -> list[Array]:
    """All features, the copies of the last batches under way while the next one is computed."""
    arrays: list[Array] = []
    in_flight: deque[Transfer] = deque()
    for batch in digits.batches:
        in_flight.append(bridge.to_numpy_async(digits.features(batch)))
        if len(in_flight) > IN_FLIGHT:
            arrays.append(in_flight.popleft().result())
        advance()
    arrays.extend(transfer.result() for transfer in in_flight)
    return arrays
