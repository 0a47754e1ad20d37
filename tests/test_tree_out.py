"""`out=` for trees: it is matched by its structure, and what does not match is named by its path and what it is."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest
import torch
from test_trees import A, Frozen, Names, Output, Point

import torch_np_bridge as tnb


def array() -> Any:
    return np.zeros(2, np.float32)


def test_keys_in_another_order(bridge: tnb.Bridge, device: str) -> None:
    """The tree's order comes back, with the arrays of `out` by their keys."""
    tree = {
        "b": torch.tensor([1.0, 2.0]).to(device),
        3: {"x": [torch.tensor([3.0, 4.0]).to(device)], "note": "text", "y": torch.tensor([5.0, 6.0]).to(device)},
        None: collections.OrderedDict(p=torch.tensor([7.0, 8.0]).to(device), q=torch.tensor([9.0, 0.0]).to(device)),
    }
    out: dict[Any, Any] = {
        None: collections.OrderedDict(q=array(), p=array()),
        3: {"y": array(), "note": None, "x": [array()]},
        "b": array(),
    }
    got = bridge.to_numpy(tree, out=out)
    assert [list(got), list(got[3]), list(got[None])] == [["b", 3, None], ["x", "note", "y"], ["p", "q"]]
    assert got["b"] is out["b"]
    assert got[3]["x"][0] is out[3]["x"][0]
    assert got[3]["y"] is out[3]["y"]
    assert got[None]["p"] is out[None]["p"]
    assert [out["b"].tolist(), out[3]["x"][0].tolist(), out[3]["y"].tolist()] == [[1, 2], [3, 4], [5, 6]]
    assert [out[None]["p"].tolist(), out[None]["q"].tolist()] == [[7, 8], [9, 0]]


@pytest.mark.parametrize("expected", [dict, collections.OrderedDict, collections.defaultdict])
@pytest.mark.parametrize("given", [dict, collections.OrderedDict, collections.defaultdict])
def test_kinds_of_dict_serve_for_each_other(bridge: tnb.Bridge, expected: Any, given: Any) -> None:
    tree, out = expected(), given()
    tree["a"], tree["b"] = A, [A]
    out["b"], out["a"] = [array()], array()
    got = bridge.to_numpy({"inner": tree}, out={"inner": out})["inner"]
    assert type(got) is expected
    assert list(got) == ["a", "b"]
    assert got["a"] is out["a"]
    assert got["b"][0] is out["b"][0]


DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "a key": ([{"b": A}], [{"c": 0}], "out[0]: .., a dict with the keys ('b',), got others"),
    "a key of another kind": (
        {"x": collections.OrderedDict(a=A)},
        {"x": {"b": 0}},
        "out['x']: .., a collections.OrderedDict with the keys ('a',), got others",
    ),
    "one more item": ({"a": [5, {"b": A}]}, {"a": [5, {"b": 0}, 0]}, "out['a']: .., a list of 2, got one of 3"),
    "one key less": ({"a": A, "b": A}, collections.OrderedDict(a=0), "out: .., a dict of 2, got one of 1"),
    "a tuple": ([[A]], [(0,)], "out[0]: .., a list, got a tuple; build it with the same types"),
    "a leaf": ({"a": 1, "c": [5]}, {"a": 1, "c": None}, "out['c']: .., a list, got a NoneType; build it with"),
    "an empty one": ({"a": 1, "c": ()}, {"a": 1, "c": (0,)}, "out['c']: .., a tuple of 0, got one of 1"),
    "a subclass": ([[A]], [Names([0])], "out[0]: .., a list, got a "),
    "in a namedtuple": ([Point(A, [A])], [Point(0, [0, 0])], "out[0].y: .., a list of 1, got one of 2"),
    "in a dataclass": ({"k": Output(A, [A])}, {"k": Output(0, 0)}, "out['k'].hidden: .., a list, got a int; build"),
    "another class": ([Frozen(A)], [Point(0, 0)], "out[0]: .., a test_trees.Frozen, got a test_trees.Point; build"),
    "another length": (
        collections.deque([A]),
        collections.deque([0, 0]),
        "out: .., a collections.deque of 1, got one of 2",
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_does_not_match_is_named(bridge: tnb.Bridge, what: str) -> None:
    tree, out, words = DIFFERENT[what]
    with pytest.raises(ValueError, match="expected the structure of the tree") as refused:
        bridge.to_numpy(tree, out=out)
    assert str(refused.value).startswith(words.replace("..", "expected the structure of the tree"))


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_keys_that_have_no_order(bridge: tnb.Bridge, kind: Any) -> None:
    """Tensors: each is the same as itself only, and optree sorts the keys that it misses, to name them."""
    first, second, other = torch.ones(2), torch.zeros(2), torch.zeros(2)
    tree = [kind({first: A, second: [A]})]
    out = [kind({second: [array()], first: array()})]
    got = bridge.to_numpy(tree, out=out)[0]
    assert list(map(id, got)) == [id(first), id(second)]
    assert got[first] is out[0][first]
    assert got[second][0] is out[0][second][0]
    with pytest.raises(ValueError, match=r"^out\[0\]: expected the structure of the tree, .* the keys .*, got others"):
        bridge.to_numpy(tree, out=[kind({first: array(), other: [array()]})])


class Incomparable:
    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("of a key")


@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_what_a_comparison_of_keys_raises(bridge: tnb.Bridge, kind: Any) -> None:
    with pytest.raises(RuntimeError, match=r"^of a key$"):
        bridge.to_numpy([kind({Incomparable(): A})], out=[kind({Incomparable(): array()})])


def test_a_list_with_other_attributes(bridge: tnb.Bridge) -> None:
    tree, out = Names([A]), Names([array()])
    tree.note = out.remark = array()  # type: ignore[attr-defined]
    words = r"^out\[0\]: expected the structure of the tree, a test_trees.Names that is the same in all but its arrays"
    with pytest.raises(ValueError, match=words):
        bridge.to_numpy([tree], out=[out])


def test_an_out_that_contains_itself(bridge: tnb.Bridge) -> None:
    loop: list[Any] = [array()]
    loop.append(loop)
    ordered: Any = collections.OrderedDict()
    ordered["a"] = ordered
    for tree, out, words in (
        ([A, [A]], loop, r"out\[1\]: .* a list of 1, got one of 2"),
        ([A, (A, A)], loop, r"out\[1\]: .* a tuple, got a list"),
        (Frozen([A]), loop, r"out: .* a test_trees.Frozen, got a list"),
        (collections.OrderedDict(a=collections.OrderedDict(b=A)), ordered, r"out\['a'\]: .* with the keys \('b',\)"),
    ):
        with pytest.raises(ValueError, match=f"^{words}"):
            bridge.to_numpy(tree, out=out)


def test_no_code_of_what_does_not_match_is_run(bridge: tnb.Bridge) -> None:
    class Hostile:
        def __len__(self) -> int:
            raise KeyboardInterrupt

    for tree in ([[A]], [Frozen(A)]):
        with pytest.raises(ValueError, match=r"^out\[0\]: expected the structure of the tree, a .*, got a .*Hostile"):
            bridge.to_numpy(tree, out=[Hostile()])
