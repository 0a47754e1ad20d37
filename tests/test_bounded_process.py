"""Contract 8 for a whole process: the limit that all Bridges share, and what the environment says of it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from helpers import assert_silent, run_script

from torch_np_bridge.config import EngineChoice

SCRIPT = """
import numpy as np, torch, fake_device, torch_np_bridge as tnb
MIB = 1 << 20
source = torch.arange(5 * MIB // 4, dtype=torch.int32, device="fake")
torch.empty(1).pin_memory()
fake_device.empty_host_cache()
def live():
    counted = fake_device.counters()
    return counted.host_bytes_live + counted.locked_pages_bytes
"""


def script(host_pages: str, body: str) -> str:
    """A script that has page-locked memory of this kind."""
    return f"import fake_driver\nfake_driver.register(own_pages={host_pages == 'own'})\n{SCRIPT}{body}"


def test_bridges_share_the_limit_of_the_process(native: EngineChoice, fake: ModuleType, host_pages: str) -> None:
    """That of the environment; the functions of the package are one of the Bridges."""
    page_locked = 4 if host_pages == "own" else 2  # of 5 MiB each, or of 8
    source = (
        f"page_locked = {page_locked}"
        """
first, second = tnb.Bridge(), tnb.Bridge()
bridges = (first, second, tnb)
kept = []
for turn in range(12):
    kept.append(bridges[turn % 3].to_numpy(source))
    held = [bridge.stats().held_bytes for bridge in bridges]
    assert {bridge.stats().limit_held_bytes for bridge in bridges} == {sum(held)}, held
    assert live() <= sum(held) <= 20 * MIB, (live(), held)
    assert {bridge.stats().limit_bytes for bridge in bridges} == {20 * MIB}
    assert tnb.engine_info().limit == 20 * MIB
assert sum(bridge.stats().unpooled_leaves for bridge in bridges) == 12 - page_locked
own = tnb.Bridge(pinned_limit=8 * MIB)
assert torch.from_numpy(own.to_numpy(source)).is_pinned()
assert all((array == np.arange(len(array))).all() for array in kept)
first.close()
second.close()
assert first.stats().limit_held_bytes == sum(bridge.stats().held_bytes for bridge in bridges)
"""
    )
    assert_silent(
        run_script(script(host_pages, source), TORCH_NP_BRIDGE_ENGINE=native, TORCH_NP_BRIDGE_PINNED_LIMIT="20MiB")
    )


def test_the_environment_may_forbid_page_locking(engine: EngineChoice, fake: ModuleType, host_pages: str) -> None:
    source = """
array = tnb.to_numpy(source)
assert (array == np.arange(len(array))).all() and not torch.from_numpy(array).is_pinned()
assert (tnb.stats().limit_bytes, tnb.stats().held_bytes, live()) == (0, 0, 0)
"""
    assert_silent(
        run_script(script(host_pages, source), TORCH_NP_BRIDGE_ENGINE=engine, TORCH_NP_BRIDGE_PINNED_LIMIT="0")
    )


def test_nonsense_in_the_environment_raises(engine: EngineChoice) -> None:
    finished: Any = run_script(
        "import torch_np_bridge", TORCH_NP_BRIDGE_ENGINE=engine, TORCH_NP_BRIDGE_PINNED_LIMIT="lots"
    )
    assert finished.returncode == 1
    assert "ValueError: TORCH_NP_BRIDGE_PINNED_LIMIT: expected a number of bytes such as 4GiB" in finished.stderr
