"""Rows through one actor of Ray Data, by the integration and by a plain callable.

On the simulated accelerator, whose computing and copying take the time that they are told to take: the figures show
what overlaps. Needs torch-np-bridge[ray].
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import harness
import numpy as np
import torch

from torch_np_bridge.cli.bench.results import Measured
from torch_np_bridge.cli.bench.timing import Plan, ratio, times, turns
from torch_np_bridge.integrations.ray import AsyncPredictor, Predictor  # says what is missing, before Ray is imported

BATCH, PARTS = 256, 4
COMPUTING = COPYING = 0.02  # seconds for a batch
RUNS = 5
PLAIN = "plain callable"
Columns = Mapping[str, Any]


def main() -> int:
    """Measure and print."""
    _, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, measure)


def measure(quick: bool) -> Measured:
    """The three ways, each run with an actor of its own."""
    import ray

    folders = (harness.ROOT, harness.ROOT / "tests")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, folders))  # of the actors
    rows = (8 if quick else 40) * BATCH
    kinds: dict[str, tuple[type, int, list[Any], dict[str, Any]]] = {
        "Predictor": (InParts, PARTS * BATCH, [make_model, "id"], {"device": "fake"}),
        "AsyncPredictor": (Asynchronous, BATCH, [make_model, "id"], {"device": "fake"}),
        PLAIN: (Plain, BATCH, [], {}),
    }
    ray.init(num_cpus=2, object_store_memory=200 << 20, include_dashboard=False, logging_level="ERROR")
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        runs = {name: (lambda kind=kind: seconds_a_row(rows, *kind)) for name, kind in kinds.items()}
        seconds = turns(runs, Plan(least=1, most=1, seconds=0) if quick else harness.plan(quick, RUNS))
    finally:
        ray.shutdown()
    case = f"a row, {BATCH} of them a batch, {COMPUTING * 1000:g} ms of computing and of each copy"
    ratios = [ratio(case, seconds, name, PLAIN, "time") for name in kinds if name != PLAIN]
    notes = [
        f"{rows:,} rows of 64 float32 a run, each run by an actor of its own, from the first rows that come to the "
        f"last; {len(seconds[PLAIN])} in turns. {PARTS} parts of {BATCH} rows are a batch of Predictor's."
    ]
    return Measured([*times(case, seconds, "time", "µs"), *ratios], notes=notes)


def seconds_a_row(rows: int, kind: type, batch_size: int, arguments: list[Any], options: dict[str, Any]) -> float:
    """From the first rows that come to the last, so that the start of the actor does not count."""
    import ray

    answers = ray.data.range(rows, override_num_blocks=2).map_batches(
        kind,
        fn_constructor_args=arguments,
        fn_constructor_kwargs=options,
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    when = np.array([row["when"] for row in answers.take_all()])
    return float((when.max() - when.min()) / (when > when.min()).sum())


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


if __name__ == "__main__":
    sys.exit(main())
