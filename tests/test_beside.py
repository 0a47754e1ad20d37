"""What people have beside the bridge: another event loop, progress bars."""

from __future__ import annotations

import asyncio
import io
from types import ModuleType

import pytest
import torch
from batches import assert_in_order, batches
from helpers import hold

import torch_np_bridge as tnb


@pytest.fixture
def uvloop() -> ModuleType:
    module: ModuleType = pytest.importorskip("uvloop", reason="expected uvloop, got none; pip install uvloop")
    return module


@pytest.fixture
def tqdm() -> ModuleType:
    module: ModuleType = pytest.importorskip("tqdm", reason="expected tqdm, got none; pip install tqdm")
    return module


def test_awaiting_in_uvloop(bridge: tnb.Bridge, device: str, uvloop: ModuleType) -> None:
    async def main() -> list[float]:
        transfers = [bridge.to_numpy_async(torch.full((3,), float(index), device=device)) for index in range(20)]
        return [float((await transfer)[0]) for transfer in transfers]

    assert uvloop.run(main()) == list(range(20))


def test_uvloop_is_not_blocked(native_bridge: tnb.Bridge, accelerator: str, uvloop: ModuleType) -> None:
    """The latch is released by the loop itself, while a task awaits what it holds."""
    latch = hold(accelerator)

    async def main() -> None:
        transfer = native_bridge.to_numpy_async(torch.ones(3, device=accelerator))
        asyncio.get_running_loop().call_later(0.02, latch.release)
        assert (await asyncio.wait_for(transfer, 30)).tolist() == [1, 1, 1]

    with latch:
        uvloop.run(main())


def test_a_progress_bar_knows_the_total(bridge: tnb.Bridge, device: str, tqdm: ModuleType) -> None:
    shown = io.StringIO()
    items = list(batches(device, 4))
    assert_in_order(tqdm.tqdm(bridge.prefetch_to_host(items), file=shown), 4)
    assert "4/4" in shown.getvalue()


def test_a_progress_bar_around_the_source(bridge: tnb.Bridge, device: str, tqdm: ModuleType) -> None:
    shown = io.StringIO()
    with tqdm.tqdm(batches(device, 4), total=4, file=shown) as source:
        assert_in_order(bridge.prefetch_to_host(source), 4)
    assert "4/4" in shown.getvalue()
