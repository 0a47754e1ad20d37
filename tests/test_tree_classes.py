"""Containers of one's own: what they hold besides their items comes back, and what cannot come back is said or left."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import io
import os
import re
import sys
import types
import unittest.mock
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import optree
import pytest
import torch
import torch.utils._pytree as torch_pytree
from helpers import Call, run_script
from test_trees import A, B, Names, Pair, Readings, equal

import torch_np_bridge as tnb
from torch_np_bridge.trees import NAMESPACE, flatten, path


class Colour(tuple[int, ...], enum.Enum):
    RED = (255, 0, 0)


@dataclasses.dataclass(frozen=True)
class Size:
    metres: float


class Animal(Size, enum.Enum):
    CAT = 0.5


class Level(dict[str, int], enum.Enum):  # type: ignore[misc]
    LOW = {"volts": 1}  # noqa: RUF012


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


class Computing(Mapping[str, Any]):
    """Nothing is in it before it is asked for."""

    def __getitem__(self, key: str) -> Any:
        return torch.ones(2)

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


@dataclasses.dataclass
class BadReadingError(Exception):
    """What an exception is lies in C."""

    value: Any


def npz() -> Any:
    file = io.BytesIO()
    np.savez(file, a=np.ones(2))
    file.seek(0)
    return np.load(file)


@pytest.mark.parametrize("member", [Colour.RED, Animal.CAT, Level.LOW], ids=str)
def test_members_of_an_enum_are_leaves(bridge: tnb.Bridge, member: enum.Enum) -> None:
    assert bridge.to_numpy({"kind": member, "x": A})["kind"] is member
    assert bridge.to_numpy(member) is member


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
    bunch: Any = pytest.importorskip("sklearn.utils").Bunch
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


UNTOUCHED: dict[str, Callable[[], Any]] = {
    "environ": lambda: os.environ,
    "npz file": npz,
    "mapping": lambda: Readings({"a": 1}),
    "mapping proxy": lambda: types.MappingProxyType({"a": [1]}),
    "set": lambda: {1, (2, 3)},
    "frozenset": lambda: frozenset({None}),
    "keys": lambda: {"a": A}.keys(),
    "weak dict": lambda: weakref.WeakValueDictionary[str, Any](),
    "exception": lambda: BadReadingError(5),
    "version": lambda: sys.version_info,
    "file status": lambda: os.stat("/"),
}


@pytest.mark.parametrize("kind", UNTOUCHED)
def test_without_tensors_they_pass_untouched(bridge: tnb.Bridge, kind: str) -> None:
    source = UNTOUCHED[kind]()
    got = bridge.to_numpy({"it": [source], "x": A})
    assert got["it"][0] is source
    assert bridge.to_numpy(source) is source
    assert equal(got["x"], A)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "set": (lambda: {A}, "got a set with tensors; pass a list of its items"),
    "nested": (lambda: frozenset({(1, (A,))}), "got a frozenset with tensors; pass a list of its items"),
    "values": (lambda: {"a": [A]}.values(), "got a dict_values with tensors; pass a list of its items"),
    "weak dict": (
        lambda: weakref.WeakValueDictionary({"a": A}),
        r"got a weakref\.WeakValueDictionary with tensors; pass a dict with its items",
    ),
    "computing": (Computing, r"got a .*Computing with tensors; register it: optree\.register_pytree_node\(Computing"),
    "exception": (
        lambda: BadReadingError([A]),
        r"got a .*BadReadingError with tensors; register it: optree\.register_pytree_node",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_with_tensors_they_are_refused(bridge: tnb.Bridge, kind: str) -> None:
    make, words = REFUSED[kind]
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"^tree\['it'\]\[1\]: expected a container .*{words}"):
            bridge.to_numpy({"it": [1, make()], "x": A})
        with pytest.raises(TypeError, match=rf"^tree: .*{words}"):
            bridge.to_numpy_async(make())


def test_a_container_that_contains_itself_may_pass(bridge: tnb.Bridge) -> None:
    items: dict[str, Any] = {"text": "a"}
    parent = Readings(items)
    items["child"] = Readings({"parent": parent})
    assert bridge.to_numpy([parent])[0] is parent


@pytest.mark.parametrize("kind", ["computing", "exception"])
def test_the_advice_works(kind: str) -> None:
    """In a process of its own: a registration is for good."""
    script = f"""
