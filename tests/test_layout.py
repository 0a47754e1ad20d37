"""Large leaves that are not dense are gathered in slabs, whatever dimension is the outermost one in memory."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from helpers import assert_same_array, torchs_answer

import torch_np_bridge as tnb

MIB = 1 << 20
# Of a tensor of 32 MiB: what is taken, and how many bytes that is.
LARGE: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int]] = {
    "every second column": (lambda x: x[:, ::2], 16 * MIB),
    "the transpose of every second column": (lambda x: x[:, ::2].t(), 16 * MIB),
    "a permuted window": (lambda x: x.view(64, 128, 1024).permute(2, 0, 1)[100:900], 25 * MIB),
    "an odd number of odd slices": (lambda x: x.view(-1)[: 4093 * 1999].view(4093, 1999)[:, :1777], 4093 * 1777 * 4),
    "an expanded row": (lambda x: x[:4, :1000].unsqueeze(1).expand(4, 900, 1000), 4 * 900 * 1000 * 4),
    "one long row": (lambda x: x.view(1, -1)[:, ::2], 16 * MIB),
}


@pytest.mark.parametrize("what", LARGE)
def test_large_leaves_are_right(bridge: tnb.Bridge, accelerator: str, what: str) -> None:
    take, size = LARGE[what]
    source = take(torch.arange(8 * MIB, dtype=torch.int32).view(8192, 1024).to(accelerator))
    got = bridge.to_numpy(source)
    assert got.nbytes == size
    assert_same_array(got, torchs_answer(source))


@pytest.mark.parametrize("what", LARGE)
def test_large_leaves_need_little_device_memory(native_bridge: tnb.Bridge, fake: ModuleType, what: str) -> None:
    take, size = LARGE[what]
    source = take(torch.zeros(8192, 1024, dtype=torch.int32, device="fake"))
    native_bridge.to_numpy(source)
    fake.reset_counters()
    before = fake.counters().device_bytes_live
    native_bridge.to_numpy(source)
    counted = fake.counters()
    assert counted.bytes_d2h == size
    # Each slab is freed as soon as it is enqueued: the next one takes its memory, in stream order.
    assert counted.device_bytes_peak - before <= 8 * MIB + 1 * MIB
    assert counted.copies_d2h >= size / (8 * MIB)


def test_more_bytes_than_addresses_are_refused(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Their number, taken modulo 2**64, is that of a block which the first slabs would fill and the others overrun."""
    expanded = torch.ones(1, device="fake").expand(2**40 + 1, 2**22)
    fake.reset_counters()
    for convert in (native_bridge.to_numpy, native_bridge.to_numpy_async):
        with pytest.raises(ValueError, match="expected a tensor whose values fit into memory, got 4611686018431582208 el"):
            convert([torch.ones(3, device="fake"), expanded])
    assert fake.counters().copies_d2h == 0


def test_small_leaves_are_gathered_at_once(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.zeros(64, 64, device="fake")[:, ::2]
    native_bridge.to_numpy(source)
    fake.reset_counters()
    native_bridge.to_numpy(source)
    assert (fake.counters().copies_d2d, fake.counters().copies_d2h) == (1, 1)


def test_dense_leaves_are_not_gathered(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    cube = torch.zeros(16, 8, 4, device="fake")
    fake.reset_counters()
    for dense in (cube, cube.transpose(0, 2), cube[3], cube[4:7], cube[3:4, 2:3, :1]):
        native_bridge.to_numpy(dense)
    assert fake.counters().copies_d2d == 0
