"""Trees are walked in C++ or by optree: what comes out is the same, and what is refused, however deep or wide."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest
import torch
from conftest import require
from helpers import assert_same_array, assert_silent, run_script, torchs_answer
from hypothesis import given
from hypothesis import strategies as st
from test_trees import A, Frozen, Names, Output, Point, TorchNode

import torch_np_bridge as tnb
from torch_np_bridge._classes import LEVELS, NAMESPACE
from torch_np_bridge._walk import Walk, leave_all
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.trees import flatten

keys = (
    st.text(max_size=2) | st.integers(-1, 2) | st.none() | st.tuples(st.integers(0, 1)) | st.sampled_from([0.5, b"a"])
)
leaves = st.integers(0, 9).map(lambda size: torch.full((size,), float(size))) | st.none() | st.text(max_size=2)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists, dicts = st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)
    exact = lists | lists.map(tuple) | dicts
    others = [
        dicts.map(collections.OrderedDict),
        dicts.map(lambda items: collections.defaultdict(list, items)),
        lists.map(collections.deque),
        lists.map(Names),
        st.builds(Point, inner, inner),
        st.builds(Output, inner, inner),
        st.builds(Frozen, inner),
        st.builds(TorchNode, inner, inner, st.just("tag")),
    ]
    return exact | st.one_of(others)


trees: st.SearchStrategy[Any] = st.recursive(leaves, containers, max_leaves=20)


def parts(tree: Any) -> tuple[list[Any], str]:
    """The leaves that are no tensors, and all of the structure, the order of keys included."""
    found, spec = optree.tree_flatten(tree, none_is_leaf=True, namespace=NAMESPACE)
    return [leaf for leaf in found if not isinstance(leaf, torch.Tensor)], str(spec)


@pytest.fixture(scope="module")
def native_walk() -> Walk:
    require("native")
    with tnb.Bridge(engine="native") as bridge:
        return bridge._selection.walk


@given(tree=trees)
def test_both_walks_find_the_same(native_walk: Walk, tree: Any) -> None:
    places = []
    for walk in (native_walk, leave_all):
        tensors, structure = flatten(tree, walk)
        places.append({structure.path(index): tensor for index, tensor in enumerate(tensors)})
        made = structure.rebuild([torch.empty(index) for index in range(len(tensors))])
        again, same = flatten(made, leave_all)
        assert {same.path(index): tensors[len(tensor)] for index, tensor in enumerate(again)} == places[-1]
        assert parts(made) == parts(tree)
    assert {path: id(tensor) for path, tensor in places[0].items()} == {
        path: id(tensor) for path, tensor in places[1].items()
    }


NESTED: dict[str, Callable[[Any], Any]] = {
    "lists": lambda inner: [inner],
    "tuples": lambda inner: (inner,),
    "dicts": lambda inner: {"a": inner},
    "OrderedDicts": lambda inner: collections.OrderedDict(a=inner),
    "deques": lambda inner: collections.deque([inner]),
}


def nested(kind: str, levels: int, leaf: Any = A) -> Any:
    tree = leaf
    for _ in range(levels):
        tree = NESTED[kind](tree)
    return tree


def innermost(tree: Any) -> Any:
    """What lies at the end of a nest, which is taken apart: freed at once, it would recurse as deep as it is."""
    while isinstance(tree, list | tuple | dict | collections.deque):
        [tree] = tree.values() if isinstance(tree, dict) else tree
    return tree


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("levels", [500, LEVELS])
def test_as_deep_as_it_may_be(bridge: tnb.Bridge, kind: str, levels: int) -> None:
    got = bridge.to_numpy(nested(kind, levels))
    assert innermost(got).tolist() == A.tolist()
    out = nested(kind, levels, np.ones(2, np.float32))
    assert innermost(bridge.to_numpy(nested(kind, levels), out=out)) is innermost(out)
    assert innermost(out).tolist() == A.tolist()


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("levels", [LEVELS + 1, 50_000])
def test_deeper(bridge: tnb.Bridge, kind: str, levels: int) -> None:
    tree = nested(kind, levels)
    with pytest.raises(RecursionError, match=rf"^expected a tree of at most {LEVELS} levels, got a deeper one.*; pass"):
        bridge.to_numpy(tree)
    innermost(tree)


@pytest.mark.parametrize(("kind", "step"), [("lists", "[0]"), ("dicts", "['a']"), ("OrderedDicts", "['a']")])
def test_the_words_for_what_lies_deep(bridge: tnb.Bridge, kind: str, step: str) -> None:
    path = step * 500
    with pytest.raises(tnb.UnsupportedTensorError) as refused:
        bridge.to_numpy(nested(kind, 500, A.to_sparse()))
    assert str(refused.value).startswith(f"tree{path}: expected a strided tensor")
    with pytest.raises(ValueError, match="expected the structure") as mismatch:
        bridge.to_numpy(nested(kind, 500, [A]), out=nested(kind, 500, np.zeros(2, np.float32)))
    assert str(mismatch.value).startswith(f"out{path}: expected the structure of the tree, a list, got a numpy.ndarray")


LOOPS: dict[str, Callable[[list[Any]], Any]] = {
    "itself": lambda end: end,
    "a dict": lambda end: {"a": A, "b": end},
    "below others": lambda end: [[[[[{"a": [A], "b": (end, A)}]]]]],
    "an OrderedDict": lambda end: collections.OrderedDict(a=end),
}


@pytest.mark.parametrize("outer", LOOPS)
@pytest.mark.parametrize("length", [1, 2, 3, 17, LEVELS])
def test_what_contains_itself(bridge: tnb.Bridge, outer: str, length: int) -> None:
    """A list of the tree that begins again so many levels below."""
    end: list[Any] = [A]
    end.append(nested("lists", length - 1, end))
    with pytest.raises(RecursionError, match="or a container that contains itself; pass"):
        bridge.to_numpy(LOOPS[outer](end))
    end.clear()


def test_a_wide_loop_does_not_fill_the_memory(native: EngineChoice) -> None:
    """Walked a thousand times, this list would need eight gigabytes."""
    assert_silent(
        run_script(
            """
