"""Trees that are changed while they are converted: the answer is right or a sentence, and nothing crashes."""

from __future__ import annotations

import collections
import gc
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_trees import A, B, Names, equal

import torch_np_bridge as tnb

SENTENCE = r"^expected a tree that stays as it is while it is walked, got one that was changed meanwhile; convert"


class Watched(type):
    """A class that is asked for its hash whenever somebody asks whether it is known."""

    asked: Callable[[], object] = staticmethod(lambda: None)

    def __hash__(cls) -> int:
        Watched.asked()
        return type.__hash__(cls)


class Leaf(metaclass=Watched):
    pass


class Keyed(dict[Any, Any]):
    pass


class Key:
    """A key of a dict that is asked for its hash, and compared."""

    asked: Callable[[], object] = staticmethod(lambda: None)

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        Key.asked()
        return 7

    def __eq__(self, other: object) -> bool:
        Key.asked()
        return isinstance(other, Key) and self.name == other.name


@pytest.fixture(params=[Watched, Key])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has a function called once, from inside of the conversion that comes next."""

    def install(function: Callable[[], object]) -> None:
        def once() -> None:
            monkeypatch.undo()
            function()

        monkeypatch.setattr(request.param, "asked", staticmethod(once))

    return install


def items() -> list[Any]:
    return [Leaf(), A, {Key("k"): Leaf()}, B, [A], {Key("l"): A, Key("m"): B}]


CONTAINERS: dict[str, Callable[[], Any]] = {
    "list": items,
    "deque": lambda: collections.deque(items()),
    "list subclass": lambda: Names(items()),
    "dict": lambda: dict(enumerate(items())),
    "OrderedDict": lambda: collections.OrderedDict(enumerate(items())),
    "defaultdict": lambda: collections.defaultdict(list, enumerate(items())),
    "Counter": lambda: collections.Counter(dict(enumerate(items()))),
    "dict subclass": lambda: Keyed({Key("k"): A, Key("l"): Leaf(), Key("m"): B}),
}
CHANGES: dict[str, Callable[[Any], Any]] = {
    "cleared": lambda tree: tree.clear(),
    "shorter": lambda tree: tree.popitem() if isinstance(tree, dict) else tree.pop(),
    "longer": lambda tree: tree.update({"new": A}) if isinstance(tree, dict) else tree.append(A),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_that_changes(
    bridge: tnb.Bridge, asked: Callable[[Callable[[], object]], None], container: str, change: str
) -> None:
    tree = CONTAINERS[container]()
    before, changed = CONTAINERS[container](), []
    asked(lambda: changed.append(CHANGES[change](tree)))
    got, words = before, ""
    try:
        got = bridge.to_numpy([tree])[0]
    except RuntimeError as error:
        words = str(error)
    assert not words or re.match(SENTENCE, words)
    assert type(got) is type(before)
    assert len(got) - len(before) in (0, -1, 1, -len(before))
    assert len(changed) == 1


@pytest.mark.parametrize("container", ["list", "dict", "OrderedDict"])
def test_the_sentence(bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    """Where optree takes it apart; exact containers are taken apart in C++ before any code runs."""
    tree = CONTAINERS[container]()
    monkeypatch.setattr(Watched, "asked", staticmethod(tree.clear))
    if bridge.engine_info().engine == "native" and container != "OrderedDict":
        got = bridge.to_numpy(tree)
        assert len(got) == len(items())
        assert equal(got[1], A)
        assert equal(got[4], [A])
    else:
        with pytest.raises(RuntimeError, match=SENTENCE):
            bridge.to_numpy(tree)


@pytest.mark.parametrize("error", [IndexError, KeyError, RuntimeError, RecursionError])
def test_errors_of_containers_are_their_own(bridge: tnb.Bridge, error: type[Exception]) -> None:
    class Faulty(collections.UserDict[str, Any]):
        pass

    def fail() -> None:
        raise error("of its own")

    faulty = Faulty(a=Leaf())
    Watched.asked, before = staticmethod(fail), Watched.asked
    try:
        with pytest.raises(error, match="of its own" if error is not RecursionError else "levels"):
            bridge.to_numpy([faulty])
    finally:
        Watched.asked = staticmethod(before)


@pytest.mark.parametrize("change", ["cleared", "longer"])
def test_an_out_that_changes(bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    """Keys are compared while it is matched."""
    tree = {Key("a"): A, Key("b"): [A, B]}
    inner = [np.zeros(2), np.zeros(2)]
    out: dict[Any, Any] = {Key("b"): inner, Key("a"): np.zeros(2, np.float32)}
    monkeypatch.setattr(Key, "asked", staticmethod(lambda: CHANGES[change](inner)))
    with pytest.raises(ValueError, match="expected the structure of the tree, a list of 2, got one of"):
        bridge.to_numpy(tree, out=out)


def test_a_dict_that_changes_while_it_is_matched(bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {Key("a"): A, Key("b"): A}
    out = {Key("b"): np.zeros(2, np.float32), Key("a"): np.zeros(2, np.float32)}
    monkeypatch.setattr(Key, "asked", staticmethod(out.clear))
    with pytest.raises((ValueError, RuntimeError), match="expected"):
        bridge.to_numpy(tree, out=out)


def test_what_a_key_raises(bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = [{Key("a"): A, Key("b"): B}]

    def fail() -> None:
        raise LookupError("of a key")

    monkeypatch.setattr(Key, "asked", staticmethod(fail))
    with pytest.raises(LookupError, match="of a key"):
        bridge.to_numpy(tree)


def test_collections_of_garbage_that_empty_the_tree(native_bridge: tnb.Bridge) -> None:
    """They may begin at any allocation. What is in exact containers was seen before the first."""
    tree: dict[str, Any] = {}

    def empty(phase: str, info: dict[str, int]) -> None:
        for part in [tree.get("list"), tree.get("dict"), tree]:
            if part is not None:
                part.clear()

    before = gc.get_threshold()
    for allocations in range(1, 40):
        tree.update(list=[A, [B], (A,)], dict={"a": [B] * 20, "b": {"c": A}})
        expected = {"list": [A, [B], (A,)], "dict": {"a": [B] * 20, "b": {"c": A}}}
        convert = native_bridge.to_numpy
        gc.collect()
        gc.callbacks.append(empty)
        gc.set_threshold(allocations, 1, 1)
        try:
            got = convert(tree)
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(empty)
        assert got == {} or equal(got, expected)