import re, torch, optree, torch_np_bridge as tnb
from test_tree_classes import A, Computing, BadReadingError, REFUSED
make = REFUSED[{kind!r}][0]
def flatten(obj): return [A], None
def unflatten(metadata, children): return list(children)
for _ in range(2):
    try:
        tnb.to_numpy([make()])
    except TypeError as error:
        advice = re.search(r"register it: (optree\\..*?\\)), where", str(error))[1]
exec(advice)
assert tnb.to_numpy([make()])[0][0].tolist() == [0, 0]
"""
    finished = run_script(script)
    assert (finished.returncode, finished.stderr) == (0, "")


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


def test_a_tree_that_contains_itself(bridge: tnb.Bridge) -> None:
    loop: dict[str, Any] = {"x": A}
    loop["loop"] = [loop]
    deep: list[Any] = [A]
    for _ in range(100_000):
        deep = [deep]
    for tree in (loop, deep):
        with pytest.raises(RecursionError, match=r"^expected a tree of at most \d+ levels.* contains itself; pass"):
            bridge.to_numpy(tree)
    while deep and isinstance(deep[0], list):  # freeing it at once would recurse as deep
        deep = deep[0]


def test_paths_name_attributes_and_items() -> None:
    names = Names([1])
    names.extra = {"k": 2}  # type: ignore[attr-defined]
    leaves, spec = flatten({"n": names, "s": Slotted(3, 4, **{"i j": 5}), "p": ChoosyTuple("l", 6)})
    found = {path(spec, index): leaf for index, leaf in enumerate(leaves)}
    assert found == {
        "tree['n'][0]": 1,
        "tree['n'].extra['k']": 2,
        "tree['s']['i j']": 5,
        "tree['s']._Slotted__hidden": 3,
        "tree['s'].shown": 4,
        "tree['p'][0]": 6,
        "tree['p'].label": "l",
    }


def test_many_threads_meet_a_class_at_once(bridge: tnb.Bridge) -> None:
    for _ in range(20):
        made = dataclasses.make_dataclass("Fresh", ["inner"])
        calls = [Call(functools.partial(bridge.to_numpy, [made(A)])) for _ in range(4)]
        assert all(type(call.result()[0].inner) is np.ndarray for call in calls)


@pytest.mark.parametrize("tree", [{1: A, "a": B, None: A, (2,): B}, {"x": None}, np.array([None, "a"], dtype=object)])
def test_keys_and_leaves_of_every_kind(bridge: tnb.Bridge, tree: Any) -> None:
    got = bridge.to_numpy(tree)
    assert got is tree if isinstance(tree, np.ndarray) else equal(got, tree)


def test_the_words_stand_in_one_line() -> None:
    with pytest.raises(TypeError) as caught:
        tnb.to_numpy([Computing()])
    assert re.fullmatch(r"[^\n]+", str(caught.value))


class Claims:
    """Says that it is something else."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, "_cls" if name == "__class__" else name)


@pytest.mark.parametrize("cls", [torch.Tensor, dict, list, dataclasses.make_dataclass("Record", ["x"])])
def test_an_object_is_what_its_class_is(bridge: tnb.Bridge, cls: type) -> None:
    for liar in (Claims(cls), unittest.mock.MagicMock(spec=cls)):
        assert isinstance(liar, cls)
        assert bridge.to_numpy([liar, A])[0] is liar
        assert bridge.to_numpy(liar) is liar


def test_a_proxy_of_a_tensor_is_refused(bridge: tnb.Bridge) -> None:
    proxy = weakref.proxy(A)
    for tree, where in ((proxy, "tree"), ([1, proxy], r"tree\[1\]")):
        with pytest.raises(TypeError, match=rf"^{where}: .*Proxy.* with tensors; pass what it stands for"):
            bridge.to_numpy(tree)
    other = Readings({})
    assert bridge.to_numpy([weakref.proxy(other)])[0] == other


def test_the_engine_takes_no_word_for_it(native_bridge: tnb.Bridge) -> None:
    with pytest.raises(TypeError, match="expected a list of tensors"):
        native_bridge._engine.submit([Claims(torch.Tensor)], False, False, True)  # type: ignore[list-item]


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
