"""Trees of tensors: which tensors are in one, and what is left of it to put arrays into.

Exact dicts, lists and tuples are the affair of the walk that was selected with the engine; what they hold beside
tensors and plain values, and all of the tree where nothing can walk it, is flattened and rebuilt by optree. No
structure holds the containers that it describes, or their tensors.
"""

from __future__ import annotations

import collections
import traceback
from typing import Any, Protocol

import optree
import torch

from ._classes import LEVELS, NAMESPACE, ContainerRefusedError, TreeSpec, name_of
from ._classes import flatten as flatten_others
from ._walk import Skeleton, Walk

# Kinds of dict that optree takes for each other in `out`.
_DICTS = {dict, collections.OrderedDict, collections.defaultdict}


class Structure(Protocol):
    """A tree without its containers and tensors; the tensors are counted in the order in which they were found."""

    def rebuild(self, arrays: list[Any]) -> Any:
        """The tree with arrays in the places of its tensors; runs code of its containers and keys."""

    def match(self, out: Any) -> list[Any]:
        """What ``out`` has in the places of the tensors; what it has in those of other leaves is not looked at.

        Raises:
            ValueError: it has another structure; the message names the path.
        """

    def path(self, tensor: int) -> str:
        """Where a tensor stands, as an expression: ``tree['outputs'][3].logits``."""


class _OneTensor:
    """A tensor alone."""

    def rebuild(self, arrays: list[Any]) -> Any:
        [array] = arrays
        return array

    def match(self, out: Any) -> list[Any]:
        return [out]

    def path(self, tensor: int) -> str:
        return "tree"


ONE_TENSOR: Structure = _OneTensor()


def flatten(tree: Any, walk: Walk) -> tuple[list[torch.Tensor], Structure]:
    """The tensors of ``tree``, and its structure.

    Raises:
        TypeError: a container holds tensors and could not be made again with arrays; the message names its path.
        RecursionError: the tree is too deep, or a container contains itself.
        RuntimeError: another thread, or code of its keys or classes, changed the tree meanwhile.
    """
    try:
        tensors, others, held, skeleton = walk(tree)
        found = len(tensors)
        if not others:
            return tensors, _Tree(skeleton, held, found, None)
        leaves, spec = flatten_others(others)
    except RecursionError:
        raise RecursionError(
            f"expected a tree of at most {LEVELS} levels, got a deeper one, or a container that contains itself; pass "
            "the parts of it that hold the tensors"
        ) from None
    except ContainerRefusedError as refused:
        where = _path_of_leaf(skeleton, held, refused.spec, refused.leaf)
        raise TypeError(f"{where}: {refused.words}") from None
    # Classes are asked, not objects: a proxy or a mock may say that it is a tensor.
    tensor_types = {cls for cls in set(map(type, leaves)) if issubclass(cls, torch.Tensor)}
    positions = [position for position, leaf in enumerate(leaves) if type(leaf) in tensor_types]
    tensors += [leaves[position] for position in positions]
    for position in positions:
        leaves[position] = None
    return tensors, _Tree(skeleton, held, found, _Others(spec, leaves, positions))


class _Others:
    """What optree took apart: a list of objects. Its leaves have a hole at each of the positions of tensors."""

    __slots__ = ("leaves", "positions", "spec")

    def __init__(self, spec: TreeSpec, leaves: list[Any], positions: list[int]) -> None:
        self.spec = spec
        self.leaves = leaves
        self.positions = positions

    def rebuild(self, arrays: list[Any]) -> list[Any]:
        leaves = list(self.leaves)
        for position, array in zip(self.positions, arrays, strict=True):
            leaves[position] = array
        rebuilt: Any = optree.tree_unflatten(self.spec, leaves)
        return list(rebuilt)

    def match(self, out: Any) -> list[Any]:
        leaves = _parts(self.spec, out)
        return [leaves[position] for position in self.positions]

    def mismatch(self, out: list[Any]) -> tuple[int, optree.PyTreeAccessor, str]:
        """The index of an object that does not match, the steps to the container inside of it, and why."""
        spec, got, steps = self.spec, out, optree.PyTreeAccessor()
        while True:
            level: Any = spec.one_level()
            try:
                parts = _parts(level, got)
            except ValueError:
                return steps[0].entry, optree.PyTreeAccessor(steps[1:]), _difference(level, got)
            for child, part, step in zip(spec.children(), parts, level.accessors(), strict=True):
                if not _matches(child, part):
                    spec, got, steps = child, part, steps + step
                    break
            else:
                raise AssertionError("expected an object that does not match, got none")


def _parts(spec: TreeSpec, got: Any) -> list[Any]:
    """What ``got`` has in the places of the leaves of ``spec``; ``ValueError`` where it is another structure."""
    try:
        parts: list[Any] = spec.flatten_up_to(got)
    except RuntimeError as error:
        if len(list(traceback.walk_tb(error.__traceback__))) > 1:  # of a function that it called: a key's
            raise
        # optree sorts the keys that are missing, to name them, and those that are tensors have no order.
        raise ValueError("expected the same keys, got others") from None
    return parts


def _matches(spec: TreeSpec, got: Any) -> bool:
    try:
        _parts(spec, got)
    except ValueError:
        return False
    return True


def _difference(level: Any, got: Any) -> str:
    """What was expected of a container, and what was got; its children are not looked at."""
    expected = name_of(level.type)
    if type(got) is not level.type and not {type(got), level.type} <= _DICTS:
        return f"a {expected}, got a {name_of(type(got))}; build it with the same types"
    children: list[Any] = optree.tree_flatten_one_level(got, none_is_leaf=True, namespace=NAMESPACE)[0]
    if len(children) != level.num_children:
        return f"a {expected} of {level.num_children}, got one of {len(children)}"
    if type(got) in _DICTS:
        return f"a {expected} with the keys {tuple(level.entries())!r}, got others"
    return f"a {expected} that is the same in all but its arrays, got another"


class _Tree:
    """A structure whose first tensors, ``found`` of them, are in exact containers."""

    __slots__ = ("found", "held", "others", "skeleton")

    def __init__(self, skeleton: Skeleton, held: tuple[Any, ...], found: int, others: _Others | None) -> None:
        self.skeleton = skeleton
        self.held = held
        self.found = found
        self.others = others

    def rebuild(self, arrays: list[Any]) -> Any:
        if self.others is None:
            return self.skeleton.rebuild(tuple(arrays), self.held, ())
        others = self.others.rebuild(arrays[self.found :])
        return self.skeleton.rebuild(tuple(arrays[: self.found]), self.held, tuple(others))

    def match(self, out: Any) -> list[Any]:
        targets, others = self.skeleton.match(self.held, out)
        if self.others is None:
            return targets
        try:
            return targets + self.others.match(others)
        except ValueError:
            index, steps, words = self.others.mismatch(others)
            where = steps.codify(self.skeleton.path_of_other(self.held, index, "out"))
            raise ValueError(f"{where}: expected the structure of the tree, {words}") from None

    def path(self, tensor: int) -> str:
        if self.others is None or tensor < self.found:
            return self.skeleton.path(self.held, tensor, "tree")
        leaf = self.others.positions[tensor - self.found]
        return _path_of_leaf(self.skeleton, self.held, self.others.spec, leaf)


def _path_of_leaf(skeleton: Skeleton, held: tuple[Any, ...], spec: TreeSpec, leaf: int) -> str:
    other, *steps = spec.accessors()[leaf]
    where = skeleton.path_of_other(held, other.entry, "tree")
    return optree.PyTreeAccessor(steps).codify(where)
