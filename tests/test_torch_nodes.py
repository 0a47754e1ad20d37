"""Classes that are registered with torch's pytree: their children bear the names that torch has for them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.utils._pytree as torch_pytree
from test_trees import equal

import torch_np_bridge as tnb
from torch_np_bridge.trees import flatten


def test_paths_name_what_torch_names(bridge: tnb.Bridge) -> None:
    """As torch's pytree names the children of a class that was registered with their names, and by number else."""

    class Named:
        def __init__(self, *children: Any) -> None:
            self.children = children

    class Numbered(Named):
        pass

    def take(obj: Any) -> tuple[list[Any], None]:
        return list(obj.children), None

    def take_with_keys(obj: Any) -> tuple[list[Any], None]:
        keys: Any = (torch_pytree.GetAttrKey("x"), torch_pytree.MappingKey("k"), torch_pytree.SequenceKey(5))
        return list(zip(keys, obj.children, strict=True)), None

    def remake(cls: Any, children: Any, _: Any) -> Any:
        return cls(*children)

    for cls, with_keys in ((Named, take_with_keys), (Numbered, None)):
        made: Any = cls
        torch_pytree.register_pytree_node(made, take, partial(remake, made), flatten_with_keys_fn=with_keys)
    children = [torch.zeros(size) for size in range(3)]
    for source, steps in ((Named(*children), [".x", "['k']", "[5]"]), (Numbered(*children), ["[0]", "[1]", "[2]"])):
        _, structure = flatten({"n": source}, bridge._selection.walk)
        assert [structure.path(index) for index in range(3)] == [f"tree['n']{step}" for step in steps]
        got = bridge.to_numpy([source])[0]
        assert type(got) is type(source)
        assert equal(list(got.children), children)
