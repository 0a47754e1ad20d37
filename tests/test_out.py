"""`out=`: arrays of the caller are filled, whatever memory they have, and misfits are refused before that."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from helpers import Array, hold, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

SHAPE = (30, 40)
LARGE = (3000, 1000)  # several chunks of the staged route


def source(shape: tuple[int, ...], device: str) -> torch.Tensor:
    return torch.arange(float(np.prod(shape))).view(shape).to(device)


def expected(shape: tuple[int, ...]) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


# From a Bridge and a shape to an array of float32 with other values than the source.
ARRAYS: dict[str, Callable[[tnb.Bridge, tuple[int, ...]], Array]] = {
    "of empty()": lambda bridge, shape: bridge.empty(shape, np.float32),
    "a transposed view of empty()": lambda bridge, shape: bridge.empty(shape[::-1], np.float32).T,
    "a part of empty()": lambda bridge, shape: bridge.empty((3, *shape), np.float32)[1],
    "every other column of empty()": lambda bridge, shape: bridge.empty((shape[0], 2 * shape[1]), np.float32)[:, ::2],
    "a result": lambda bridge, shape: bridge.to_numpy(torch.zeros(shape, device=torch.get_default_device())),
    "ordinary": lambda _, shape: np.zeros(shape, np.float32),
    "in Fortran's order": lambda _, shape: np.zeros(shape, np.float32, order="F"),
    "every other row": lambda _, shape: np.zeros((2 * shape[0], shape[1]), np.float32)[::2],
    "every other column": lambda _, shape: np.zeros((shape[0], 2 * shape[1]), np.float32)[:, ::2],
    "a transposed part": lambda _, shape: np.zeros((shape[1] + 1, shape[0] + 2), np.float32)[1:, 2:].T,
}
SOURCES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dense": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t(),
    "strided": lambda x: torch.stack([x, x], dim=-1)[..., 0],
    "negated": lambda x: torch._neg_view(-x),
}
CALLS: dict[str, Callable[[tnb.Bridge, Any, Any], Any]] = {
    "to_numpy": lambda bridge, tree, out: bridge.to_numpy(tree, out=out),
    "to_numpy_async": lambda bridge, tree, out: bridge.to_numpy_async(tree, out=out).result(),
    "snapshot": lambda bridge, tree, out: bridge.to_numpy_async(tree, out=out, snapshot=True).result(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ARRAYS)
def test_any_array_is_filled(bridge: tnb.Bridge, device: str, kind: str, call: str) -> None:
    for shape, layouts in ((SHAPE, list(SOURCES)), (LARGE, ["dense", "strided"])):
        for layout in layouts:
            out = ARRAYS[kind](bridge, shape)
            strides = out.strides
            tensor = SOURCES[layout](source(shape, device))
            assert CALLS[call](bridge, tensor, out) is out
            assert out.strides == strides
            assert (out == expected(shape)).all()


def test_what_lies_between_the_elements_is_left_alone(bridge: tnb.Bridge, device: str) -> None:
    whole = np.full((LARGE[0], 2 * LARGE[1]), -1, np.float32)
    bridge.to_numpy_async(source(LARGE, device), out=whole[:, ::2]).result()
    assert (whole[:, ::2] == expected(LARGE)).all()
    assert (whole[:, 1::2] == -1).all()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (1, 5, 1)])
def test_small_shapes(bridge: tnb.Bridge, device: str, shape: tuple[int, ...]) -> None:
    for out in (np.empty(shape, np.float32), bridge.empty(shape, np.float32)):
        assert bridge.to_numpy(source(shape, device), out=out) is out
        assert (out == expected(shape)).all()


def test_every_dtype(bridge: tnb.Bridge, device: str) -> None:
    from torch_np_bridge.dtypes import NUMPY_DTYPES

    for dtype, wanted in NUMPY_DTYPES.items():
        tensor = torch.ones(7).to(dtype).to(device)
        for out in (np.zeros(7, wanted), bridge.empty(7, wanted)):
            assert bridge.to_numpy(tensor, out=out).tobytes() == bridge.to_numpy(tensor).tobytes()


def test_a_file_is_filled(bridge: tnb.Bridge, device: str, tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=SHAPE)
    assert bridge.to_numpy(source(SHAPE, device), out=mapped) is mapped
    mapped.flush()
    assert (np.load(tmp_path / "rows.npy") == expected(SHAPE)).all()


class Pair(NamedTuple):
    a: Any
    b: Any


def test_a_tree(bridge: tnb.Bridge, device: str) -> None:
    """The structure comes back, with the arrays of `out` and the other leaves of the tree."""
    tree: dict[str, Any] = {"pair": Pair(source((3,), device), 7), "list": [source((2, 2), "cpu"), "text"]}
    out: dict[str, Any] = {
        "pair": Pair(np.empty(3, np.float32), None),
        "list": [bridge.empty((2, 2), np.float32), None],
    }
    result = bridge.to_numpy_async(tree, out=out).result()
    assert result["pair"].a is out["pair"].a
    assert result["list"][0] is out["list"][0]
    assert (result["pair"].b, result["list"][1]) == (7, "text")
    assert (result["pair"].a == [0, 1, 2]).all()
    assert (result["list"][0] == [[0, 1], [2, 3]]).all()


def test_rows_of_one_array(bridge: tnb.Bridge, device: str) -> None:
    """A rollout buffer: each leaf has its own part, also where the parts lie between each other."""
    rows, columns = np.empty((3, 4), np.float32), np.empty((4, 3), np.float32)
    tensors = [torch.full((4,), float(value)).to(device) for value in range(3)]
    bridge.to_numpy(tensors, out=list(rows))
    bridge.to_numpy(tensors, out=[columns[:, index] for index in range(3)])
    assert (columns == rows.T).all()
    assert (columns == [0, 1, 2]).all()


def readonly() -> Array:
    array = np.zeros(SHAPE, np.float32)
    array.flags.writeable = False
    return array


def unaligned() -> Array:
    return np.zeros(4 * 1200 + 1, np.uint8)[1:].view(np.float32).reshape(SHAPE)


def repeated() -> Array:
    return np.lib.stride_tricks.as_strided(np.zeros(40, np.float32), SHAPE, (0, 4))


MISFITS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "a list": (lambda: [[0.0] * 40] * 30, TypeError, "expected a numpy.ndarray, got builtins.list"),
    "a tensor": (lambda: torch.zeros(SHAPE), TypeError, "expected a numpy.ndarray, got torch.Tensor; pass an array"),
    "a number": (lambda: 3, TypeError, "expected a numpy.ndarray, got builtins.int"),
    "another dtype": (
        lambda: np.zeros(SHAPE),
        TypeError,
        "expected dtype float32, as torch.float32 has it, got float64",
    ),
    "another byte order": (lambda: np.zeros(SHAPE, ">f4"), TypeError, "expected dtype float32.*got >f4"),
    "another shape": (lambda: np.zeros((40, 30), np.float32), ValueError, r"expected shape \(30, 40\), got \(40, 30\)"),
    "a longer row": (lambda: np.zeros((30, 41), np.float32), ValueError, r"expected shape \(30, 40\), got \(30, 41\)"),
    "a row less": (lambda: np.zeros((29, 40), np.float32), ValueError, r"expected shape \(30, 40\), got \(29, 40\)"),
    "one dimension more": (lambda: np.zeros((1, 30, 40), np.float32), ValueError, r"expected shape \(30, 40\)"),
    "read-only": (readonly, ValueError, "got a read-only one"),
    "unaligned": (unaligned, ValueError, "expected an aligned array"),
    "flipped": (lambda: np.zeros(SHAPE, np.float32)[::-1], ValueError, "expected strides that go forward"),
    "repeated": (repeated, ValueError, "expected strides that go forward"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_misfits_are_refused_before_anything_starts(bridge: tnb.Bridge, device: str, misfit: str) -> None:
    make, error, words = MISFITS[misfit]
    good = np.full(SHAPE, -1, np.float32)
    tensor = source(SHAPE, device)
    before = bridge.stats()
    for convert in (bridge.to_numpy, bridge.to_numpy_async):
        with pytest.raises(error, match=words) as caught:
            convert({"good": tensor, "bad": tensor}, out={"good": good, "bad": make()})
        assert str(caught.value).startswith("out for tree['bad']: ")
    assert (good == -1).all()
    assert bridge.stats() == before


def test_arrays_that_share_memory_are_refused(bridge: tnb.Bridge, device: str) -> None:
    tensors = [source((4,), device), source((4,), device)]
    memory = np.zeros(8, np.float32)
    for out in ([memory[:4], memory[3:7]], [memory[:4], memory[:4]], [memory[3:7], memory[:4]]):
        with pytest.raises(ValueError, match="shares memory with another"):
            bridge.to_numpy(tensors, out=out)
    assert not memory.any()
    bridge.to_numpy(tensors, out=[memory[4:], memory[:4]])
    assert (memory == [0, 1, 2, 3, 0, 1, 2, 3]).all()


def test_a_source_on_the_cpu_is_only_read(native_bridge: tnb.Bridge) -> None:
    """No array shares its memory afterwards, so it may be resized, and shared until somebody writes."""
    tensor = torch.ones(4)
    shared = torch._lazy_clone(tensor)
    out = np.zeros(4, np.float32)
    native_bridge.to_numpy(shared, out=out)
    assert out.tolist() == [1, 1, 1, 1]
    assert torch._C._is_cow_tensor(shared)  # type: ignore[attr-defined]
    assert shared.resize_(100).shape == (100,)


def test_an_array_that_leads_back_to_its_transfer(bridge: tnb.Bridge, device: str) -> None:
    """The garbage collector sees the circle."""

    class Kept(np.ndarray[Any, Any]):
        transfer: tnb.Transfer

    array = np.zeros(SHAPE, np.float32).view(Kept)
    array.transfer = bridge.to_numpy_async(source(SHAPE, device), out=array)
    assert array.transfer.result() is array
    gone = weakref.ref(array)
    del array

    def collected() -> bool:
        gc.collect()
        return gone() is None

    wait_until(collected)  # the worker may have it for a moment yet


def test_copy_and_out_exclude_each_other(bridge: tnb.Bridge, device: str) -> None:
    for copy in (True, False):
        with pytest.raises(TypeError, match="expected either copy or out, got both"):
            bridge.to_numpy(source(SHAPE, device), copy=copy, out=np.zeros(SHAPE, np.float32))


def test_another_structure_is_refused(bridge: tnb.Bridge, device: str) -> None:
    array = np.zeros(SHAPE, np.float32)
    tree = {"a": source(SHAPE, device)}
    for out in ({"b": array}, [array], {"a": array, "b": array}, {}, array):
        with pytest.raises(ValueError, match="out: expected the structure of the tree"):
            bridge.to_numpy(tree, out=out)


def test_the_device_writes_to_memory_of_empty(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Contract 2: nothing lies between the device and the array."""
    tensor = source(LARGE, "fake")
    out = native_bridge.empty(LARGE, np.float32)
    native_bridge.to_numpy(tensor, out=out)
    before = native_bridge.stats()
    fake.reset_counters()
    native_bridge.to_numpy_async(tensor, out=out).result()
    counted = fake.counters()
    assert (counted.copies_d2h, counted.copies_synchronous, counted.host_allocations) == (1, 0, 0)
    assert native_bridge.stats().copied_bytes - before.copied_bytes == out.nbytes
    assert native_bridge.stats().unpooled_leaves == before.unpooled_leaves


