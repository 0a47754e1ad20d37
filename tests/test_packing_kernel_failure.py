"""Contract 10 where the kernel packs: each call of the driver that a submission makes fails, once and for good."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from helpers import revive
from kernel_on_cpu.library import Kernels
from test_packing import KIB, assert_right, leaves
from test_packing_kernel import STAGED_FROM, assert_all, small_and_large

import torch_np_bridge as tnb

CALLED = ("launch", "copy_d2h", "event_record", "event_block", "device_alloc", "copy_d2d")


@pytest.fixture(autouse=True)
def packer(cuda_entries: Kernels, fake: ModuleType) -> ModuleType:
    """The fake accelerator with the kernel as its packer."""
    return fake


def failing_tree() -> list[torch.Tensor]:
    """As the other, with a leaf that is made dense first and a block that is packed on the device."""
    staged = [torch.full((4096,), 2.0, device="fake") for _ in range(STAGED_FROM // (16 * KIB))]
    return [*small_and_large(2), torch.full((300, 200), 2.0, device="fake")[:, ::2], *staged]


@pytest.mark.parametrize("sticky", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("call", CALLED)
def test_every_call_fails_at_every_step(
    native_bridge: tnb.Bridge, packer: ModuleType, call: str, *, sticky: bool
) -> None:
    tensors = failing_tree()
    for _ in range(2):
        native_bridge.to_numpy(tensors)
    step = 0
    while True:
        torch.accelerator.empty_cache()
        torch.accelerator.synchronize()
        with packer.fail(call, after=step, sticky=sticky) as failure:
            try:
                native_bridge.to_numpy_async(tensors).result()
            except RuntimeError as error:
                assert failure.delivered >= 1, error  # noqa: PT017
            delivered = failure.delivered
        revive()
        assert packer.last_error() is None
        for _ in range(2):  # the first one sweeps what the failed one left
            assert_all(native_bridge.to_numpy(tensors), 2)
        assert native_bridge.stats().leased_bytes == 0 or sticky  # a lost device may write for good
        if delivered == 0:
            break
        step += 1
    assert step > 0


def test_a_kernel_that_fails_later_raises_at_the_result(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    tensors = small_and_large(1)
    native_bridge.to_numpy(tensors)
    with packer.fail("launch_async"):
        with packer.hold():
            transfer = native_bridge.to_numpy_async(tensors)
        with pytest.raises(RuntimeError, match="context was ended by launch_async"):
            transfer.result()
    revive()
    assert_all(native_bridge.to_numpy(tensors), 1)


# The last, and on a device that no failure was put into: one that refuses is left alone for ten seconds.
def test_without_memory_on_the_device_it_goes_across_the_bus(native_bridge: tnb.Bridge, packer: ModuleType) -> None:
    tensors = [tensor.to("fake:1") for tensor in leaves(*[4096] * 64)]
    native_bridge.to_numpy(tensors)
    packer.reset_counters()
    torch.accelerator.empty_cache()
    with packer.fail("device_alloc") as failure:
        arrays = native_bridge.to_numpy(tensors)
    assert failure.delivered == 1
    assert (packer.counters(1).launches, packer.counters(1).copies_d2h) == (1, 0)
    assert_right(arrays, tensors)
    # And is not asked again at once: torch's allocator may stop everything before it refuses.
    asked = packer.counters(1).device_requests
    assert_right(native_bridge.to_numpy(tensors), tensors)
    assert packer.counters(1).device_requests == asked
