"""docs/supported.md says what the tests prove."""

from __future__ import annotations

import pytest
from supported import BLOCKS, PAGE, block

from torch_np_bridge.config import EngineChoice

ADVICE = "docs/supported.md is out of date; run: PYTHONPATH=.:tests python -m supported"


@pytest.mark.parametrize("name", BLOCKS)
def test_the_page_has_the_tables_that_were_proved(native: EngineChoice, fake: object, name: str) -> None:
    [found] = block(name).findall(PAGE.read_text())
    assert found[1] == "\n".join(BLOCKS[name]()), ADVICE
