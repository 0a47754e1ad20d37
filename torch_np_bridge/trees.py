"""Trees of tensors: which tensors are in one, and what is left of it to put arrays into.

Exact dicts, lists and tuples are the affair of the walk that was selected with the engine; what they hold beside
tensors and plain values, and all of the tree where nothing can walk it, is flattened and rebuilt by optree. No
structure holds the containers that it describes, or their tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import optree
import torch

from ._classes import LEVELS, NAMESPACE, ContainerRefusedError, TreeSpec
from ._classes import flatten as flatten_others
from ._walk import Skeleton, Walk


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


@dataclass(frozen=True, slots=True)
class _Others:
    """What optree took apart: a list of objects. Its leaves have a hole at each of the positions of tensors."""

    spec: TreeSpec
    leaves: list[Any]
    positions: list[int]

    def rebuild(self, arrays: list[Any]) -> list[Any]:
        leaves = list(self.leaves)
        for position, array in zip(self.positions, arrays, strict=True):
            leaves[position] = array
        rebuilt: Any = optree.tree_unflatten(self.spec, leaves)
        return list(rebuilt)

    def match(self, out: Any) -> list[Any]:
        leaves: list[Any] = self.spec.flatten_up_to(out)
        return [leaves[position] for position in self.positions]

    def mismatch(self, out: list[Any]) -> tuple[int, str]:
        """The index of an object that does not match, and why."""
        for index, (expected, got) in enumerate(zip(self.spec.children(), out, strict=True)):
            try:
                expected.flatten_up_to(got)
            except ValueError:
                found = optree.tree_structure(got, none_is_leaf=True, namespace=NAMESPACE)
                same = found.type is expected.type
                return index, f"expected the structure of the tree, {expected}, got {found if same else type(got)}"
        raise AssertionError("expected an object that does not match, got none")


@dataclass(frozen=True, slots=True)
class _Tree:
    """A structure whose first tensors, ``found`` of them, are in exact containers."""

    skeleton: Skeleton
    held: tuple[Any, ...]
    found: int
    others: _Others | None

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
            index, words = self.others.mismatch(others)
            where = self.skeleton.path_of_other(self.held, index, "out")
            raise ValueError(f"{where}: {words}; build it with the same types") from None

    def path(self, tensor: int) -> str:
        if self.others is None or tensor < self.found:
            return self.skeleton.path(self.held, tensor, "tree")
        leaf = self.others.positions[tensor - self.found]
        return _path_of_leaf(self.skeleton, self.held, self.others.spec, leaf)


def _path_of_leaf(skeleton: Skeleton, held: tuple[Any, ...], spec: TreeSpec, leaf: int) -> str:
    other, *steps = spec.accessors()[leaf]
    where = skeleton.path_of_other(held, other.entry, "tree")
    return optree.PyTreeAccessor(steps).codify(where)
