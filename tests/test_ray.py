"""`integrations.ray` without a cluster: what a predictor makes of a batch, what overlaps, and what is refused."""

from __future__ import annotations

import asyncio
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from conftest import require
from helpers import Call, wait_until

require("ray")
integration: Any = import_module("torch_np_bridge.integrations.ray")

ROWS = 10


def batch() -> dict[str, Any]:
    values = np.arange(ROWS * 3, dtype=np.float32).reshape(ROWS, 3)
    values.flags.writeable = False  # as Ray's are
    return {"x": values, "y": np.arange(ROWS), "name": np.array([f"row {row}" for row in range(ROWS)], dtype=object)}


def double(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(2)  # in place: the batch must not change


def run(kind: str, batch: dict[str, Any], *args: Any, **options: Any) -> dict[str, Any]:
    """All rows of a batch, by either class."""
    if kind == "async":
        answer: dict[str, Any] = asyncio.run(integration.AsyncPredictor(*args, **options)(batch))
        return answer
    parts = list(integration.Predictor(*args, **options)(batch))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_a_tensor_becomes_a_column(device: str, kind: str) -> None:
    source = batch()
    got = run(kind, source, lambda: double, "x", device=device, keep=["name"])
    assert list(got) == ["output", "name"]
    assert (got["output"] == 2 * np.arange(ROWS * 3).reshape(ROWS, 3)).all()
    assert (got["name"] == source["name"]).all()
    assert source["x"][1, 0] == 3


def test_several_inputs_and_outputs(device: str, kind: str) -> None:
    def model(x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": x.sum(dim=1) + y, "y": y}

    got = run(kind, batch(), lambda: model, ["y", "x"], device=device)
    assert got["sum"].tolist() == [9 * row + 3 + row for row in range(ROWS)]
    assert got["y"].tolist() == list(range(ROWS))


def test_a_module_runs_on_the_device_and_without_gradients(device: str, kind: str) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5))
    expected = module[0](torch.from_numpy(batch()["x"].copy())).detach().numpy()
    got = run(kind, batch(), module, "x", device=device, output="scores")
    assert np.allclose(got["scores"], expected)
    assert not module.training
    assert {parameter.device.type for parameter in module.parameters()} == {device}


@pytest.mark.parametrize(("parts", "sizes"), [(1, [10]), (3, [4, 4, 2]), (4, [3, 3, 3, 1]), (99, [1] * 10)])
def test_the_parts_of_a_batch(parts: int, sizes: list[int]) -> None:
    predictor = integration.Predictor(lambda: double, "y", device="cpu", parts=parts)
    assert [len(part["output"]) for part in predictor(batch())] == sizes


def test_a_batch_without_rows(kind: str) -> None:
    empty = {name: values[:0] for name, values in batch().items()}
    assert run(kind, empty, lambda: double, "x", device="cpu", keep=["y"])["output"].shape == (0, 3)


def test_the_device_is_the_current_accelerator() -> None:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    expected = accelerator.type if accelerator is not None else "cpu"
    found: list[str] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        found.append(x.device.type)
        return x

    run("sync", batch(), lambda: model, "x", parts=1)
    assert found == [expected]


def test_a_device_that_is_not_the_current_one(native: str, fake: ModuleType) -> None:
    """Its columns are not written over before it has read them."""
    names = list("abcdef")
    columns = {name: np.full(1000, float(value), np.float32) for value, name in enumerate(names)}

    def copied(count: int) -> bool:
        return bool(fake.counters(1).copies_h2d == count)

    predictor = integration.Predictor(lambda: dict, names, device="fake:1", parts=1)
    for _ in range(4):  # the first has fresh memory for each
        before = fake.counters(1).copies_h2d
        with fake.hold(torch.accelerator.current_stream(torch.device("fake", 1))):
            answer = Call(lambda: list(predictor(columns)))
            wait_until(partial(copied, before + len(names)))
        [got] = answer.result()
        assert all((got[name] == columns[name]).all() for name in names)
    assert torch.accelerator.current_device_index() == 0


def test_the_next_part_is_computed_while_one_is_copied(native: str, fake: ModuleType) -> None:
    calls: list[int] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return x * 2

    predictor = integration.Predictor(lambda: model, "x", device="fake", parts=2)
    parts = predictor(batch())
    with fake.hold_copies():
        first = Call(lambda: next(parts))
        wait_until(lambda: len(calls) == 2)
        assert not first.done()
    assert (first.result()["output"] == 2 * batch()["x"][:5]).all()
    assert (next(parts)["output"] == 2 * batch()["x"][5:]).all()


