"""`empty()`: memory for `out=`, which the host may write to at once, and what it is where no other can be had."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from helpers import assert_silent, run_script, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice


@pytest.mark.parametrize("shape", [5, (), (3,), (2, 3), [4, 1], (0, 7), np.int64(6), (np.int32(2), 1)])
@pytest.mark.parametrize("dtype", [np.float32, "int64", bool, np.dtype(np.complex64), ml_dtypes.bfloat16])
def test_shapes_and_dtypes(bridge: tnb.Bridge, device: str, shape: Any, dtype: Any) -> None:
    torch.empty(1, device=device)
    array = bridge.empty(shape, dtype)
    wanted = np.empty(shape, dtype)
    assert (array.shape, array.dtype, array.strides) == (wanted.shape, wanted.dtype, wanted.strides)
    assert type(array) is np.ndarray
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert array.flags.aligned
    array[...] = 1
    assert (array == 1).all()


def test_arrays_are_apart(bridge: tnb.Bridge, device: str) -> None:
    arrays = [bridge.empty(100, np.int32) for _ in range(50)]
    for index, array in enumerate(arrays):
        array[:] = index
    assert [int(array[0]) for array in arrays] == [int(array[-1]) for array in arrays] == list(range(50))


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "words"),
    [
        (-1, "f4", ValueError, "expected sizes that are not negative"),
        ((2, -3), "f4", ValueError, "expected sizes that are not negative"),
        (2.5, "f4", TypeError, "expected an integer or a sequence of integers for the shape, got 2.5"),
        ("ab", "f4", TypeError, "expected an integer or a sequence of integers for the shape, got 'ab'"),
        (3, "S5", TypeError, "expected a dtype that a tensor can have"),
        (3, object, TypeError, "expected a dtype that a tensor can have"),
        (3, ">f4", TypeError, "expected a dtype that a tensor can have"),
        ((1 << 40, 1 << 40), "f4", ValueError, "expected an array that memory can hold"),
    ],
)
def test_bad_input(bridge: tnb.Bridge, shape: Any, dtype: Any, error: type[Exception], words: str) -> None:
    before = bridge.stats()
    with pytest.raises(error, match=words):
        bridge.empty(shape, dtype)
    assert bridge.stats() == before


def test_it_is_page_locked(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    torch.empty(1).pin_memory()
    array = native_bridge.empty(1000, np.float32)
    assert torch.from_numpy(array).is_pinned()
    assert array.ctypes.data % 128 == 0
    assert native_bridge.stats().leased_bytes >= array.nbytes
    part = array[10:20]
    del array
    assert native_bridge.stats().leased_bytes > 0
    del part
    assert native_bridge.stats().leased_bytes == 0


def test_at_the_limit_it_is_ordinary_and_counted(native: EngineChoice, fake: ModuleType) -> None:
    torch.empty(1).pin_memory()
    with tnb.Bridge(engine=native, pinned_limit="1MiB") as bridge:
        first, second = (bridge.empty(1 << 20, np.uint8) for _ in range(2))
        assert [torch.from_numpy(array).is_pinned() for array in (first, second)] == [True, False]
        assert bridge.stats().unpooled_leaves == 1
        second[:] = 3
        x = torch.full((1 << 20,), 7, dtype=torch.uint8, device="fake")
        assert (bridge.to_numpy(x, out=second) == 7).all()


def test_the_python_engine_counts_it(fake: ModuleType) -> None:
    with tnb.Bridge(engine="python") as bridge:
        bridge.empty(10, np.float32)
        assert bridge.stats().unpooled_leaves == 1


def test_without_an_accelerator(engine: EngineChoice) -> None:
    source = """
import numpy as np, torch_np_bridge as tnb, torch
assert not torch.accelerator.is_available()
array = tnb.empty((3, 4), np.float32)
array[:] = 1
assert tnb.stats().unpooled_leaves == 1 and tnb.stats().held_bytes == 0
assert tnb.to_numpy(torch.zeros(3, 4), out=array) is array and not array.any()
"""
    assert_silent(run_script(source, TORCH_NP_BRIDGE_ENGINE=engine))


def test_in_a_forked_child(native: EngineChoice, fake: ModuleType) -> None:
    source = """
import os, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np, torch, fake_device, torch_np_bridge as tnb
kept = tnb.empty(10, np.float32)
child = os.fork()
if child == 0:
    status = 1
    try:
        array = tnb.empty(10, np.float32)
        array[:] = 5
        status = int(tnb.to_numpy(torch.ones(10), out=array)[3] != 1)
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    assert_silent(run_script(source, TORCH_NP_BRIDGE_ENGINE=native))


def test_memory_that_a_copy_back_still_reads_is_not_given_out(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Contract 7: torch's own allocator does not know the block, so nobody else waits for the copy. A buffer that was
    used again while a copy still read it: vllm#32799."""
    torch.empty(1).pin_memory()
    target = torch.zeros(1000, device="fake")
    array = native_bridge.empty(1000, np.float32)
    array[:] = 1
    address = array.ctypes.data
    with fake.hold():
        target.copy_(torch.from_numpy(array), non_blocking=True)
        del array
        for _ in range(40):  # more than there may be fences on a stream that stands still
            other = native_bridge.empty(1000, np.float32)
            assert other.ctypes.data != address
            other[:] = 2
    torch.accelerator.synchronize()
    assert (native_bridge.to_numpy(target) == 1).all()
    kept = []

    def given_out_again() -> bool:
        kept.append(native_bridge.empty(1000, np.float32))
        return kept[-1].ctypes.data == address

    wait_until(given_out_again)


def test_a_steady_loop_allocates_nothing(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Contract 9, with an array that goes back to the device in each turn."""
    target = torch.zeros(5000, device="fake")

    def turn(value: int) -> None:
        array = native_bridge.empty(5000, np.float32)
        array[:] = value
        target.copy_(torch.from_numpy(array), non_blocking=True)
        assert (native_bridge.to_numpy(target, out=native_bridge.empty(5000, np.float32)) == value).all()
        torch.accelerator.synchronize()

    for value in range(5):
        turn(value)
    before = native_bridge.stats()
    fake.reset_counters()
    for value in range(20):
        turn(value)
    assert native_bridge.stats().allocations == before.allocations
    assert (fake.counters().host_allocations, fake.counters().event_creates) == (0, 0)
