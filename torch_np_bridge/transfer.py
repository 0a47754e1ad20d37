"""``Transfer``: a conversion on its way, shaped like a future."""

from __future__ import annotations

import math
import numbers
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch

from . import trees
from .engine import Array, Pending
from .errors import SourceMutatedError

_UNSET = object()


class Transfer:
    """Arrays on their way to the host, as :func:`torch_np_bridge.to_numpy_async` returns them.

    The arrays cannot be reached before their bytes have arrived: :meth:`result` waits, and so does
    ``np.asarray(transfer)``. The source tensors stay alive until the copy has ended, also when the caller drops them
    and the Transfer at once. Any thread may wait, and every one gets the same objects.
    """

    __slots__ = ("__weakref__", "_leaves", "_lock", "_pending", "_positions", "_result", "_spec")

    def __init__(
        self,
        pending: Pending,
        spec: trees.TreeSpec | None,
        leaves: Sequence[Any],
        positions: Sequence[int],
    ) -> None:
        """``leaves`` has a hole at each of ``positions``, where the arrays go; without ``spec`` one array is all."""
        self._pending = pending
        self._spec = spec
        self._leaves = leaves
        self._positions = positions
        self._result: Any = _UNSET
        self._lock = threading.Lock()

    def done(self) -> bool:
        """Whether the copies have ended, well or with an error. Never waits."""
        return self._pending.done()

    def result(self, timeout: float | None = None) -> Any:
        """The arrays, in the structure of the tree that was submitted.

        Args:
            timeout: seconds to wait at most; ``None`` waits as long as it takes.

        Returns:
            The same objects on every call.

        Raises:
            TimeoutError: the copies have not ended in time; the Transfer goes on and can be asked again.
            SourceMutatedError: a source was changed in place before its copy was seen to have ended.
            Exception: whatever the copies raised.
        """
        self._wait(timeout)
        if self._result is _UNSET:
            # Rebuilding containers runs code of theirs, so not under the lock; the first result is everybody's.
            assembled = self._assemble(self._pending.arrays())
            with self._lock:
                if self._result is _UNSET:
                    self._result = assembled
        return self._result

    def exception(self, timeout: float | None = None) -> Exception | None:
        """What :meth:`result` raises, or ``None`` where it returns; waits like it, and raises ``TimeoutError``."""
        self._wait(timeout)
        try:
            self.result()
        except Exception as error:
            return error
        return None

    def block_stream(self, stream: torch.Stream | None = None) -> None:
        """Make a stream wait for the copies, without making the host wait.

        What is submitted to the stream after this call runs after the copies, so it may overwrite the sources.

        Args:
            stream: the stream; ``None`` is the current stream of each device that the copies come from.
        """
        if stream is not None and not isinstance(stream, torch.Stream):
            raise TypeError(f"expected a torch.Stream or None, got {type(stream).__name__}")
        self._pending.block_stream(stream)

    def _wait(self, timeout: float | None) -> None:
        seconds = None if timeout is None else _seconds(timeout)
        if not self._pending.wait(seconds):
            raise TimeoutError(f"expected the copies to end within {seconds} s, and they have not; ask again later")

    def _assemble(self, arrays: list[Array]) -> Any:
        mutated = self._pending.mutated_leaf()
        if mutated is not None:
            path = trees.path(self._spec, self._positions[mutated])
            raise SourceMutatedError(
                f"{path}: expected a source that stays as it is until its copy has ended, got one that was changed in "
                "place; wait for result() before the change, pass snapshot=True, or call block_stream() before it"
            )
        if self._spec is None:
            return arrays[0]
        leaves = list(self._leaves)
        for position, array in zip(self._positions, arrays, strict=True):
            leaves[position] = array
        return trees.unflatten(self._spec, leaves)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The array of a Transfer of one tensor, after waiting for it; NumPy calls this in ``np.asarray``."""
        result = self.result()
        if not isinstance(result, np.ndarray):
            raise TypeError(
                f"expected a Transfer of one tensor, got one of a {type(result).__name__}; "
                "call .result() and take the arrays from it"
            )
        return np.asarray(result, dtype=dtype, copy=copy)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Transfer belongs to its process and cannot be pickled or copied; use its result()")

    def __repr__(self) -> str:
        return f"<torch_np_bridge.Transfer {'done' if self.done() else 'in flight'}>"


def _seconds(timeout: float) -> float:
    """``timeout`` as a float that is not negative; below zero means, as everywhere in Python, not to wait."""
    if not isinstance(timeout, numbers.Real):
        raise TypeError(f"expected timeout to be a number of seconds or None, got {timeout!r}")
    try:
        seconds = float(timeout)
    except OverflowError:
        seconds = math.inf if timeout > 0 else 0.0
    if math.isnan(seconds):
        raise ValueError("expected timeout to be a number of seconds or None, got nan")
    return max(seconds, 0.0)


Transfer.__module__ = "torch_np_bridge"
