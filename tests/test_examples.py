"""Each example runs, with both engines; what it shows it asserts itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run_python
from helpers import ROOT

EXAMPLES = sorted(ROOT.glob("examples/*.py"))


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"first_steps.py", "pipeline.py", "embeddings.py"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, engine: str, tmp_path: Path) -> None:
    arguments = ["-W", "error", str(example), "--device", "cpu"]
    done = run_python(*arguments, TORCH_NP_BRIDGE_ENGINE=engine, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= 80
