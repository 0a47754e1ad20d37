#!/usr/bin/env python3
"""Rows a second of one actor of Ray Data, beside a plain callable, on the simulated accelerator.

Its computing and copying take the time that they are told to take, so the figures show what overlaps, and are of no
hardware. Needs torch-np-bridge[ray]; run with PYTHONPATH=.:tests in the repository.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import ray
import torch

from torch_np_bridge.integrations.ray import AsyncPredictor, Predictor

ROWS, BATCH, PARTS = 10_240, 256, 4
COMPUTING = COPYING = 0.02  # seconds for a batch
Columns = Mapping[str, Any]


def make_model() -> Callable[[torch.Tensor], torch.Tensor]:
    """A model of 64 numbers a row."""
    import fake_device

    fake_device.set_copy_cost(bandwidth=1e9, latency=COPYING)

    def model(row: torch.Tensor) -> torch.Tensor:
        output = row.to(torch.float32)[:, None].expand(-1, 64).contiguous()
        fake_device.compute(output, COMPUTING)
        return output

    return model


def timed(columns: Columns) -> dict[str, Any]:
    """When these rows were there."""
    return {"when": np.full(len(columns["output"]), time.time())}


class Plain:
    """As it is written everywhere: a batch at a time."""

    def __init__(self) -> None:
        self.model = make_model()

    def __call__(self, batch: Columns) -> Columns:
        """The rows of a batch."""
        return timed({"output": self.model(torch.from_numpy(batch["id"].copy()).to("fake")).cpu().numpy()})


class InParts(Predictor):
    """The synchronous class."""

    def __call__(self, batch: Columns) -> Iterator[dict[str, Any]]:
        """The rows of a batch, in parts."""
        return (timed(columns) for columns in super().__call__(batch))


class Asynchronous(AsyncPredictor):
    """The coroutine."""

    async def __call__(self, batch: Columns) -> dict[str, Any]:
        """The rows of a batch."""
        return timed(await super().__call__(batch))


def rows_a_second(kind: type, batch_size: int, arguments: list[Any], options: dict[str, Any]) -> float:
    """From the first rows that come to the last, so that the start of the actor does not count."""
    answers = ray.data.range(ROWS, override_num_blocks=2).map_batches(
        kind,
        fn_constructor_args=arguments,
        fn_constructor_kwargs=options,
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    when = np.array([row["when"] for row in answers.take_all()])
    return float((when > when.min()).sum() / (when.max() - when.min()))


def main() -> None:
    """Measure each kind, and print."""
    ray.init(num_cpus=2, object_store_memory=200 << 20, include_dashboard=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    fake = {"device": "fake"}
    plain = rows_a_second(Plain, BATCH, [], {})
    print(f"plain callable: {plain:,.0f} rows/s")
    for name, kind, size in (("Predictor", InParts, PARTS * BATCH), ("AsyncPredictor", Asynchronous, BATCH)):
        got = rows_a_second(kind, size, [make_model, "id"], fake)
        print(f"{name}: {got:,.0f} rows/s, {got / plain:.2f} times the plain callable's")


if __name__ == "__main__":
    main()
