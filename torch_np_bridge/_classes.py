"""What counts as a container: what optree takes apart, in a namespace of our own.

By itself optree takes plain dataclasses, Mappings and what is registered only with torch's pytree for leaves, whose
tensors would pass through unseen, and rebuilds namedtuples by their constructor. So each class is looked at once, on
first sight, and registered if it is a container. The registrations hold types, keys and names, never the objects that
were flattened.
"""

from __future__ import annotations

import collections
import dataclasses
import os
import threading
import traceback
import warnings
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import optree
import torch
import torch.utils._pytree as torch_pytree

from ._containers import Attribute, Container, Entries, Step, can_be_made, comes_back, container, mapping_by_constructor
from ._contents import ATOMS, VIEWS_AND_SETS, holds_tensor, is_leaf_class

TreeSpec: TypeAlias = optree.PyTreeSpec

NAMESPACE = "torch_np_bridge"
LEVELS = optree.MAX_RECURSION_DEPTH - 1  # the list of the objects is one


class _Kept:
    """A leaf in the place of a container that holds no tensor and passes as it is."""

    __slots__ = ("obj",)

    def __init__(self, obj: Any) -> None:
        self.obj = obj


class _Refused:
    """A leaf in the place of a container that holds tensors and could not be made again with arrays."""

    __slots__ = ("cls", "words")

    def __init__(self, cls: type, words: str) -> None:
        self.cls = cls
        self.words = words


# Classes that were looked at; those of them that optree takes apart; those of them that were registered here.
_seen: set[type] = {torch.Tensor, torch.nn.Parameter, dict, list, tuple, _Kept, *ATOMS}
_nodes: set[type] = {dict, list, tuple}
_registered: set[type] = set()
_torch_nodes: frozenset[type] = frozenset()
# Of one thread several times: a finalizer, which may run under it at any allocation, may convert something.
_lock = threading.RLock()


def _renew_lock() -> None:
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    # Another thread may have had it, and is not there in the child to let go.
    os.register_at_fork(after_in_child=_renew_lock)

# Containers of Python's own, and what extends them: made again by their items and attributes.
_BY_ATTRIBUTES = (
    dict,
    list,
    tuple,
    collections.deque,
    collections.UserDict,
    collections.UserList,
    collections.ChainMap,
)

# Dicts are taken in their insertion order: keys need not have another, and those that are tensors have none. The
# setting belongs to our namespace only, and ends with the reference to what made it.
_insertion_order = optree.dict_insertion_ordered(True, namespace=NAMESPACE)
_insertion_order.__enter__()


class ContainerRefusedError(Exception):
    """A container holds tensors and cannot be made again, as ``words`` say; the caller finds the path of the leaf."""

    def __init__(self, spec: TreeSpec, leaf: int, words: str) -> None:
        super().__init__(words)
        self.spec, self.leaf, self.words = spec, leaf, words


