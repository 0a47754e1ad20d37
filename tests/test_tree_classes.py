"""Containers of one's own: what they hold besides their items comes back, and no constructor is called."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optree
import pytest
import torch
import torch.utils._pytree as torch_pytree
from test_trees import A, B, Names, Pair, Readings, equal

import torch_np_bridge as tnb
from torch_np_bridge._classes import NAMESPACE
from torch_np_bridge.trees import flatten


class Choosy(list[Any]):
    """Neither constructor takes what list takes."""

    def __new__(cls, label: str, *items: Any) -> Choosy:
        return super().__new__(cls)

    def __init__(self, label: str, *items: Any) -> None:
        super().__init__(items)
        self.label = label


class ChoosyDict(dict[str, Any]):
    def __new__(cls, label: str, **items: Any) -> ChoosyDict:
        return super().__new__(cls)

    def __init__(self, label: str, **items: Any) -> None:
        super().__init__(items)
        self.label = label


class ChoosyTuple(tuple[Any, ...]):
    label: str

    def __new__(cls, label: str, *items: Any) -> ChoosyTuple:
        made = super().__new__(cls, items)
        made.label = label
        return made


class ChoosyDeque(collections.deque[Any]):
    def __init__(self, label: str, *items: Any) -> None:
        super().__init__(items, 7)
        self.label = label


CHOOSY: list[Callable[[], Any]] = [
    lambda: Choosy("left", A, [B]),
    lambda: ChoosyDict("left", z=A, a=B),
    lambda: ChoosyTuple("left", A, [B]),
    lambda: ChoosyDeque("left", A, [B]),
]


class Slotted(dict[str, Any]):
    __slots__ = ("__hidden", "shown", "unset")

    def __init__(self, hidden: Any, shown: Any, **items: Any) -> None:
        super().__init__(items)
        self.__hidden, self.shown = hidden, shown

    def hidden(self) -> Any:
        return self.__hidden


class Keyed(dict[str, Any]):
    """The recipe of which attributes and items are one."""

    def __init__(self, **items: Any) -> None:
        super().__init__(items)
        self.__dict__ = self


@dataclasses.dataclass
class ModelOutput(collections.OrderedDict[str, Any]):
    """Each field is an item and an attribute."""

    logits: Any
    loss: Any = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self[field.name] = getattr(self, field.name)


class Stubborn(Readings):
    """Its constructor refuses what it is given, and one attribute is nowhere in the items."""

    def __init__(self, items: Mapping[str, Any], *, colour: str) -> None:
        if any(isinstance(item, np.ndarray) for item in items.values()):
            raise ValueError("no arrays here")
        super().__init__(items)
        self.colour = colour


@pytest.mark.parametrize("make", CHOOSY, ids=["list", "dict", "tuple", "deque"])
def test_no_constructor_is_called(bridge: tnb.Bridge, make: Callable[[], Any]) -> None:
    source = make()
    got = bridge.to_numpy([source])[0]
    assert equal(got, source)
    assert got.label == "left"
    assert getattr(got, "maxlen", None) == getattr(source, "maxlen", None)


@pytest.mark.parametrize("make", [lambda: Names([A]), lambda: Pair([A]), lambda: Readings({"a": A})])
def test_attributes_come_back_converted(bridge: tnb.Bridge, make: Callable[[], Any]) -> None:
    source = make()
    source.extra, source.note = {"inner": B}, "text"
    got = bridge.to_numpy(source)
    assert equal(got, source)
    assert equal(got.extra, source.extra)
    assert got.note == "text"


def test_a_dataclass_keeps_what_is_no_field(bridge: tnb.Bridge) -> None:
    @dataclasses.dataclass
    class Output:
        logits: Any

    output = Output(A)
    output.cached = B  # type: ignore[attr-defined]
    got = bridge.to_numpy(output)
    assert equal([got.logits, got.cached], [A, B])


def test_slots_come_back(bridge: tnb.Bridge) -> None:
    got = bridge.to_numpy(Slotted(A, "shown", item=B))
    assert equal([got.hidden(), got["item"]], [A, B])
    assert got.shown == "shown"
    assert not hasattr(got, "unset")


def test_attributes_that_are_the_items(bridge: tnb.Bridge) -> None:
    got = bridge.to_numpy(Keyed(a=A))
    assert got.__dict__ is got
    assert got.a is got["a"]
    assert equal(got.a, A)


def test_a_field_that_is_an_item_is_converted_once(bridge: tnb.Bridge) -> None:
    got = bridge.to_numpy(ModelOutput(A, [B]))
    assert type(got) is ModelOutput
    assert list(got) == ["logits", "loss"]
    assert got.logits is got["logits"]
    assert got.loss is got["loss"]
    assert equal([got.logits, got.loss], [A, [B]])


def test_the_order_of_an_ordered_dict_is_its_own(bridge: tnb.Bridge) -> None:
    class Ordered(collections.OrderedDict[str, Any]):
        pass

    source = Ordered(a=A, b=B)
    source.move_to_end("a")
    assert list(bridge.to_numpy(source)) == ["b", "a"]


def test_containers_of_the_standard_library(bridge: tnb.Bridge) -> None:
    user = collections.UserDict(a=A)
    user.note = "text"  # type: ignore[attr-defined]
    got = bridge.to_numpy({"user": user, "list": collections.UserList([B])})
    assert equal(got["user"].data, {"a": A})
    assert got["user"].note == "text"
    assert equal(got["list"].data, [B])
    chain = bridge.to_numpy(collections.ChainMap({"a": A}, {"a": 2, "b": B}))
    assert type(chain) is collections.ChainMap
    assert equal(chain.maps, [{"a": A}, {"a": 2, "b": B}])
    counter = bridge.to_numpy(collections.Counter[str]({"a": A}))
    assert type(counter) is collections.Counter
    assert equal(counter["a"], A)


def test_packed_sequences(bridge: tnb.Bridge, device: str) -> None:
    rows = [torch.ones(3, device=device), torch.zeros(2, device=device)]
    packed = torch.nn.utils.rnn.pack_sequence(rows)
    got = bridge.to_numpy([packed])[0]
    assert type(got) is type(packed)
    assert got.data.tolist() == [1, 0, 1, 0, 1]
    assert got.batch_sizes.tolist() == [2, 2, 1]
    assert got.sorted_indices is None
    with pytest.raises(tnb.UnsupportedTensorError, match=r"^tree\[0\]\.data: .*layout"):
        bridge.to_numpy([packed._replace(data=torch.eye(3).to_sparse())])


def test_an_extended_namedtuple_keeps_its_attributes(bridge: tnb.Bridge) -> None:
    class Point(collections.namedtuple("Point", "x y")):
        def __new__(cls, both: Any) -> Point:
            return super().__new__(cls, both, both)

    point = Point(A)
    vars(point)["note"] = B
    got = bridge.to_numpy(point)
    assert type(got) is Point
    assert equal([got.x, got.y, vars(got)["note"]], [A, A, B])


def test_a_bunch(bridge: tnb.Bridge) -> None:
    bunch: Any = pytest.importorskip("sklearn.utils", reason="expected scikit-learn, got none").Bunch
    got = bridge.to_numpy(bunch(data=A, names=["a"]))
    assert type(got) is bunch
    assert equal(got.data, A)
    assert got.names == ["a"]


def test_a_mapping_is_made_again_without_its_constructor(bridge: tnb.Bridge) -> None:
    source = Stubborn({"a": A}, colour="red")
    got = bridge.to_numpy(source)
    assert type(got) is Stubborn
    assert equal(got["a"], A)
    assert got.colour == "red"


def test_a_class_that_torch_comes_to_know_later(bridge: tnb.Bridge) -> None:
    class Plain:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    @dataclasses.dataclass
    class Record:
        inner: Any

    def remake(cls: Any, children: Any, _: Any) -> Any:
        return cls([*children, "torch"])

    for cls in (Plain, Record):
        bridge.to_numpy(cls(A))
        made: Any = cls
        torch_pytree.register_pytree_node(made, lambda obj: ([obj.inner], None), functools.partial(remake, made))
        got = bridge.to_numpy([cls(A)])[0]
        assert type(got) is cls
        assert equal(got.inner[0], A)
        assert got.inner[1] == "torch"


def test_a_class_that_optree_comes_to_know_later(bridge: tnb.Bridge) -> None:
    class Boxed:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    boxed: Any = Boxed(A)
    assert bridge.to_numpy([boxed])[0] is boxed
    cls: Any = Boxed

    def take(box: Any) -> tuple[tuple[Any], None]:
        return (box.inner,), None

    optree.register_pytree_node(cls, take, lambda _, kids: cls(*kids), namespace=NAMESPACE)
    got = bridge.to_numpy([boxed])[0]
    assert equal(got.inner, A)


def test_paths_name_attributes_and_items(bridge: tnb.Bridge) -> None:
    names = Names([torch.zeros(1)])
    names.extra = {"k": torch.zeros(2)}  # type: ignore[attr-defined]
    slotted = Slotted(torch.zeros(4), torch.zeros(5), **{"i j": torch.zeros(3)})
    tree = {"n": names, "s": slotted, "p": [ChoosyTuple("l", torch.zeros(6))]}
    tensors, structure = flatten(tree, bridge._selection.walk)
    assert {structure.path(index): len(tensor) for index, tensor in enumerate(tensors)} == {
        "tree['n'][0]": 1,
        "tree['n'].extra['k']": 2,
        "tree['s']['i j']": 3,
        "tree['s']._Slotted__hidden": 4,
        "tree['s'].shown": 5,
        "tree['p'][0][0]": 6,
    }


def test_no_code_of_a_class_is_run(bridge: tnb.Bridge) -> None:
    class Hostile(dict[str, Any]):
        __slots__ = ("unset",)

        def __getattribute__(self, name: str) -> Any:
            raise KeyError(name)

        def __setitem__(self, key: str, value: Any) -> None:
            raise RuntimeError

        def __iter__(self) -> Iterator[str]:
            raise RuntimeError

    class Silent(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter(())

    source = dict.__new__(Hostile)
    dict.__setitem__(source, "a", A)
    assert equal(dict.__getitem__(bridge.to_numpy(source), "a"), A)
    assert equal(list.__getitem__(bridge.to_numpy(Silent([A])), 0), A)
