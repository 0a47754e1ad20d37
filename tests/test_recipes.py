"""Each section of docs/recipes.md and docs/integrations.md runs, behind the beginning that a page's sections share."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import require
from helpers import ROOT, Array

import torch_np_bridge as tnb

FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BEGINNINGS: dict[str, list[str]] = {}  # by page
BLOCKS: dict[tuple[str, str], list[str]] = {}  # by page and section
for page in ("recipes.md", "integrations.md"):
    beginning, *sections = re.split(r"^## ", (ROOT / "docs" / page).read_text(), flags=re.MULTILINE)
    BEGINNINGS[page] = FENCE.findall(beginning)
    BLOCKS |= {(page, text.partition("\n")[0]): FENCE.findall(text) for text in sections}
NEEDS = {
    "Zarr": ["zarr"],
    "HDF5": ["h5py"],
    "scikit-learn": ["sklearn"],
    "Hugging Face": ["transformers", "accelerate"],
    "TensorDict": ["tensordict"],
    "Arrow": ["arrow"],
    "Lightning": ["lightning"],
}
PROGRAM = ("recipes.md", "Evaluation on several processes")


def test_every_recipe_has_code() -> None:
    assert all(blocks for (page, _), blocks in BLOCKS.items() if page == "recipes.md")
    assert set(NEEDS) <= {section for _, section in BLOCKS}
    assert PROGRAM in BLOCKS


@pytest.mark.parametrize(("page", "section"), [key for key, blocks in BLOCKS.items() if blocks and key != PROGRAM])
def test_a_section(page: str, section: str, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in NEEDS.get(section, []):
        require(library)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "recipe"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other libraries say of themselves
        for block in BEGINNINGS[page] + BLOCKS[page, section]:
            if device == "cpu":
                block = re.sub(r"^device = .*$", 'device = "cpu"', block, flags=re.MULTILINE)
            exec(compile(block, f"{page}: {section}", "exec"), namespace)


def test_evaluation_on_two_processes(tmp_path: Path) -> None:
    program = tmp_path / "evaluate.py"
    program.write_text(BLOCKS[PROGRAM][0])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "25 rows, mean score" in done.stdout


def made_by_jax() -> Any:
    numpy = pytest.importorskip("jax.numpy", reason="expected JAX, got none; pip install jax")
    return numpy.arange(12, dtype="float32").reshape(3, 4)


def made_by_cupy() -> Any:
    cupy = pytest.importorskip("cupy", reason="expected CuPy, got none; pip install cupy-cuda13x")
    if cupy.cuda.runtime.getDeviceCount() == 0:
        pytest.skip("expected a CUDA device for CuPy, got none")
    return cupy.arange(12, dtype="float32").reshape(3, 4)


@pytest.mark.parametrize("make", [made_by_jax, made_by_cupy])
def test_arrays_of_other_libraries_by_dlpack(bridge: tnb.Bridge, make: Any) -> None:
    array: Array = bridge.to_numpy(torch.utils.dlpack.from_dlpack(make()))
    assert (array == np.arange(12, dtype=np.float32).reshape(3, 4)).all()


def test_a_tensor_of_jax_shares_its_memory(bridge: tnb.Bridge) -> None:
    source = made_by_jax()
    assert bridge.to_numpy(torch.utils.dlpack.from_dlpack(source)).ctypes.data == source.unsafe_buffer_pointer()
