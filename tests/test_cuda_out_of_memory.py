"""Contract 10 where CUDA's allocator refuses: torch's own error, nothing is left, and the next transfer is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from helpers import assert_same_array, torchs_answer

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

pytestmark = pytest.mark.usefixtures("gpu")
MIB = 1 << 20

# Each cannot do without memory of the device.
NEEDY: dict[str, Callable[[tnb.Bridge, torch.Tensor], tnb.Transfer]] = {
    "gather": lambda bridge, x: bridge.to_numpy_async([x, x[:, ::2]]),
    "cast": lambda bridge, x: bridge.to_numpy_async(x, dtype="float64"),
    "snapshot": lambda bridge, x: bridge.to_numpy_async([x[0], x], snapshot=True),
}


@pytest.fixture
def x(gpu: str) -> torch.Tensor:
    """So large that what is made of a row, its smallest part, is no rest of another segment's."""
    torch.cuda.empty_cache()
    return torch.arange(24.0 * MIB, device=gpu).view(2, -1)


@contextmanager
def full_device() -> Iterator[None]:
    """Torch gives out no more of the device's memory than it has in use now; what was left of that is taken."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        taken = list(rests())
        yield
        del taken
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def rests() -> Iterator[torch.Tensor]:
    for size in (64 * MIB, 8 * MIB, MIB):
        try:
            while True:
                yield torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.cuda.OutOfMemoryError:
            pass


def counters(bridge: tnb.Bridge) -> tuple[int, int, int]:
    """What a submission that has failed must leave as it was."""
    stats = bridge.stats()
    return stats.transfers, stats.copied_bytes, stats.unpooled_leaves


def settled(bridge: tnb.Bridge, x: torch.Tensor) -> tuple[int, int, int]:
    """What is in use once nothing is in flight: memory of the device, leased and retained page-locked memory."""
    torch.cuda.synchronize()
    bridge.to_numpy(x[0, :10])  # sweeps
    stats = bridge.stats()
    return torch.cuda.memory_allocated(), stats.leased_bytes, stats.retained_bytes


@pytest.mark.parametrize("limit", [None, 0], ids=["pooled", "staged"])
@pytest.mark.parametrize("need", NEEDY)
def test_a_device_that_is_full(native: EngineChoice, x: torch.Tensor, need: str, limit: int | None) -> None:
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        expected = NEEDY[need](bridge, x).result()
        before = settled(bridge, x)
        with full_device():
            for _ in range(2):
                counted = counters(bridge)
                with pytest.raises(torch.cuda.OutOfMemoryError):
                    NEEDY[need](bridge, x).result()
                if limit is None or need == "snapshot":  # a staged copy was submitted well
                    assert counters(bridge) == counted
            assert_same_array(bridge.to_numpy(x), torchs_answer(x))  # what needs no memory goes on
        assert settled(bridge, x) == before
        again = NEEDY[need](bridge, x).result()
        for got, right in zip(again, expected, strict=True):
            assert_same_array(got, right)


def test_the_launch_that_follows_hears_of_nothing(native_bridge: tnb.Bridge, x: torch.Tensor) -> None:
    y = torch.zeros(1000, device=x.device)
    with full_device(), pytest.raises(torch.cuda.OutOfMemoryError):
        native_bridge.to_numpy(x[:, ::2])
    y.add_(1)
    assert (native_bridge.to_numpy(y) == 1).all()


# The last: one that refuses is left alone for ten seconds.
def test_a_large_tree_goes_across_the_bus_instead(native_bridge: tnb.Bridge, kernels: str) -> None:
    """Blocks of small leaves are packed on the device where that has memory for them, and it is no error where not."""
    tensors = [torch.full((4096,), float(index), device=kernels) for index in range(512)]
    with full_device():
        refused = torch.cuda.memory_stats()["num_ooms"]
        arrays = native_bridge.to_numpy(tensors)
        assert torch.cuda.memory_stats()["num_ooms"] == refused + 1
    for index, array in enumerate(arrays):
        assert (array == index).all()
    assert native_bridge.stats().unpooled_leaves == 0
