"""Jobs of Ray Data on a cluster of two nodes, each a set of processes of its own: a program for test_ray_cluster.py.

It prints what came of them, as JSON. The actors have the simulated accelerator.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.cluster_utils import Cluster

from torch_np_bridge.integrations.ray import AsyncPredictor, Predictor

ROWS = 800
Model = Callable[[torch.Tensor], dict[str, torch.Tensor]]


def killed_once(marker: Path) -> bool:
    """Whether this caller, of all processes, is the first."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def make_model(folder: str, last_rows: tuple[int, ...]) -> Model:
    """A model whose process is killed when it has computed what is behind one of these rows, once for each."""
    import fake_device  # noqa: F401  registers the device type in this actor

    node = int(ray.get_runtime_context().get_node_id()[:12], 16)

    def model(row: torch.Tensor) -> dict[str, torch.Tensor]:
        squares = row * row
        for last in last_rows:
            if int(row[0]) > last and killed_once(Path(folder, str(last))):
                os.kill(os.getpid(), signal.SIGKILL)
        half = (row % 256).to(torch.bfloat16)
        return {
            "square": squares,
            "half": half,
            "node": torch.full_like(row, node),
            "process": torch.full_like(row, os.getpid()),
        }

    return model


def job(predictor: type, last_rows: tuple[int, ...]) -> dict[str, Any]:
    """All rows through a pool of two actors, one on each node."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = ray.data.from_items([{"id": row} for row in range(ROWS)], override_num_blocks=16).map_batches(
            predictor,
            fn_constructor_args=[lambda: make_model(folder, last_rows), "id"],
            fn_constructor_kwargs={"keep": ["id"], "device": "fake", "dtype": {torch.bfloat16: np.float32}},
            batch_size=25,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        rows = dataset.take_all()
        killed = len(list(Path(folder).iterdir()))
    return {
        "rows": sorted(row["id"] for row in rows),
        "right": all(row["square"] == row["id"] ** 2 and row["half"] == row["id"] % 256 for row in rows),
        "nodes": len({row["node"] for row in rows}),
        "processes": len({row["process"] for row in rows}),
        "killed": killed,
    }


def make_half() -> Callable[[torch.Tensor], torch.Tensor]:
    """A model that returns what Ray's blocks have no type for."""
    return lambda row: row.to(torch.bfloat16)


def refusal(predictor: type) -> str:
    """What the driver is told of an actor that refuses what its model returns."""
    dataset = ray.data.range(10, override_num_blocks=1).map_batches(
        predictor,
        fn_constructor_args=[make_half, "id"],
        fn_constructor_kwargs={"device": "cpu"},
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    try:
        return f"no error, but {dataset.take_all()}"
    except ray.exceptions.RayTaskError as error:
        return str(error)


def main() -> None:
    """Start the nodes, run the jobs, print."""
    cluster = Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.wait_for_min_actors_s = 120  # else one actor may have done all before the other is there
        outcome = {
            "alive": sum(node["Alive"] for node in ray.nodes()),
            "sync": job(Predictor, (120, 500)),
            "async": job(AsyncPredictor, (300,)),
            "refused": {"sync": refusal(Predictor), "async": refusal(AsyncPredictor)},
        }
    finally:
        ray.shutdown()
        cluster.shutdown()
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
