"""`integrations.arrow`: record batches and tensors over the very memory of the arrays, and Parquet files of them."""

from __future__ import annotations

import gc
from importlib import import_module
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from conftest import require
from helpers import hold

import torch_np_bridge as tnb

require("arrow")
pa: Any = import_module("pyarrow")
arrow: Any = import_module("torch_np_bridge.integrations.arrow")

ROWS = 1000


def tree(device: str) -> dict[str, Any]:
    return {
        "id": torch.arange(ROWS, device=device),
        "embedding": torch.arange(ROWS * 8.0).view(ROWS, 8).to(device),
        "image": torch.arange(ROWS * 12.0).view(ROWS, 3, 4).to(device),
        "half": torch.ones(ROWS, 2, dtype=torch.float16, device=device),
        "seen": (torch.arange(ROWS) % 3 == 0).to(device),
        "name": [f"row {row}" for row in range(ROWS)],
    }


def address(column: Any) -> int:
    """Of the values of a column of numbers, however it is nested."""
    storage = getattr(column, "storage", column)
    while pa.types.is_fixed_size_list(storage.type):
        storage = storage.values
    found: int = storage.buffers()[1].address
    return found


def test_a_mapping_becomes_a_record_batch(device: str) -> None:
    source = tree(device)
    batch = arrow.to_arrow(source)
    assert type(batch) is pa.RecordBatch
    batch.validate(full=True)
    assert batch.schema.names == list(source)
    assert batch.schema.field("embedding").type == pa.list_(pa.float32(), 8)
    assert batch.schema.field("image").type == pa.fixed_shape_tensor(pa.float32(), (3, 4))
    assert batch.schema.field("half").type == pa.list_(pa.float16(), 2)
    assert batch["id"].to_pylist() == list(range(ROWS))
    assert batch["embedding"].to_pylist() == source["embedding"].tolist()
    assert (batch["image"].to_numpy_ndarray() == source["image"].cpu().numpy()).all()
    assert batch["seen"].to_pylist() == source["seen"].tolist()
    assert batch["name"].to_pylist() == source["name"]


def test_the_buffers_are_the_arrays_memory(device: str) -> None:
    """Of what `prefetch_to_host` gave, and of a tensor on the CPU."""
    arrays = tnb.to_numpy(tree(device))
    batch = arrow.to_arrow(arrays)
    for name in ("id", "embedding", "image", "half"):
        assert address(batch[name]) == arrays[name].ctypes.data
    tensor = torch.rand(3, 4)
    assert address(arrow.to_arrow({"x": tensor})["x"]) == tensor.data_ptr()
    assert address(arrow.to_arrow({"x": tensor}, copy=True)["x"]) != tensor.data_ptr()


def test_a_batch_keeps_its_page_locked_memory_and_gives_it_back(native: str, accelerator: str) -> None:
    gc.collect()
    before = tnb.stats().leased_bytes
    batch = arrow.to_arrow({"x": torch.full((ROWS, 100), 7.0, device=accelerator)})
    held = tnb.stats().leased_bytes - before
    assert held >= ROWS * 100 * 4
    part = batch.slice(10, 1)["x"]
    del batch
    gc.collect()
    assert tnb.stats().leased_bytes - before == held, "a slice of a column keeps it"
    for _ in range(3):  # what another call would write, were the memory free
        tnb.to_numpy(torch.zeros(ROWS, 100, device=accelerator))
    assert part.to_pylist() == [[7.0] * 100]
    del part
    gc.collect()
    assert tnb.stats().leased_bytes == before


def test_a_tensor_keeps_its_memory_too(native: str, accelerator: str) -> None:
    gc.collect()
    before = tnb.stats().leased_bytes
    tensor = arrow.to_arrow(torch.full((100, 300), 7.0, device=accelerator).t())
    gc.collect()
    assert tnb.stats().leased_bytes >= before + 100 * 300 * 4
    assert (tensor.shape, tensor.strides) == ((300, 100), (4, 1200))
    assert (tensor.to_numpy() == 7).all()
    del tensor
    gc.collect()
    assert tnb.stats().leased_bytes == before


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (3, 0), (3, 4, 0), (1, 2, 3, 4)])
def test_shapes(device: str, shape: tuple[int, ...]) -> None:
    tensor = torch.arange(float(np.prod(shape))).view(shape).to(device)
    assert (arrow.to_arrow(tensor).to_numpy() == tensor.cpu().numpy()).all()
    if shape:
        column = arrow.to_arrow({"x": tensor})["x"]
        column.validate(full=True)
        assert len(column) == shape[0]


def test_tensors_that_are_not_contiguous(device: str) -> None:
    x = torch.arange(12.0, device=device).view(3, 4)
    batch = arrow.to_arrow({"turned": x.t(), "cut": x.t()[:, 1:]})
    assert batch["turned"].to_pylist() == x.t().tolist()
    assert batch["cut"].to_pylist() == x.t()[:, 1:].tolist()


