"""Whether there is a tensor somewhere in an object, for containers that cannot be taken apart and made again."""

from __future__ import annotations

import collections
import dataclasses
import enum
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as torch_pytree

from ._containers import container

ATOMS = frozenset({type(None), str, bytes, bytearray, int, float, bool, complex, range, slice, torch.Size, np.ndarray})

# Unordered, or a view of something else: a tensor inside could not be replaced by an array.
VIEWS_AND_SETS: tuple[type, ...] = (set, frozenset, type({}.keys()), type({}.values()), type({}.items()))
_SEQUENCES: tuple[type[Any], ...] = (list, tuple, collections.deque, collections.UserList, *VIEWS_AND_SETS)


def holds_tensor(values: Iterable[Any]) -> bool:
    """Whether a tensor is among ``values`` or in a container among them; containers may contain themselves."""
    rest = list(values)
    visited: dict[int, Any] = {}  # keeps what it names alive: an id of an object that is gone is given away again
    while rest:
        obj = rest.pop()
        if issubclass(type(obj), torch.Tensor) or (type(obj) is weakref.ProxyType and isinstance(obj, torch.Tensor)):
            return True
        if type(obj) not in ATOMS and id(obj) not in visited:
            visited[id(obj)] = obj
            parts = _parts(obj)
            if not ATOMS.issuperset(map(type, parts)):
                rest += parts
    return False


def is_leaf_class(cls: type) -> bool:
    """Whether objects of ``cls`` pass as they are, whatever it extends. Classes are asked: an object may lie."""
    return issubclass(cls, (torch.Tensor, torch.nn.Module, type, enum.Enum, np.lib.npyio.NpzFile))


def _parts(obj: Any) -> list[Any]:
    cls = type(obj)
    if is_leaf_class(cls):
        return []
    if (node := torch_pytree.SUPPORTED_NODES.get(cls)) is not None:
        return list(node.flatten_fn(obj)[0])
    parts: list[Any] = []
    if issubclass(cls, dict):
        parts = list(dict.values(obj))
    elif issubclass(cls, Mapping):
        parts = [obj[key] for key in obj]
    elif issubclass(cls, _SEQUENCES):
        parts = list(obj)
    if dataclasses.is_dataclass(cls):
        parts += container(cls).take(obj)[0]
    return parts
