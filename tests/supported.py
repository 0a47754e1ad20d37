"""The tables of docs/supported.md, from the table of dtypes and the cases that tests prove.

`PYTHONPATH=.:tests python -m supported` writes them into the page, where native engine and fake accelerator are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import groupby

import torch
from conftest import require
from helpers import ROOT
from refused import REFUSED, SUPPORTED, Refused

import torch_np_bridge as tnb
from torch_np_bridge.dtypes import BY_ML_DTYPES, BY_NEITHER, BY_NUMPY

PAGE = ROOT / "docs" / "supported.md"


def dtypes() -> list[str]:
    """A row for each dtype, or for those that have the same advice."""
    rows = [("torch", "NumPy"), ("---", "---")]
    rows.append((", ".join(BY_NUMPY), "the same"))
    rows.append((", ".join(BY_ML_DTYPES), "those of `ml_dtypes`; it has complex32 from version 0.6 on"))
    for advice, names in groupby(BY_NEITHER, key=BY_NEITHER.__getitem__):
        rows.append((", ".join(names), f"none: {code(advice)}"))
    return ["| " + " | ".join(row) + " |" for row in rows]


def refused() -> list[str]:
    """A row for each kind that the tests meet, with what the error tells to do."""
    rows = ["| a tensor that is | what to do |", "| --- | --- |"]
    told = [(case.what, advice(case)) for case in REFUSED.values()]
    for (kind, text), cases in groupby(told, key=lambda row: (row[0].split(": ")[0], row[1])):
        names = dict.fromkeys(what.partition(": ")[2] for what, _ in cases)
        rows.append(f"| {': '.join(filter(None, [kind, ', '.join(names)]))} | {code(text)} |")
    return rows


def supported() -> list[str]:
    """A line for each situation that the tests meet."""
    return [f"- {what}" for what in SUPPORTED]


BLOCKS: dict[str, Callable[[], list[str]]] = {"dtypes": dtypes, "supported": supported, "refused": refused}


def advice(case: Refused) -> str:
    """What the error tells to do, behind what it expected and what it got."""
    for thing in case.needs:
        require(thing)
    said: list[str] = []

    def convert(tensor: torch.Tensor) -> None:
        try:
            tnb.to_numpy(tensor)
        except tnb.UnsupportedTensorError as error:
            said.append(str(error))

    case.meet(convert)
    return said[0].partition("; ")[2]


def code(text: str) -> str:
    """Markdown for a sentence: calls are code."""
    return re.sub(r"(\.?[a-z_]+(?:\.\w+)*\([^()]*\)|\bdtype=|\bsnapshot=True)", r"`\1`", text)


def block(name: str) -> re.Pattern[str]:
    """Where the page has the lines of a block."""
    return re.compile(rf"(<!-- {name}: written by tests/supported\.py -->\n\n)(.*?)(\n\n<!-- end -->)", re.DOTALL)


def main() -> None:
    text = PAGE.read_text()
    for name, lines in BLOCKS.items():
        [(before, old, after)] = block(name).findall(text)
        text = text.replace(before + old + after, before + "\n".join(lines()) + after)
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
