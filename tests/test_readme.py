"""The code of the README and of other pages runs: sessions give what they show, blocks run in their order."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES_THAT_RUN = ("README.md", "docs/accelerate.md", "docs/pipelines.md", "docs/profile.md")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str, page: Path = README) -> list[str]:
    return [code for found, code in FENCE.findall(page.read_text()) if found == language]


def test_sessions_give_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    sessions = blocks("pycon")
    assert sessions
    test = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, "README", "README.md", 0)
    assert test.examples
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES_THAT_RUN)
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python", ROOT / page)
    assert code
    namespace: dict[str, object] = {}
    for block in code:
        exec(compile(block, page, "exec"), namespace)


def test_first_code_is_what_the_package_is_for() -> None:
    language, code = FENCE.findall(README.read_text())[0]
    assert language == "pycon"
    for line in ("torch.tensor([1, 2, 3])", "torch.tensor([[1.5, 2.5], [3.5, 4.5]])", "requires_grad=True"):
        assert line in code


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", README.read_text())
    assert targets
    missing = [target for target in targets if not (README.parent / target).exists()]
    assert missing == []