@pytest.mark.parametrize("kind", ["of empty()", "ordinary", "every other column"])
def test_memory_lives_until_the_copy_has_ended(native: EngineChoice, fake: ModuleType, kind: str) -> None:
    """Also when the caller drops array and Transfer at once; not longer."""
    with tnb.Bridge(engine=native) as bridge:
        tensor = source(LARGE, "fake")
        out = ARRAYS[kind](bridge, LARGE)
        address, gone = out.ctypes.data, weakref.ref(out)
        with hold("fake"):
            bridge.to_numpy_async(tensor, out=out)
            del out
            others = [bridge.to_numpy_async(tensor) for _ in range(3)]
            assert kind == "of empty()" or gone() is not None
        assert address not in [other.result().ctypes.data for other in others]
        wait_until(lambda: gone() is None)
        bridge.trim()
        wait_until(lambda: bridge.stats().leased_bytes <= 3 * tensor.nbytes)


def test_a_failed_submit_lets_go_of_the_array(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    tensor = source(SHAPE, "fake")
    for out in (native_bridge.empty(SHAPE, np.float32), np.zeros(SHAPE, np.float32)):
        native_bridge.to_numpy_async(tensor, out=out).result()
    out = native_bridge.empty(SHAPE, np.float32)
    leased = native_bridge.stats().leased_bytes
    with fake.fail("event_record"), pytest.raises(RuntimeError, match="event_record failed"):
        native_bridge.to_numpy_async(tensor, out=out)
    gone = weakref.ref(out)
    del out
    assert gone() is None
    wait_until(lambda: native_bridge.stats().leased_bytes < leased)