def test_the_next_batch_is_computed_while_one_is_copied(native: str, fake: ModuleType) -> None:
    calls: list[int] = []

    def model(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return x * 2

    async def main() -> None:
        predictor = integration.AsyncPredictor(lambda: model, "x", device="fake")
        with fake.hold_copies():
            tasks = [asyncio.create_task(predictor(batch())) for _ in range(2)]
            while len(calls) < 2:
                await asyncio.sleep(0)
            assert not any(task.done() for task in tasks)
        for columns in await asyncio.gather(*tasks):
            assert (columns["output"] == 2 * batch()["x"]).all()

    asyncio.run(main())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e5m2, torch.complex64])
def test_what_no_block_holds_is_cast_or_refused(device: str, kind: str, dtype: torch.dtype) -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return x.to(dtype)

    words = r"^output\['output'\]: expected a dtype that Ray's blocks hold, got .*; pass dtype="
    with pytest.raises(TypeError, match=words):
        run(kind, batch(), lambda: model, "y", device=device)
    wanted = {torch.complex64: np.float64}.get(dtype, np.float32)
    if dtype is not torch.complex64:
        assert run(kind, batch(), lambda: model, "y", device=device, dtype={dtype: wanted})["output"].dtype == wanted


def test_tensors_in_a_batch(device: str, kind: str) -> None:
    """On the accelerator and of bfloat16, as another function may have put them there; both as inputs and kept."""
    half = torch.arange(ROWS, dtype=torch.bfloat16)
    source = {"x": half.to(device), "y": half, "kept": half.to(device)}
    got = run(
        kind,
        source,
        lambda: lambda x, y: {"sum": x + y},
        ["x", "y"],
        keep=["kept"],
        device=device,
        dtype={torch.bfloat16: np.float32},
    )
    assert got["sum"].tolist() == [2 * row for row in range(ROWS)]
    assert got["kept"].tolist() == list(range(ROWS))
    assert got["sum"].dtype == got["kept"].dtype == np.float32


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 2)])
@pytest.mark.parametrize("as_objects", [False, True])
def test_arrays_of_bfloat16_in_a_batch(device: str, kind: str, shape: tuple[int, ...], as_objects: bool) -> None:
    """Ray hands on what Arrow has no type for as one object for each row."""
    values = np.arange(np.prod(shape)).reshape(shape).astype(ml_dtypes.bfloat16)
    source = values
    if as_objects:
        source = np.empty(ROWS, dtype=object)
        source[:] = list(values)
    got = run(kind, {"x": source}, lambda: lambda x: x.to(torch.float32), "x", device=device)
    assert (got["output"] == values.astype(np.float32)).all()


def ragged() -> dict[str, Any]:
    rows = np.empty(2, dtype=object)
    rows[:] = [np.ones(2), np.ones(3)]
    return {"x": rows}


@pytest.mark.parametrize(
    ("source", "model", "options", "error", "words"),
    [
        (
            batch(),
            double,
            {"inputs": "z"},
            ValueError,
            "expected a batch with the column 'z', got one with 'x', 'y', 'name'",
        ),
        (batch(), double, {"inputs": "x", "keep": ["z"]}, ValueError, "expected a batch with the column 'z'"),
        (batch(), double, {"inputs": "x", "keep": "y"}, TypeError, r"expected a sequence .* got 'y'; pass \['y'\]"),
        (batch(), double, {"inputs": "name"}, TypeError, r"batch\['name'\]: expected a column of numbers, got <U5"),
        (ragged(), double, {"inputs": "x"}, ValueError, r"batch\['x'\]: expected rows of one shape, got several"),
        (batch()["x"], double, {"inputs": "x"}, TypeError, "expected a batch of arrays by name, got ndarray"),
        (batch(), lambda x: (x,), {"inputs": "x"}, TypeError, "expected a model that returns a tensor or .* got tuple"),
        (batch(), lambda x: {"a": 1}, {"inputs": "x"}, TypeError, r"output\['a'\]: expected a tensor, got int"),
        (
            batch(),
            lambda x: x.sum(),
            {"inputs": "x"},
            ValueError,
            r"output\['output'\]: expected a row .* got shape \(\)",
        ),
        (batch(), lambda x: x[:1], {"inputs": "x", "keep": ["y"]}, ValueError, "expected as many rows in each column"),
        (batch(), lambda x: {"y": x}, {"inputs": "x", "keep": ["y"]}, ValueError, "got 'y' of both"),
    ],
)
def test_refusals_are_sentences(
    kind: str, source: Any, model: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        run(kind, source, lambda: model, device="cpu", **options)


def test_parts_below_one() -> None:
    with pytest.raises(ValueError, match="expected parts to be 1 or more, got 0"):
        integration.Predictor(lambda: double, "x", parts=0)
