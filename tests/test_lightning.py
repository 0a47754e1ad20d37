"""`integrations.lightning`: predictions are written as arrays in their order, metrics get all rows, copies overlap."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from commands import run_python
from conftest import require
from helpers import ROOT

import torch_np_bridge as tnb

require("lightning")
integration: Any = import_module("torch_np_bridge.integrations.lightning")
lightning: Any = import_module("lightning.pytorch")

ROWS, BATCH = 25, 4


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Lightning warns of few workers and of what it will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Doubling(lightning.LightningModule):  # type: ignore[misc]  # its types are not looked at
    def __init__(self, device: str) -> None:
        super().__init__()
        self.where = device
        self.steps = 0

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, Any]:
        self.steps += 1
        return {"doubled": batch.to(self.where) * 2, "batch": batch_idx}


class Written(integration.PredictionWriter):  # type: ignore[misc]
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.arrays: list[np.ndarray[Any, Any]] = []
        self.indices: list[int] = []
        self.steps: list[int] = []

    def write_on_batch_end(
        self, trainer: Any, module: Any, prediction: Any, indices: Any, batch: Any, batch_idx: int, loader: int
    ) -> None:
        assert type(prediction["doubled"]) is np.ndarray
        assert prediction["batch"] == batch_idx == len(self.arrays)
        assert (prediction["doubled"] == 2 * batch.numpy()).all()
        self.arrays.append(prediction["doubled"])
        self.indices += indices
        self.steps.append(module.steps)


def predict(module: Any, writer: Any) -> None:
    rows: Any = torch.arange(float(ROWS))
    loader = torch.utils.data.DataLoader(rows, batch_size=BATCH)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, callbacks=[writer]
    )
    trainer.predict(module, loader, return_predictions=False)


@pytest.mark.parametrize("depth", [1, 2, 3, 100])
def test_every_prediction_is_written_once_and_in_order(device: str, depth: int) -> None:
    module, writer = Doubling(device), Written(depth=depth)
    predict(module, writer)
    assert np.concatenate(writer.arrays).tolist() == [2.0 * row for row in range(ROWS)]
    assert writer.indices == list(range(ROWS))
    steps = -(-ROWS // BATCH)
    assert writer.steps == [min(step + depth, steps) for step in range(steps)]


def test_the_next_step_runs_while_a_prediction_is_copied(native: str, fake: ModuleType) -> None:
    class Held(Doubling):
        latch: Any

        def predict_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, Any]:
            if batch_idx == 1:
                self.latch.release()  # nothing has waited for the copy of the first one
            outputs = super().predict_step(batch, batch_idx)
            if batch_idx == 0:
                self.latch = fake.hold_copies()
            return outputs

    writer = Written()
    predict(Held("fake"), writer)
    assert writer.steps[0] == 2


def test_predictions_are_cast() -> None:
    class Half(Doubling):
        def predict_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, Any]:
            return {"doubled": (batch * 2).to(torch.bfloat16), "batch": batch_idx}

    writer = Written(dtype={torch.bfloat16: np.float32})
    predict(Half("cpu"), writer)
    assert {array.dtype for array in writer.arrays} == {np.dtype(np.float32)}


def test_after_an_exception_nothing_is_left(device: str) -> None:
    class Broken(Doubling):
        def predict_step(self, batch: torch.Tensor, batch_idx: int) -> dict[str, Any]:
            if batch_idx == 2:
                raise RuntimeError("the model failed")
            return super().predict_step(batch, batch_idx)

    writer = Written()
    with pytest.raises(RuntimeError, match="the model failed"):
        predict(Broken(device), writer)
    assert len(writer.arrays) == 1
    writer.arrays.clear()
    predict(Doubling(device), writer)
    assert np.concatenate(writer.arrays).tolist() == [2.0 * row for row in range(ROWS)]


def test_a_metric_of_all_rows(device: str) -> None:
    collector = integration.MetricCollector(dtype={torch.bfloat16: np.float32})
    for epoch in range(2):
        for rows in torch.arange(ROWS, device=device).split(BATCH):
            collector.update(scores=(rows + epoch).to(torch.bfloat16), labels=rows % 2)
        arrays = collector.collect()
        assert arrays["scores"].tolist() == [row + epoch for row in range(ROWS)]
        assert arrays["labels"].tolist() == [row % 2 for row in range(ROWS)]
    assert collector.collect() == {}


def test_every_rank_gets_the_rows_of_all(tmp_path: Path) -> None:
    """Two processes with different numbers of rows, one of them with a name and an epoch that the other has not."""
    program = str(ROOT / "tests" / "collected_by_ranks.py")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = run_python(*torchrun, program, str(tmp_path), OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    epochs = [{"row": [0, 1, 2, 3, 4, 100, 101], "other": [0, 1]}, {"row": [100, 101], "other": [0, 1]}]
    for rank in range(2):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == epochs


def test_a_tensor_on_the_cpu_may_be_written_again() -> None:
    collector = integration.MetricCollector()
    rows = torch.zeros(2)
    for value in range(5):
        collector.update(rows=rows.fill_(value))
    assert collector.collect()["rows"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_collecting_does_not_wait_and_holds_little_page_locked_memory(native: str, fake: ModuleType) -> None:
    collector = integration.MetricCollector(depth=3)
    gc.collect()
    before = tnb.stats().leased_bytes
    with fake.hold_copies():
        for _ in range(3):
            collector.update(rows=torch.ones(1000, device="fake"))
    most = 0
    for _ in range(20):
        collector.update(rows=torch.ones(1000, device="fake"))
        most = max(most, tnb.stats().leased_bytes - before)
    assert most <= 4 * 4096  # three batches, and one that is moved
    assert (collector.collect()["rows"] == np.ones(23_000)).all()
    gc.collect()
    assert tnb.stats().leased_bytes == before


@pytest.mark.parametrize(("wrong", "got"), [(torch.ones(()), r"shape \(\)"), (1.0, "float")])
def test_what_has_no_rows(wrong: Any, got: str) -> None:
    with pytest.raises(TypeError, match=f"^loss: expected a tensor with a row for each row of the batch, got {got}"):
        integration.MetricCollector().update(loss=wrong)


@pytest.mark.parametrize("kind", [integration.MetricCollector, Written])
def test_a_depth_below_one(kind: Any) -> None:
    with pytest.raises(ValueError, match="expected depth to be 1 or more, got 0"):
        kind(depth=0)