def test_a_mapping_in_a_mapping_is_a_struct(device: str) -> None:
    batch = arrow.to_arrow({"a": {"b": torch.tensor([1, 2], device=device)}})
    assert batch["a"].to_pylist() == [{"b": 1}, {"b": 2}]


def test_what_arrow_has_no_dtype_for(device: str) -> None:
    half = torch.ones(2, 3, dtype=torch.bfloat16, device=device)
    with pytest.raises(TypeError, match=r"^tree\['y'\]: expected a dtype that Arrow has, got bfloat16; pass dtype="):
        arrow.to_arrow({"x": torch.ones(2), "y": half})
    with pytest.raises(TypeError, match=r"^tree: expected a dtype that Arrow has, got bfloat16"):
        arrow.to_arrow(half)
    with pytest.raises(TypeError, match=r"^tree\['x'\]\['y'\]: expected a dtype that Arrow has, got complex64"):
        arrow.to_arrow({"x": {"y": half.to(torch.complex64)}})
    assert arrow.to_arrow({"y": half}, dtype={torch.bfloat16: np.float32})["y"].to_pylist() == [[1.0] * 3] * 2
    with pytest.raises(TypeError, match="got float8_e5m2"):
        arrow.to_arrow({"y": np.ones(2, ml_dtypes.float8_e5m2)})


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ([torch.ones(2)], TypeError, "expected a tensor or a mapping of names to tensors, got list"),
        ({1: torch.ones(2)}, TypeError, r"tree\[1\]: expected a string as the name of a column, got int"),
        ({"loss": torch.ones(())}, ValueError, r"tree\['loss'\]: expected a dimension of rows, got shape \(\)"),
        ({"x": torch.ones(3), "name": "abc"}, TypeError, r"tree\['name'\]: expected a tensor, or .* got str"),
        ({"x": torch.ones(3), "n": 3}, TypeError, r"tree\['n'\]: expected a tensor, or a sequence .* got int"),
        ({"a": torch.ones(2), "b": torch.ones(3)}, ValueError, r"tree\['b'\]: expected 2 rows as 'a' has, got 3"),
    ],
)
def test_what_is_no_batch(wrong: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=f"^{words}"):
        arrow.to_arrow(wrong)


def batches(device: str, count: int) -> Any:
    for index in range(count):
        yield {"x": torch.full((10, 4), float(index), device=device), "batch": [index] * 10}


def test_a_parquet_file(device: str, tmp_path: Any) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("an older one")
    assert arrow.write_parquet(batches(device, 5), path, compression="zstd") == 50
    table = import_module("pyarrow.parquet").read_table(path)
    assert table["batch"].to_pylist() == [index for index in range(5) for _ in range(10)]
    assert table["x"].to_pylist() == [[float(index)] * 4 for index in range(5) for _ in range(10)]
    assert list(tmp_path.iterdir()) == [path]


def test_the_device_goes_on_while_a_batch_is_written(native: str, accelerator: str, tmp_path: Any) -> None:
    """The copy of the second batch cannot end before the first one is written."""
    written: list[bool] = []

    def produce() -> Any:
        yield from batches(accelerator, 1)
        with hold(accelerator):
            yield from batches(accelerator, 1)
            [partial] = tmp_path.glob("x.*.partial")
            written.append(partial.stat().st_size > 4)

    assert arrow.write_parquet(produce(), tmp_path / "x") == 20
    assert written == [True]


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Any) -> None:
    (tmp_path / "data.partial").write_text("mine")
    with pytest.raises(ValueError, match="depth"):
        arrow.write_parquet(batches("cpu", 1), tmp_path / "data", depth=0)
    arrow.write_parquet(batches("cpu", 1), tmp_path / "data")
    assert (tmp_path / "data.partial").read_text() == "mine"


def test_a_file_is_complete_or_not_there(device: str, tmp_path: Any) -> None:
    path = tmp_path / "rows.parquet"

    def broken() -> Any:
        yield from batches(device, 3)
        raise RuntimeError("the producer failed")

    with pytest.raises(RuntimeError, match="the producer failed"):
        arrow.write_parquet(broken(), path)
    with pytest.raises(ValueError, match="expected one batch at least"):
        arrow.write_parquet([], path)
    with pytest.raises(TypeError, match="got a tensor; pass"):
        arrow.write_parquet([torch.ones(2)], path)
    with pytest.raises(ValueError, match="schema"):
        arrow.write_parquet([{"x": torch.ones(2)}, {"y": torch.ones(2)}], path)
    assert list(tmp_path.iterdir()) == []


def test_a_parquet_file_of_many_batches_uses_memory_again(
    native: str, accelerator: str, fake: ModuleType, tmp_path: Any
) -> None:
    def produce(count: int) -> Any:
        for _ in range(count):
            yield {"x": torch.zeros(1000, 300, device=accelerator)}

    arrow.write_parquet(produce(4), tmp_path / "x")
    before = tnb.stats()
    arrow.write_parquet(produce(20), tmp_path / "x")
    assert tnb.stats().allocations == before.allocations
    assert tnb.stats().leased_bytes == before.leased_bytes
