"""build_support: which objects may be linked again, and which lie in other folders from the first."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cuda_toolkit import make_toolkit

from build_support.objects import discard_stale_objects
from build_support.plan import make_plan


def make(path: Path, text: str, seconds: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (seconds, seconds))
    return path


def test_objects_go_if_a_source_changed_and_looks_old(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    source = make(tmp_path / "csrc" / "a.cpp", "one", seconds=1)
    assert not discard_stale_objects(folder, [source])
    built = make(folder / "a.o", "object of one", seconds=5)
    assert not discard_stale_objects(folder, [source])
    make(source, "two", seconds=3)
    assert discard_stale_objects(folder, [source])
    assert not built.exists()


def test_objects_stay_if_time_tells_what_changed(tmp_path: Path) -> None:
    folder = tmp_path / "build"
    source = make(tmp_path / "csrc" / "a.cpp", "one", seconds=1)
    discard_stale_objects(folder, [source])
    built = make(folder / "a.o", "object of one", seconds=5)
    make(source, "two", seconds=7)
    assert not discard_stale_objects(folder, [source])
    assert built.exists()


@pytest.mark.parametrize("record", [None, "", '{"half'])
def test_objects_of_an_unknown_past_go(tmp_path: Path, record: str | None) -> None:
    """Also where the build that made them was ended while it wrote what they are of."""
    source = make(tmp_path / "csrc" / "a.cpp", "one", seconds=1)
    built = make(tmp_path / "build" / "a.o", "object of what?", seconds=5)
    if record is not None:
        make(tmp_path / "build" / "sources.json", record, seconds=5)
    assert discard_stale_objects(tmp_path / "build", [source])
    assert not built.exists()


@pytest.mark.usefixtures("native")
def test_what_objects_are_made_for_is_the_name_of_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that neither another switch nor another torch finds those of the one before."""
    monkeypatch.setenv("TORCH_NP_BRIDGE_CUDA", "0")
    folders = [make_plan().variant]
    for module in (torch, np):
        with monkeypatch.context() as changed:
            changed.setattr(module, "__version__", "9.9.9+of.a.test")
            folders.append(make_plan().variant)
    make_toolkit(tmp_path / "cuda")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setenv("TORCH_NP_BRIDGE_CUDA", "1")
    folders.append(make_plan().variant)
    monkeypatch.setenv("TORCH_NP_BRIDGE_CUDA", "0")
    monkeypatch.setenv("TORCH_NP_BRIDGE_NATIVE", "0")
    folders.append(make_plan().variant)
    assert len(set(folders)) == 5, folders
