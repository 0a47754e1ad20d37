"""How exact dicts, lists and tuples are walked: the protocol, and what serves where there is no extension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import torch


class Skeleton(Protocol):
    """The exact dicts, lists and tuples of a tree, without any object.

    ``held`` is what the walk gave with it: the keys, and the leaves that are kept. What is neither one of these nor a
    tensor nor a container is one of the ``others``, for somebody else to look at.
    """

    def rebuild(self, arrays: tuple[Any, ...], held: tuple[Any, ...], others: tuple[Any, ...]) -> Any:
        """The tree again, with arrays in the places of its tensors."""

    def match(self, held: tuple[Any, ...], out: Any) -> tuple[list[Any], list[Any]]:
        """What ``out`` has in the places of the tensors and in those of the others.

        Raises:
            ValueError: a container is missing, or is another one; the message names its path.
        """

    def path(self, held: tuple[Any, ...], tensor: int, root: str) -> str:
        """Where the tensor with this index stands, as an expression that begins with ``root``."""

    def path_of_other(self, held: tuple[Any, ...], other: int, root: str) -> str:
        """The same of another object."""


# The tensors of a tree, the others, what is held, and the skeleton; RecursionError where there are too many levels.
Walked: TypeAlias = tuple[list[torch.Tensor], list[Any], tuple[Any, ...], Skeleton]
Walk: TypeAlias = Callable[[Any], Walked]


class _NoContainer:
    """A tree that is one other."""

    def rebuild(self, arrays: tuple[Any, ...], held: tuple[Any, ...], others: tuple[Any, ...]) -> Any:
        [tree] = others
        return tree

    def match(self, held: tuple[Any, ...], out: Any) -> tuple[list[Any], list[Any]]:
        return [], [out]

    def path(self, held: tuple[Any, ...], tensor: int, root: str) -> str:
        raise IndexError("expected the index of a tensor, and there is none")

    def path_of_other(self, held: tuple[Any, ...], other: int, root: str) -> str:
        return root


def leave_all(tree: Any) -> Walked:
    """Takes nothing apart: the whole tree is for somebody else to look at."""
    return [], [tree], (), _NoContainer()