import pathlib, resource, torch_np_bridge as tnb
bridge = tnb.Bridge(engine="native")
wide = [None] * 1_000_000
wide.insert(0, [[[wide]]])
pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
most = pages * resource.getpagesize() + (1 << 29)
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for tree in (wide, [wide], {"a": wide}, [[[[[wide]]]]]):
    try: bridge.to_numpy(tree)
    except RecursionError: pass
    else: raise AssertionError("expected a RecursionError")
"""
        )
    )


def test_one_container_in_many_places_is_no_loop(bridge: tnb.Bridge) -> None:
    shared: list[Any] = [A]
    for _ in range(10):
        shared = [shared, shared]
    got = bridge.to_numpy(shared)
    for _ in range(10):
        assert len(got) == 2
        got = got[1]
    assert got[0].tolist() == A.tolist()


def test_ten_thousand_leaves(bridge: tnb.Bridge, device: str) -> None:
    source = torch.arange(10_000).to(device)
    tree = {f"layer {index}": [source[index], (index, source[index + 1])] for index in range(0, 10_000, 2)}
    got = bridge.to_numpy(tree)
    assert list(got) == list(tree)
    assert all(
        (first, number, second) == (index, index, index + 1)
        for index, (first, (number, second)) in zip(range(0, 10_000, 2), got.values(), strict=True)
    )


def test_a_tree_that_aliases(bridge: tnb.Bridge, device: str) -> None:
    """Leaf by leaf what torch gives: arrays that share memory where its own do, and nowhere else."""
    storage = torch.arange(200.0).to(device)
    tree = {
        "same": [storage, storage],
        "parts": (storage[50:], storage[:100]),
        "other": Point(storage[::3], storage.view(20, 10).t()),
    }
    got = bridge.to_numpy(tree)
    arrays = [*got["same"], *got["parts"], *got["other"]]
    for array, tensor in zip(arrays, [*tree["same"], *tree["parts"], *tree["other"]], strict=True):
        assert_same_array(array, torchs_answer(tensor))
    arrays[0] += 1000
    assert [bool((array >= 1000).any()) for array in arrays] == [True] + [device == "cpu"] * 5
