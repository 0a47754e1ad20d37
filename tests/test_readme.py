"""The code of the README runs: sessions give what they show, blocks run in order in one namespace."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [code for found, code in FENCE.findall(README.read_text()) if found == language]


def test_sessions_give_what_they_show(capsys: pytest.CaptureFixture[str]) -> None:
    sessions = blocks("pycon")
    assert sessions
    test = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, "README", "README.md", 0)
    assert test.examples
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert results.failed == 0, capsys.readouterr().out


def test_blocks_run() -> None:
    code = blocks("python")
    assert code
    namespace: dict[str, object] = {}
    for block in code:
        exec(compile(block, str(README), "exec"), namespace)


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
