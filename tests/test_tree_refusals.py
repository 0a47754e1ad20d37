"""What is no container passes untouched; what holds tensors and cannot be made again is refused, by its path."""

from __future__ import annotations

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
import pytest
import torch
from helpers import Call, run_script
from test_trees import A, B, Readings, equal

import torch_np_bridge as tnb
from torch_np_bridge import _classes


class Colour(tuple[int, ...], enum.Enum):
    RED = (255, 0, 0)


@dataclasses.dataclass(frozen=True)
class Size:
    metres: float


class Animal(Size, enum.Enum):
    CAT = 0.5


class Level(dict[str, int], enum.Enum):  # type: ignore[misc]
    LOW = {"volts": 1}  # noqa: RUF012


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
from test_tree_refusals import A, Computing, BadReadingError, REFUSED
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
        native_bridge._engine.submit([Claims(torch.Tensor)], None, None, False, False, True)  # type: ignore[list-item]


def test_a_finalizer_may_convert_while_a_class_is_looked_at(
    bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection of garbage may begin at any allocation, under the lock too."""
    fresh, other = dataclasses.make_dataclass("Fresh", ["x"]), dataclasses.make_dataclass("Other", ["x"])
    inside: list[Any] = []
    looked = _classes._is_node

    def collect(cls: type) -> bool:
        if cls is fresh:
            inside.append(bridge.to_numpy(other(A)))
        return looked(cls)

    monkeypatch.setattr(_classes, "_is_node", collect)
    assert equal(Call(lambda: bridge.to_numpy(fresh(A))).result().x, A)
    assert equal(inside[0].x, A)
