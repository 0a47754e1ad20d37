"""Trees come back as they were: the same types, keys and order, with arrays where the tensors stood."""

from __future__ import annotations

import collections
import dataclasses
import functools
import gc
import types
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest
import torch
import torch.utils._pytree as torch_pytree
from helpers import run_script

import torch_np_bridge as tnb
from torch_np_bridge._classes import NAMESPACE


class Point(NamedTuple):
    x: Any
    y: Any


@dataclasses.dataclass
class Output:
    logits: Any
    hidden: Any = None
    name: str = "?"


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


@dataclasses.dataclass
class Computed:
    """Its constructor takes other things than its fields and computes."""

    given: dataclasses.InitVar[int]
    made: Any = dataclasses.field(init=False)

    def __post_init__(self, given: int) -> None:
        self.made = torch.full((2,), float(given))


class Names(list[Any]):
    pass


class Pair(tuple[Any, ...]):
    pass


class Config(dict[str, Any]):
    pass


class Ordered(collections.OrderedDict[str, Any]):
    pass


class Readings(Mapping[str, Any]):
    """A Mapping that is no dict."""

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Readings) and self._items == other._items


class TorchNode:
    """Known to torch's pytree only, as ModelOutput and TensorDict are."""

    def __init__(self, left: Any, right: Any, tag: str) -> None:
        self.left, self.right, self.tag = left, right, tag


torch_pytree.register_pytree_node(
    TorchNode,
    lambda node: ([node.left, node.right], node.tag),
    lambda children, tag: TorchNode(*children, tag),  # type: ignore[call-arg]
)


A, B, C = torch.zeros(2), torch.ones(2, 3), torch.tensor(5)
TREES: dict[str, Any] = {
    "dict": {"b": A, "a": [B, {"c": C}]},
    "list of tuples": [(A, B), (C,), ()],
    "namedtuple": Point(A, [B]),
    "structseq": torch.return_types.max((A, B)),
    "None and others": {"x": None, "n": 5, "s": "text", "t": A},
    "OrderedDict": collections.OrderedDict([("z", A), ("a", B)]),
    "defaultdict": collections.defaultdict(list, {"z": A, "a": B}),
    "deque": collections.deque([A, B], maxlen=5),
    "list subclass": Names([A, B]),
    "tuple subclass": Pair((A, B)),
    "dict subclass": Config(z=A, a=[B]),
    "OrderedDict subclass": Ordered(z=A, a=[B]),
    "Mapping": Readings({"z": A, "a": B}),
    "mapping proxy": types.MappingProxyType({"z": A}),
    "shape": [torch.Size([2, 3]), A],
}


def equal(got: Any, source: Any) -> bool:
    """The same structure and types, with arrays for tensors."""
    if isinstance(source, torch.Tensor):
        return type(got) is np.ndarray and bool(np.array_equal(got, source.numpy()))
    if type(got) is not type(source):
        return False
    if isinstance(source, Mapping):
        return list(got) == list(source) and all(equal(got[key], source[key]) for key in source)
    if isinstance(source, (list, tuple, collections.deque)):
        return len(got) == len(source) and all(map(equal, got, source))
    return bool(got == source)


@pytest.mark.parametrize("kind", TREES)
def test_structures_come_back(bridge: tnb.Bridge, kind: str) -> None:
    for tree in (TREES[kind], [TREES[kind], TREES[kind]]):
        assert equal(bridge.to_numpy(tree), tree)
        assert equal(bridge.to_numpy_async(tree).result(), tree)


def test_details_of_containers_come_back(bridge: tnb.Bridge) -> None:
    assert bridge.to_numpy(TREES["deque"]).maxlen == 5
    assert bridge.to_numpy(TREES["defaultdict"]).default_factory is list


def test_dataclasses(bridge: tnb.Bridge) -> None:
    output = bridge.to_numpy(Output(A, hidden=[B], name="encoder"))
    assert type(output) is Output
    assert output.name == "encoder"
    assert equal(output.logits, A)
    assert equal(output.hidden, [B])
    assert equal(bridge.to_numpy([Frozen(Output(A))])[0].value.logits, A)
    computed = bridge.to_numpy(Computed(3))
    assert computed.made.tolist() == [3, 3]


