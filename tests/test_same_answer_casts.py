"""Contract 1 with `dtype=`: whatever the tree, the memory and the call, the arrays are torch's own `.to`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Array, assert_same_array, torchs_answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import Case, cases

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.dtypes import NUMPY_DTYPES, TORCH_DTYPES

pytestmark = pytest.mark.filterwarnings("ignore:Casting complex values to real")

DTYPES = sorted(NUMPY_DTYPES, key=str)
targets = st.sampled_from([NUMPY_DTYPES[dtype] for dtype in DTYPES])
# None, one dtype, or a mapping, in which what one becomes may be named too.
wishes: st.SearchStrategy[Any] = st.none() | targets | st.dictionaries(st.sampled_from(DTYPES), targets, max_size=8)
leaves = st.sampled_from(DTYPES).flatmap(cases) | st.none() | st.integers()
trees: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3) | st.tuples(inner, inner)
    ),
    max_leaves=6,
)


def mapped(tree: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """The tree with what is of a kind replaced, all else the same."""
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, dict):
        return {key: mapped(value, kind, function) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(value, kind, function) for value in tree)
    return tree


def wanted(dtype: Any, source: torch.dtype) -> torch.dtype:
    """What the wish makes of a dtype."""
    found = dtype.get(source, NUMPY_DTYPES[source]) if isinstance(dtype, dict) else dtype
    return source if found is None else TORCH_DTYPES[found]


def arrays_of(tree: Any) -> list[Array]:
    found: list[Array] = []
    mapped(tree, np.ndarray, found.append)
    return found


def assert_same_tree(got: Any, expected: Any) -> None:
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray):
        assert_same_array(got, expected)
    elif isinstance(expected, dict):
        assert list(got) == list(expected)
        assert_same_tree(list(got.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            assert_same_tree(one, other)
    else:
        assert got is expected


@pytest.fixture(scope="module")
def bridges(engine: EngineChoice) -> Iterator[list[tnb.Bridge]]:
    """For all examples of hypothesis: one with room, and one beyond its limit where the engine has any."""
    limits = [None, 0] if engine == "native" else [None]
    with ExitStack() as opened:
        yield [opened.enter_context(tnb.Bridge(engine=engine, pinned_limit=limit)) for limit in limits]


@settings(deadline=None, max_examples=60)
@given(tree=trees, dtype=wishes)
def test_trees(bridges: list[tnb.Bridge], device: str, tree: Any, dtype: Any) -> None:
    source = mapped(tree, Case, lambda case: case.build(device))

    def answer(tensor: torch.Tensor) -> Array:
        return torchs_answer(tensor, wanted(dtype, tensor.dtype))

    def copied(tensor: torch.Tensor) -> Array:
        """Dense, as every cast is; the same operation on the same strides, since the bits of a NaN depend on them."""
        return answer(tensor) if wanted(dtype, tensor.dtype) != tensor.dtype else answer(tensor.detach().clone())

    shared, fresh = mapped(source, torch.Tensor, answer), mapped(source, torch.Tensor, copied)
    assert_same_tree(tnb.to_numpy(source, dtype=dtype), shared)
    for bridge in bridges:
        assert_same_tree(bridge.to_numpy(source, dtype=dtype), shared)
        assert_same_tree(bridge.to_numpy_async(source, dtype=dtype).result(), shared)
        assert_same_tree(bridge.to_numpy(source, dtype=dtype, copy=True), fresh)
        assert_same_tree(bridge.to_numpy_async(source, dtype=dtype, snapshot=True).result(), fresh)
        for snapshot in (False, True):
            out = mapped(fresh, np.ndarray, np.zeros_like)
            bridge.to_numpy_async(source, dtype=dtype, out=out, snapshot=snapshot).result()
            for got, expected in zip(arrays_of(out), arrays_of(fresh), strict=True):
                assert got.tobytes() == expected.tobytes()


@pytest.mark.usefixtures("packing")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(drawn=st.lists(st.sampled_from(DTYPES).flatmap(cases), min_size=2, max_size=20), dtype=wishes)
def test_trees_by_both_ways_to_copy_their_leaves(accelerator: str, drawn: list[Case], dtype: Any) -> None:
    """Packed by one launch where the device type has a packer that takes them, and one by one."""
    tree = {"lists": [[case.build(accelerator)] for case in drawn], "last": drawn[0].build(accelerator)}

    def answer(tensor: torch.Tensor) -> Array:
        return torchs_answer(tensor, wanted(dtype, tensor.dtype))

    expected = mapped(tree, torch.Tensor, answer)
    with tnb.Bridge(engine="native") as bridge:
        assert_same_tree(bridge.to_numpy(tree, dtype=dtype), expected)
        assert_same_tree(bridge.to_numpy_async(tree, dtype=dtype, snapshot=True).result(), expected)


@settings(deadline=None, max_examples=40)
@given(tree=trees, dtype=wishes)
def test_views_or_errors(bridges: list[tnb.Bridge], tree: Any, dtype: Any) -> None:
    """`copy=False`, on the CPU."""
    source = mapped(tree, Case, lambda case: case.build("cpu"))
    tensors: list[torch.Tensor] = []
    mapped(source, torch.Tensor, tensors.append)
    cast = any(wanted(dtype, tensor.dtype) != tensor.dtype for tensor in tensors)
    lazy = any(tensor.is_conj() or tensor.is_neg() for tensor in tensors)
    for bridge in bridges:
        if cast or lazy:
            with pytest.raises(ValueError, match="pass copy=None"):
                bridge.to_numpy(source, dtype=dtype, copy=False)
        else:
            assert_same_tree(
                bridge.to_numpy(source, dtype=dtype, copy=False), mapped(source, torch.Tensor, torchs_answer)
            )