def flatten(objects: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of the objects, ``None`` among them, and the structure of the list.

    Raises:
        ContainerRefusedError: a container holds tensors and could not be made again with arrays.
        RecursionError: an object has more than LEVELS levels, or a container contains itself.
        RuntimeError: a container was changed meanwhile.
    """
    if len(torch_pytree.SUPPORTED_NODES) != len(_torch_nodes):
        _look_at_torchs_nodes()
    while True:
        new: list[Any] = []

        def is_new(obj: Any, new: list[Any] = new) -> bool:
            if type(obj) in _seen:
                return False
            new.append(obj)
            return True

        try:
            leaves, spec = optree.tree_flatten(objects, is_leaf=is_new, none_is_leaf=True, namespace=NAMESPACE)
        except (IndexError, RuntimeError) as error:
            if isinstance(error, RecursionError) or not _is_of_optree(error):
                raise
            raise RuntimeError(
                "expected a tree that stays as it is while it is walked, got one that was changed meanwhile; convert a "
                "copy of its containers"
            ) from None
        if not new:
            return leaves, spec
        if not _look_at(set(map(type, new)) - {_Refused}):
            _raise_refusal(leaves, spec)
            return leaves, spec


def _is_of_optree(error: Exception) -> bool:
    """Whether optree itself misses what was there a moment ago, and no function of a container that it called."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "optree"


def _raise_refusal(leaves: list[Any], spec: TreeSpec) -> None:
    for index, leaf in enumerate(leaves):
        if type(leaf) is _Refused:
            with _lock:
                # The words tell to register the class, and optree lets that be done once.
                _forget(leaf.cls)
            raise ContainerRefusedError(spec, index, leaf.words)


def _look_at(unseen: Iterable[type]) -> bool:
    """Look at classes for the first time, and register those that turn out to be containers; whether one is."""
    with _lock:
        for cls in unseen:
            if cls not in _seen:
                if not is_leaf_class(cls) and _is_node(cls):
                    _nodes.add(cls)
                _seen.add(cls)
        # Also where another thread has registered it meanwhile: it was a leaf to us.
        return not _nodes.isdisjoint(unseen)


def _look_at_torchs_nodes() -> None:
    """What is registered with torch's pytree after it was looked at is looked at again."""
    global _torch_nodes
    with _lock:
        current = frozenset(torch_pytree.SUPPORTED_NODES)
        for cls in current - _torch_nodes - ATOMS:
            if cls not in _nodes or cls in _registered:
                _forget(cls)
        _torch_nodes = current


def _forget(cls: type) -> None:
    _seen.discard(cls)
    _nodes.discard(cls)
    if cls in _registered:
        _registered.discard(cls)
        optree.unregister_pytree_node(cls, namespace=NAMESPACE)


def _is_node(cls: type) -> bool:
    """Whether optree takes ``cls`` apart, after registering it where it is for us to do so."""
    known = optree.register_pytree_node.get(cls, namespace=NAMESPACE)
    if known is not None and known.kind == optree.PyTreeKind.STRUCTSEQUENCE:
        if cls.__module__ != "torch.return_types":
            # Those of Python have fields that are no items (os.stat_result), or cannot be made (sys.version_info).
            _register(cls, _kept_or_refused(_advice(cls)))
        return True
    if known is not None and not (known.kind == optree.PyTreeKind.NAMEDTUPLE and _makes_itself(cls)):
        return True
    if cls in torch_pytree.SUPPORTED_NODES:
        _register_torch_node(cls)
    elif cls is weakref.ProxyType:
        _register(cls, _kept_or_refused("pass what it stands for"))
    elif issubclass(cls, (*VIEWS_AND_SETS, weakref.WeakKeyDictionary, weakref.WeakValueDictionary)):
        instead = "pass a dict with its items" if issubclass(cls, Mapping) else "pass a list of its items"
        _register(cls, _kept_or_refused(instead))
    elif issubclass(cls, _BY_ATTRIBUTES) or dataclasses.is_dataclass(cls):
        _register(cls, container(cls) if can_be_made(cls) else _kept_or_refused(_advice(cls)))
    elif issubclass(cls, Mapping):
        _register(cls, _kept_or_made(cls))
    else:
        return False
    return True


def _makes_itself(cls: type) -> bool:
    """Whether the namedtuple ``cls`` was extended: its constructor may want other arguments than its fields."""
    return cls.__bases__ != (tuple,) or cls.__dictoffset__ != 0


def _advice(cls: type) -> str:
    return (
        f"register it: optree.register_pytree_node({cls.__qualname__}, flatten, unflatten, namespace={NAMESPACE!r}), "
        "where flatten(obj) is (children, metadata) and unflatten(metadata, children) makes an object"
    )


def _register(cls: Any, made: Container) -> None:
    # Untyped on purpose: optree's types speak of Collections, and a dataclass is none.
    _registered.add(cls)
    with warnings.catch_warnings():
        # optree warns that it knows how to make namedtuples: not those that were extended.
        warnings.simplefilter("ignore", UserWarning)
        optree.register_pytree_node(cls, made.take, made.make, path_entry_type=Step, namespace=NAMESPACE)


def _register_torch_node(cls: Any) -> None:
    node = torch_pytree.SUPPORTED_NODES[cls]

    def take(obj: Any) -> tuple[list[Any], Any, Entries]:
        if node.flatten_with_keys_fn is None:
            children, context = node.flatten_fn(obj)
            return children, context, tuple(range(len(children)))
        pairs, context = node.flatten_with_keys_fn(obj)
        return [child for _, child in pairs], context, tuple(_entry(key) for key, _ in pairs)

    def make(context: Any, children: Iterable[Any]) -> Any:
        return node.unflatten_fn(list(children), context)

    _registered.add(cls)
    optree.register_pytree_node(cls, take, make, path_entry_type=Step, namespace=NAMESPACE)


def _entry(key: Any) -> Any:
    """What torch calls a child."""
    match key:
        case torch_pytree.MappingKey():
            return key.key
        case torch_pytree.SequenceKey():
            return key.idx
        case torch_pytree.GetAttrKey():
            return Attribute(key.name)
    return key


def _kept_or_refused(instead: str) -> Container:
    """What cannot be made again: as it is without tensors, refused with them."""

    def take(obj: Any) -> tuple[list[Any], None, Entries]:
        return [_refuse(type(obj), instead) if holds_tensor([obj]) else _Kept(obj)], None, (None,)

    return Container(take, _unwrap)


def _kept_or_made(cls: type) -> Container:
    """A Mapping that is no dict: as it is without tensors, made again with them, refused where that loses something."""
    by_attributes = can_be_made(cls)
    made = container(cls) if by_attributes else mapping_by_constructor(cls)

    def take(obj: Any) -> tuple[list[Any], Any, Entries]:
        if not holds_tensor([obj]):
            return [_Kept(obj)], None, (None,)
        children, shape, entries = made.take(obj)
        # Values may be computed on demand, and then are no part of the object.
        if holds_tensor(children) if by_attributes else comes_back(made, obj):
            return children, (shape,), entries
        return [_refuse(cls, _advice(cls))], None, (None,)

    def make(shape: tuple[Any] | None, children: Iterable[Any]) -> Any:
        return _unwrap(None, children) if shape is None else made.make(shape[0], children)

    return Container(take, make)


def _unwrap(_: None, children: Iterable[Any]) -> Any:
    [kept] = children
    return kept.obj


def _refuse(cls: type, instead: str) -> _Refused:
    words = f"expected a container that can be made again with arrays, got a {name_of(cls)} with tensors; {instead}"
    return _Refused(cls, words)


def name_of(cls: type) -> str:
    """The name of a class in the words of errors."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
