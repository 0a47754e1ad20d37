"""Batches that are told apart, for the tests of `prefetch_to_host`."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import torch

import torch_np_bridge as tnb

SIZE = 25_000
BYTES = 4 * SIZE


def batches(device: str, count: int) -> Iterator[dict[str, Any]]:
    for index in range(count):
        yield {"values": torch.full((SIZE,), float(index), device=device), "name": f"batch {index}"}


def assert_in_order(results: Iterable[dict[str, Any]], count: int) -> None:
    seen = 0
    for index, result in enumerate(results):
        assert result["name"] == f"batch {index}"
        assert (result["values"] == index).all()
        seen += 1
    assert seen == count


def live_when_settled(bridge: tnb.Bridge, fake: ModuleType) -> int:
    """Device memory that is in use once nothing of an earlier test is on its way any more."""
    gc.collect()
    for _ in range(2):  # the second one lets go of what has ended by then
        bridge.to_numpy(torch.ones(SIZE, device="fake"))
        torch.accelerator.synchronize()
    live: int = fake.counters().device_bytes_live
    return live
