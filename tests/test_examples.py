"""Each example runs, with both engines and on every device; what it shows it asserts itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import run_python
from conftest import require
from helpers import ROOT

EXAMPLES = sorted(ROOT.glob("examples/*.py"))
WITH_RAY = [path for path in EXAMPLES if path.stem.startswith("ray")]
NEEDS = {"parquet_embeddings": "arrow", "ray_inference": "ray"}


def run(example: Path, device: str, *flags: str, **environ: str) -> None:
    if example.stem in NEEDS:
        require(NEEDS[example.stem])
    program = [str(ROOT / "tests" / "with_fake.py")] if device == "fake" else []
    done = run_python(*flags, *program, str(example), "--device", device, **environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_examples() -> None:
    names = {"first_steps", "pipeline", "embeddings", "three_ways"}
    names |= {"parquet_embeddings", "evaluation", "rollout", "server", "ray_inference"}
    assert {path.stem for path in EXAMPLES} >= names


@pytest.mark.parametrize("example", [path for path in EXAMPLES if path not in WITH_RAY], ids=lambda path: path.stem)
def test_example(example: Path, engine: str, device: str, tmp_path: Path) -> None:
    run(example, device, "-W", "error", TORCH_NP_BRIDGE_ENGINE=engine, TMPDIR=str(tmp_path))


@pytest.mark.parametrize("example", WITH_RAY, ids=lambda path: path.stem)
def test_example_with_ray(example: Path, device: str) -> None:
    """Ray warns of itself, and needs half a minute: once for each device."""
    run(example, device, RAY_USAGE_STATS_ENABLED="0")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_short(example: Path) -> None:
    assert len(example.read_text().splitlines()) <= 80