def test_a_dataclass_that_lacks_a_field(bridge: tnb.Bridge) -> None:
    output = Output(A, hidden=[B])
    del output.logits
    got = bridge.to_numpy(output)
    assert equal(got.hidden, [B])
    assert not hasattr(got, "logits")


def test_nodes_of_torchs_pytree(bridge: tnb.Bridge) -> None:
    node = bridge.to_numpy({"out": TorchNode(A, [B], "tag")})["out"]
    assert type(node) is TorchNode
    assert node.tag == "tag"
    assert equal([node.left, node.right], [A, [B]])


def test_nodes_registered_with_optree(bridge: tnb.Bridge) -> None:
    class Boxed:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    def flatten(box: Any) -> tuple[tuple[Any], None]:
        return (box.inner,), None

    cls: Any = Boxed  # optree's types speak of Collections
    optree.register_pytree_node(cls, flatten, lambda _, kids: cls(*kids), namespace=NAMESPACE)
    assert equal(bridge.to_numpy([Boxed(A)])[0].inner, A)


def test_the_original_is_left_alone(bridge: tnb.Bridge) -> None:
    tree: dict[str, Any] = {"a": [A, B], "b": Output(C)}
    bridge.to_numpy(tree)
    assert tree["a"][0] is A
    assert tree["b"].logits is C


def test_one_tensor_in_two_places(bridge: tnb.Bridge, device: str) -> None:
    tensor = torch.arange(4.0, device=device)
    first, second = bridge.to_numpy([tensor, tensor])
    assert first.tolist() == second.tolist() == [0, 1, 2, 3]


def test_cpu_and_device_leaves_in_one_tree(bridge: tnb.Bridge, device: str) -> None:
    tree: dict[str, Any] = {"here": A, "there": B.to(device), "text": "x", "rest": [C.to(device), np.arange(2)]}
    got = bridge.to_numpy(tree)
    assert got["here"].ctypes.data == A.data_ptr()
    assert got["rest"][1] is tree["rest"][1]
    assert equal([got["there"], got["rest"][0]], [B, C])


@pytest.mark.parametrize("kind", [dict, functools.partial(collections.defaultdict, list), collections.OrderedDict])
@pytest.mark.parametrize("inside", [lambda keyed: keyed, lambda keyed: [Output(A, keyed)]], ids=["plain", "in others"])
def test_keys_may_be_tensors(
    bridge: tnb.Bridge, device: str, kind: Callable[..., Any], inside: Callable[[Any], Any]
) -> None:
    """As in the state of an optimizer. Keys stay what they are, and need no order, which tensors do not have."""
    first, second = (torch.nn.Parameter(torch.ones(2, device=device)) for _ in range(2))
    keyed = kind({second: {"step": A.to(device)}, first: B.to(device)})
    converted = bridge.to_numpy(inside(keyed))
    got = converted if type(converted) is type(keyed) else converted[0].hidden
    assert type(got) is type(keyed)
    assert list(map(id, got)) == [id(second), id(first)]
    assert equal(list(got.values()), [{"step": A}, B])


def test_a_thousand_leaves(bridge: tnb.Bridge, device: str) -> None:
    tree = {f"layer {index}": torch.full((7,), float(index), device=device) for index in range(1000)}
    got = bridge.to_numpy(tree)
    assert list(got) == list(tree)
    assert all((array == index).all() for index, array in enumerate(got.values()))


def test_a_transfer_does_not_keep_the_tree(bridge: tnb.Bridge, device: str) -> None:
    tensor = torch.ones(3, device=device)
    tree = Output(tensor, hidden=Names([tensor]))
    holders = [weakref.ref(tree), weakref.ref(tree.hidden)]
    transfer = bridge.to_numpy_async(tree)
    del tree
    gc.collect()
    assert [holder() for holder in holders] == [None, None]
    assert transfer.result().logits.tolist() == [1, 1, 1]


def test_other_namespaces_stay_as_they_are() -> None:
    """Importing the package and converting changes nothing for others who use optree."""
    script = """
import dataclasses, optree, torch, torch_np_bridge as tnb
@dataclasses.dataclass
class Output:
    x: object
tree = {"b": 1, "a": Output(torch.ones(2))}
tnb.to_numpy(tree)
leaves, spec = optree.tree_flatten(tree)
assert leaves == [tree["a"], 1], leaves
"""
    finished = run_script(script)
    assert (finished.returncode, finished.stderr) == (0, "")
