"""`bench --tune`: it measures where a kernel runs, prints what the sources should have, and refuses elsewhere."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import pytest
import torch
from kernel_on_cpu.library import Kernels

from torch_np_bridge.__main__ import main
from torch_np_bridge.cli import tune
from torch_np_bridge.cli.tune import Row, Shape
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.engine import Extension, extension


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["bench", "--tune", *arguments]) == 2
    return capsys.readouterr().err


def test_without_a_gpu_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--tune: expected a GPU to measure on, got cpu" in refusal(capsys, "--device", "cpu")


@pytest.mark.parametrize("option", [["--only", "N10"], ["--json", "tuned.json"]])
def test_other_options_are_refused(capsys: pytest.CaptureFixture[str], option: list[str]) -> None:
    assert "expected neither --only nor --json nor --plot" in refusal(capsys, "--device", "cpu", *option)


def test_a_device_without_kernels_is_refused(
    native: EngineChoice, fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(capsys, "--quick", "--device", "fake")
    assert "--tune: expected a device that the CUDA kernels in this build run on, got fake:0" in said


def test_without_the_native_engine_it_is_refused(
    fake: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "extension", lambda: Extension(None, None, "not built"))
    assert "expected the native engine, got none: not built" in refusal(capsys, "--quick", "--device", "fake")


def test_it_measures_each_way_and_prints_the_table(
    cuda_entries: Kernels, fake: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.reset_counters()
    assert main(["bench", "--tune", "--quick", "--device", "fake", "--load", "fake_device"]) == 0
    said = capsys.readouterr().out
    assert {way for way in ("mapped", "staged", "each") if f" {way} " in said} == {"mapped", "staged", "each"}
    assert re.search(r"MAX_BLOCKS = \d+;\n  inline constexpr unsigned THREADS = (64|128|256);", said)
    assert "largest_shared_leaf = " in said
    assert "STAGED_FROM" in said
    assert "The device is simulated" in said
    assert cuda_entries.driver.launches > 0
    assert (fake.last_error(), fake.counters().stream_synchronizes) == (None, 0)


@pytest.mark.parametrize("shape", tune.SHAPES, ids=str)
def test_every_shape_is_one_that_the_kernel_takes(cuda_entries: Kernels, shape: Shape) -> None:
    tensors = [torch.arange(index, index + 800).to("fake") for index in range(20)]
    torch.accelerator.synchronize()
    module: Any = extension().module
    for way in ("mapped", "staged", "each"):
        seconds, arrived = module.time_copies(tensors, way, shape.blocks, shape.threads)
        assert seconds > 0
        for row, tensor in zip(arrived.view(20, -1), tensors, strict=True):
            assert torch.equal(row[: tensor.nbytes].view(torch.int64), tensor.cpu())
    assert cuda_entries.driver.threads == shape.threads
    assert cuda_entries.driver.blocks <= shape.blocks


def test_an_error_of_the_driver_is_a_refusal(cuda_entries: Kernels, capsys: pytest.CaptureFixture[str]) -> None:
    cuda_entries.driver.fail("launch", 209)
    assert "expected the driver to copy tensors of fake:0, got status 209" in refusal(
        capsys, "--quick", "--device", "fake"
    )


@pytest.mark.usefixtures("cuda_entries")
def test_wrong_bytes_end_it(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "equal", lambda *_: False)
    assert main(["bench", "--tune", "--quick", "--device", "fake"]) == 1
    assert "FAILED: expected the bytes of the tensors, got others by the way" in capsys.readouterr().out


SHAPE = Shape(8, 64)


def row(tree: str, way: Any, seconds: float, shape: Shape = SHAPE) -> Row:
    return Row(tree, way, shape, seconds)


def test_the_best_shape_is_so_for_all_trees() -> None:
    """Not the one that wins where times are longest."""
    narrow, wide = Shape(8, 64), Shape(32, 256)
    rows = [
        row("large", "mapped", 1.00, narrow), row("large", "mapped", 0.98, wide),
        row("small", "mapped", 0.010, narrow), row("small", "mapped", 0.015, wide),
        row("small", "staged", 0.001, wide),
    ]  # fmt: skip
    assert tune.best_shape(rows) == narrow


@pytest.mark.parametrize(("kernel", "largest"), [([1, 1, 1], 1024), ([1, 3, 1], 256), ([3, 1, 1], 0)])
def test_the_threshold_is_where_copies_begin_to_win(kernel: list[float], largest: int) -> None:
    sizes = [
        part
        for size, seconds in zip((256, 512, 1024), kernel, strict=True)
        for part in (row(f"{size} B", "mapped", seconds), row(f"{size} B", "each", 2))
    ]
    assert tune.threshold(sizes) == largest


@pytest.mark.parametrize(("staged", "least"), [([3, 1, 1], 512 * 64), ([1, 3, 1], 1024 * 64), ([1, 1, 3], None)])
def test_staging_pays_from_where_it_wins_to_the_end(staged: list[float], least: int | None) -> None:
    sizes = [
        part
        for size, seconds in zip((256, 512, 1024), staged, strict=True)
        for part in (row(f"{size} B", "staged", seconds), row(f"{size} B", "mapped", 2))
    ]
    assert tune.staged_from(sizes) == least
