"""Each example runs, with both engines and on every device; what it shows it asserts itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run_python
from helpers import ROOT

EXAMPLES = sorted(ROOT.glob("examples/*.py"))


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"first_steps.py", "pipeline.py", "embeddings.py", "three_ways.py"}


# Runs a program after the fake accelerator is there.
WITH_FAKE = "import runpy, sys, fake_device; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, engine: str, device: str, tmp_path: Path) -> None:
    program = ["-c", WITH_FAKE, str(example)] if device == "fake" else [str(example)]
    arguments = ["-W", "error", *program, "--device", device]
    done = run_python(*arguments, TORCH_NP_BRIDGE_ENGINE=engine, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= 80
