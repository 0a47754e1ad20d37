"""The code of README.md and of docs/: finds its blocks, and runs those of each page, in their order, in one namespace.

`python -m pages REPORT [MODULE]` runs all pages on the engine that the environment names; REPORT gets what failed, and
what was left out. MODULE registers a device first. A block behind a line `<!-- needs: NAME -->` runs where NAME is:
`accelerator`, `cuda`, or a module that can be imported.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import io
import json
import re
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
FOUND = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
# Pages whose code starts processes, or has libraries that warn, are run by a test file of their own.
RUN_ELSEWHERE = dict.fromkeys(("docs/integrations.md", "docs/recipes.md"), "tests/test_recipes.py")
WITH_CODE = [str(path.relative_to(ROOT)) for path in FOUND if "```py" in path.read_text()]
PAGES = [page for page in WITH_CODE if page not in RUN_ELSEWHERE]
FENCE = re.compile(r"^(?:<!-- needs: (?P<need>\S+) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """Code of a page: where it begins, what it is, and what it needs beside torch, if anything."""

    page: str
    line: int
    language: str
    code: str
    need: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: str) -> list[Block]:
    """All that is fenced off in a page."""
    text = (ROOT / page).read_text()
    return [
        Block(page, text.count("\n", 0, found.start("code")) + 1, found["language"], found["code"], found["need"])
        for found in FENCE.finditer(text)
    ]


def code_of(page: str) -> list[Block]:
    """Those of Python, as a program or as a session."""
    return [block for block in blocks(page) if block.language in ("python", "pycon")]


def is_there(block: Block) -> bool:
    """Whether what a block needs is there."""
    if block.need == "accelerator":
        return torch.accelerator.is_available()
    if block.need == "cuda":
        return torch.cuda.is_available()
    return block.need is None or importlib.util.find_spec(block.need) is not None


def run_page(page: str) -> None:
    """Run its blocks; the first that fails raises, with the page and the line in the traceback."""
    namespace: dict[str, Any] = {"__name__": page}
    for block in code_of(page):
        if not is_there(block):
            continue
        if block.language == "pycon":
            run_session(block, namespace)
        else:
            exec(compile("\n" * (block.line - 1) + block.code, page, "exec"), namespace)


def run_session(block: Block, namespace: dict[str, Any]) -> None:
    """Run a session, which has to give what it shows."""
    test = doctest.DocTestParser().get_doctest(block.code, namespace, block.place, block.page, block.line - 1)
    assert test.examples, f"{block.place}: expected a session with >>>, got none"
    told = io.StringIO()
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.DocTestRunner(optionflags=options).run(test, out=told.write, clear_globs=False)
    assert results.failed == 0, told.getvalue()
    namespace.update(test.globs)


def main(report: str, *modules: str) -> None:
    """Run every page in a folder of its own; one that fails does not keep the others from running."""
    for module in modules:
        importlib.import_module(module)
    failures: dict[str, str] = {}
    for page in PAGES:
        with TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            try:
                run_page(page)
            except Exception:
                failures[page] = traceback.format_exc()
    left_out = [block.place for page in PAGES for block in code_of(page) if not is_there(block)]
    Path(report).write_text(json.dumps({"failures": failures, "left_out": left_out}))


if __name__ == "__main__":
    main(*sys.argv[1:])
