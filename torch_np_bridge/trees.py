"""Trees of tensors: flattened and rebuilt by optree, in a namespace of our own.

optree takes plain dataclasses, Mappings and what is registered only with torch's pytree for leaves; their tensors
would pass through unseen. So each leaf type is looked at once, on first sight, and registered if it is a container.
The registrations hold types, keys and field names, never the objects that were flattened.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import optree
import torch
import torch.utils._pytree as torch_pytree

TreeSpec: TypeAlias = optree.PyTreeSpec

NAMESPACE = "torch_np_bridge"

# A torch.Size is a tuple, but one of numbers only.
_seen: set[type] = {torch.Tensor, torch.nn.Parameter, torch.Size, type(None), str, bytes, int, float, bool, complex}
_containers: set[type] = set()
_lock = threading.Lock()

# Dicts keep their insertion order; the setting belongs to our namespace only and lasts as long as the process.
contextlib.ExitStack().enter_context(optree.dict_insertion_ordered(True, namespace=NAMESPACE))


def flatten(tree: Any) -> tuple[list[Any], TreeSpec]:
    """The leaves of ``tree``, ``None`` among them, and the structure that :func:`unflatten` takes."""
    while True:
        # Read before flattening: a container that another thread registers meanwhile was a leaf to us.
        registrations = len(_containers)
        leaves, spec = optree.tree_flatten(tree, none_is_leaf=True, namespace=NAMESPACE)
        unseen = {type(leaf): leaf for leaf in leaves if type(leaf) not in _seen}
        if unseen:
            _register(unseen)
        if len(_containers) == registrations:
            return leaves, spec


def unflatten(spec: TreeSpec, leaves: Iterable[Any]) -> Any:
    """A tree of the structure ``spec`` with ``leaves`` in it."""
    return optree.tree_unflatten(spec, leaves)


def path(spec: TreeSpec | None, index: int) -> str:
    """Where leaf ``index`` stands, as an expression: ``tree['outputs'][3].logits``; without a structure ``tree``."""
    return "tree" if spec is None else spec.accessors()[index].codify("tree")


def _register(unseen: dict[type, Any]) -> None:
    """Look at leaf types for the first time, and register those that turn out to be containers."""
    with _lock:
        for cls, leaf in unseen.items():
            if cls not in _seen:
                if _register_type(cls, leaf):
                    _containers.add(cls)
                _seen.add(cls)


def _register_type(cls: type, leaf: Any) -> bool:
    if isinstance(leaf, (torch.Tensor, type)):
        return False
    if cls in torch_pytree.SUPPORTED_NODES:
        _register_torch_node(cls)
    elif dataclasses.is_dataclass(cls):
        _register_dataclass(cls)
    elif issubclass(cls, dict):
        _register_dict_subclass(cls)
    elif issubclass(cls, (list, tuple, collections.deque)):
        _register_sequence(cls)
    elif issubclass(cls, Mapping):
        _register_mapping(cls)
    else:
        return False
    return True


def _register_node(cls: Any, flatten_node: Any, unflatten_node: Any, entry: Any = optree.AutoEntry) -> None:
    # Untyped on purpose: optree's types speak of Collections, and a dataclass is none.
    optree.register_pytree_node(cls, flatten_node, unflatten_node, path_entry_type=entry, namespace=NAMESPACE)


def _register_torch_node(cls: type) -> None:
    node = torch_pytree.SUPPORTED_NODES[cls]

    def flatten_node(obj: Any) -> tuple[Iterable[Any], Any]:
        return node.flatten_fn(obj)

    def unflatten_node(context: Any, children: Iterable[Any]) -> Any:
        return node.unflatten_fn(list(children), context)

    _register_node(cls, flatten_node, unflatten_node)


def _register_dataclass(cls: type) -> None:
    names = tuple(field.name for field in dataclasses.fields(cls))

    def flatten_fields(obj: Any) -> tuple[Iterable[Any], tuple[str, ...], tuple[str, ...]]:
        present = tuple(name for name in names if hasattr(obj, name))
        return [getattr(obj, name) for name in present], present, present

    def unflatten_fields(present: tuple[str, ...], children: Iterable[Any]) -> Any:
        # Neither __init__ nor __post_init__: both may compute with tensors, and frozen classes refuse plain setting.
        obj: Any = object.__new__(cls)
        for name, child in zip(present, children, strict=True):
            object.__setattr__(obj, name, child)
        return obj

    _register_node(cls, flatten_fields, unflatten_fields, optree.GetAttrEntry)


def _register_sequence(cls: Any) -> None:
    def flatten_sequence(obj: Any) -> tuple[Iterable[Any], Any]:
        _require_no_attributes(obj)
        return list(obj), getattr(obj, "maxlen", None)

    def unflatten_sequence(maxlen: Any, children: Iterable[Any]) -> Any:
        if issubclass(cls, tuple):
            return tuple.__new__(cls, children)
        obj = cls.__new__(cls)
        if issubclass(cls, collections.deque):
            collections.deque.__init__(obj, children, maxlen)
        else:
            list.extend(obj, children)
        return obj

    _register_node(cls, flatten_sequence, unflatten_sequence, optree.SequenceEntry)


def _register_dict_subclass(cls: Any) -> None:
    def flatten_items(obj: Any) -> tuple[Iterable[Any], Any, tuple[Any, ...]]:
        _require_no_attributes(obj)
        keys = tuple(dict.keys(obj))
        return [dict.__getitem__(obj, key) for key in keys], (keys, getattr(obj, "default_factory", None)), keys

    def unflatten_items(context: Any, children: Iterable[Any]) -> Any:
        keys, default_factory = context
        obj = cls.__new__(cls)
        if issubclass(cls, collections.defaultdict):
            obj.default_factory = default_factory
        for key, child in zip(keys, children, strict=True):
            set_item(obj, key, child)
        return obj

    # An OrderedDict keeps its order beside the dict: items set behind its back would be missing from iteration.
    set_item = collections.OrderedDict.__setitem__ if issubclass(cls, collections.OrderedDict) else dict.__setitem__
    _register_node(cls, flatten_items, unflatten_items, optree.MappingEntry)


def _register_mapping(cls: Any) -> None:
    def flatten_items(obj: Any) -> tuple[Iterable[Any], tuple[Any, ...], tuple[Any, ...]]:
        keys = tuple(obj)
        return [obj[key] for key in keys], keys, keys

    def unflatten_items(keys: tuple[Any, ...], children: Iterable[Any]) -> Any:
        try:
            return cls(dict(zip(keys, children, strict=True)))
        except TypeError as error:
            raise TypeError(
                f"expected a Mapping that can be made from a dict, got {cls.__module__}.{cls.__qualname__} ({error}); "
                f"register it: optree.register_pytree_node({cls.__qualname__}, …, namespace={NAMESPACE!r})"
            ) from error

    _register_node(cls, flatten_items, unflatten_items, optree.MappingEntry)


def _require_no_attributes(obj: Any) -> None:
    """Attributes beside the items may hold tensors, which would neither be converted nor carried over."""
    attributes = list(getattr(obj, "__dict__", ()))
    if attributes:
        cls = type(obj)
        raise TypeError(
            f"expected a {cls.__module__}.{cls.__qualname__} with nothing but its items, got one with the attributes "
            f"{attributes}; register it: optree.register_pytree_node({cls.__qualname__}, …, namespace={NAMESPACE!r})"
        )
