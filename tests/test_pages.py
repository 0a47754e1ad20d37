"""The code of README.md and of docs/ runs: blocks in order, sessions give what they show; links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from commands import run_python
from conftest import require
from helpers import ROOT
from pages import FOUND, PAGES, RUN_ELSEWHERE, WITH_CODE, Block, blocks, code_of

MARKED = [block for page in PAGES for block in code_of(page) if block.need is not None]


@pytest.fixture(scope="session")
def report(engine: str, device: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What failed and what was left out, of all pages: one process for each engine and device."""
    path = tmp_path_factory.mktemp("pages") / "report.json"
    modules = ["fake_device"] if device == "fake" else []
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    done = run_python("-W", "error", "-m", "pages", str(path), *modules, TORCH_NP_BRIDGE_ENGINE=engine, **hidden)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, report: dict[str, Any]) -> None:
    assert page not in report["failures"], report["failures"][page]


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.place)
def test_a_block_that_was_left_out_is_counted_among_the_skips(block: Block, report: dict[str, Any]) -> None:
    if block.place in report["left_out"]:
        if block.need == "cuda":
            require("cuda")
        pytest.skip(f"{block.place}: expected {block.need}, which this run has not")


def test_what_is_run_elsewhere_is_run_there() -> None:
    for page in set(WITH_CODE) - set(PAGES):
        assert Path(page).name in (ROOT / RUN_ELSEWHERE[page]).read_text()


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_no_block_and_no_mark_is_overlooked(path: Path) -> None:
    found = blocks(str(path.relative_to(ROOT)))
    fences, marks = (re.findall(rf"^\s*{begin}", path.read_text(), re.MULTILINE) for begin in ("```py", "<!-- needs"))
    assert len(fences) == sum(block.language in ("python", "pycon") for block in found)
    assert len(marks) == sum(block.need is not None for block in found)


def test_first_code_is_what_the_package_is_for() -> None:
    first = blocks("README.md")[0]
    assert first.language == "pycon"
    for line in ("torch.tensor([1, 2, 3])", "torch.tensor([[1.5, 2.5], [3.5, 4.5]])", "requires_grad=True"):
        assert line in first.code


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []
