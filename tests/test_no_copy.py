"""Contract 2: no extra copy. Tensors on the CPU are shared, others arrive in the memory that the device wrote."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import assert_same_array, torchs_answer

import torch_np_bridge as tnb

KINDS = [torch.float32, torch.int64, torch.bool, torch.complex64, torch.bfloat16, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", KINDS, ids=str)
def test_cpu_results_are_the_tensors_memory(bridge: tnb.Bridge, dtype: torch.dtype) -> None:
    whole = torch.zeros(6, 8).to(dtype)
    part = whole[1::2, 3:]
    for array in (bridge.to_numpy(part), bridge.to_numpy([part])[0], bridge.to_numpy_async(part).result()):
        assert array.ctypes.data == part.data_ptr()
        assert_same_array(array, torchs_answer(part))


def test_cpu_results_share_memory_both_ways(bridge: tnb.Bridge) -> None:
    tensor = torch.zeros(2, 3)
    array = bridge.to_numpy(tensor)
    tensor[0, 1] = 5
    assert array[0, 1] == 5
    array[1, 2] = 7
    assert tensor[1, 2] == 7
    transposed = bridge.to_numpy(tensor.t())
    transposed[2, 0] = 9
    assert array[0, 2] == 9


def test_memory_of_numpy_comes_back_as_itself(bridge: tnb.Bridge) -> None:
    ours = np.arange(10.0)
    array = bridge.to_numpy(torch.from_numpy(ours))
    array[3] = -1
    assert ours[3] == -1


def test_a_tensor_that_changes_its_data_leaves_the_array_alone(bridge: tnb.Bridge) -> None:
    tensor = torch.full((1000,), 3.0)
    array = bridge.to_numpy(tensor)
    tensor.data = torch.zeros(5)
    del tensor
    scratch = [torch.full((1000,), 9.0) for _ in range(10)]  # would take the memory if it were free
    assert len(scratch) == 10
    assert (array == 3).all()


def test_a_shared_storage_keeps_its_size(bridge: tnb.Bridge) -> None:
    tensor = torch.zeros(4)
    array = bridge.to_numpy(tensor)
    with pytest.raises(RuntimeError, match="not resizable"):
        tensor.resize_(100_000)
    with pytest.raises(RuntimeError, match="not resizable"):
        tensor.untyped_storage().resize_(0)
    assert array.tolist() == [0, 0, 0, 0]


def test_shared_parameters_stay_in_their_graph(bridge: tnb.Bridge) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    array = bridge.to_numpy(weight)
    with torch.no_grad():
        weight.add_(1)
    assert array.tolist() == [2, 2, 2]
    (weight * 2).sum().backward()
    assert weight.grad is not None


def test_copy_true_is_fresh_memory(bridge: tnb.Bridge, device: str) -> None:
    tensor = torch.zeros(3).to(device)
    first, second = bridge.to_numpy(tensor, copy=True), bridge.to_numpy(tensor, copy=True)
    tensor += 1
    np.add(first, 5, out=first)
    assert second.tolist() == [0, 0, 0]
    assert tensor.tolist() == [1, 1, 1]
    assert first.flags.writeable


def test_copy_false_shares(bridge: tnb.Bridge) -> None:
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    assert bridge.to_numpy(tensor, copy=False).ctypes.data == tensor.data_ptr()
    assert bridge.to_numpy({"a": [tensor]}, copy=False)["a"][0].ctypes.data == tensor.data_ptr()


@pytest.mark.parametrize("lazy", [torch.conj, torch._neg_view], ids=["conj", "neg"])
def test_copy_false_refuses_lazy_values(bridge: tnb.Bridge, lazy: object) -> None:
    tensor = lazy(torch.ones(3, dtype=torch.complex64))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^tree\['a'\]: expected memory that holds the values.* pass copy=None$"):
        bridge.to_numpy({"a": tensor}, copy=False)


def test_copy_false_refuses_accelerators(bridge: tnb.Bridge, accelerator: str) -> None:
    tensor = torch.ones(3, device=accelerator)
    with pytest.raises(ValueError, match=rf"^tree\[1\]: expected a tensor on the CPU.* got one on {accelerator}:0"):
        bridge.to_numpy([torch.ones(3), tensor], copy=False)


@pytest.mark.parametrize("copy", [0, 1, "if_needed", np.True_])
def test_copy_takes_three_values(bridge: tnb.Bridge, copy: object) -> None:
    with pytest.raises(TypeError, match="expected copy to be None, True or False, got"):
        bridge.to_numpy(torch.ones(3), copy=copy)  # type: ignore[arg-type]


def test_arrays_lie_in_page_locked_memory(native_bridge: tnb.Bridge, accelerator: str) -> None:
    assert torch.empty(1).pin_memory().is_pinned()  # torch looks at a device type only once it was used for pinning
    dense = torch.arange(1000.0, device=accelerator)
    for array in native_bridge.to_numpy([dense, dense.view(10, 100)[:, ::2], dense.to(torch.float16)]):
        assert torch.from_numpy(array).is_pinned()
        assert array.ctypes.data % 128 == 0


def test_each_leaf_is_moved_once(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    dense = torch.arange(3000.0, device="fake")
    strided = dense.view(100, 30)[:, ::3]
    torch.accelerator.synchronize()
    fake.reset_counters()
    arrays = native_bridge.to_numpy([dense, dense.view(30, 100).t(), strided])
    counted = fake.counters()
    assert counted.bytes_d2h == sum(array.nbytes for array in arrays)
    assert (counted.copies_d2h, counted.copies_d2d, counted.bytes_d2d) == (3, 1, strided.numel() * 4)
    assert (counted.copies_synchronous, counted.fallback_operations) == (0, 0)


def test_no_element_needs_no_copy(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    empty = torch.empty(3, 0, 2, device="fake")
    fake.reset_counters()
    assert native_bridge.to_numpy(empty).shape == (3, 0, 2)
    counted = fake.counters()
    assert (counted.copies_d2h, counted.event_records, counted.host_allocations) == (0, 0, 0)
