"""Exceptions of the package: three that callers see, two that travel from an engine to the words."""

from __future__ import annotations


class _InspectableError(Exception):
    """Gives a class the signature that ``inspect`` finds in none of Python's own exceptions before 3.13."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)


class UnsupportedTensorError(_InspectableError, TypeError):
    """A leaf of the tree is a tensor that has no NumPy equivalent (sparse, quantized, meta, …).

    The message names the leaf's path in the tree, what was expected, what was got and what to call instead.
    Nothing was enqueued for any leaf of the tree.
    """


class EngineUnavailableError(_InspectableError, RuntimeError):
    """The native engine was asked for by name and cannot be used here; the message says why and what to do."""


class SourceMutatedError(_InspectableError, RuntimeError):
    """A tensor was changed in place while its copy was in flight: the array may hold bytes of both versions.

    Raised by ``result()``. Wait before the change, or pass ``snapshot=True``, or call ``block_stream()`` before it.
    """


class LeafRefusedError(Exception):
    """An engine cannot take the tensor at ``index`` of its list; the caller knows the path, and may know the words."""

    def __init__(self, index: int, words: str | None = None) -> None:
        super().__init__(index, words)
        self.index = index
        self.words = words


class OutputRefusedError(Exception):
    """An engine cannot write to the array at ``index`` of its list; the caller knows the path and finds the words."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


SourceMutatedError.__module__ = "torch_np_bridge"
UnsupportedTensorError.__module__ = EngineUnavailableError.__module__ = "torch_np_bridge"
