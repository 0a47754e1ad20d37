"""``Transfer``: a conversion on its way, shaped like a future."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import numbers
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any, NoReturn

import numpy as np
import torch

from .engine import Array, Pending
from .errors import SourceMutatedError
from .trees import ONE_TENSOR, Structure

_UNSET = object()
_storing = threading.Lock()  # of results; one for all, since nothing is called under it; a forked child has its own
_logger = logging.getLogger("torch_np_bridge")


class Transfer:
    """Arrays on their way to the host, as :func:`torch_np_bridge.to_numpy_async` returns them.

    The arrays cannot be reached before their bytes have arrived: :meth:`result` waits, and so does
    ``np.asarray(transfer)``. The source tensors stay alive until the copy has ended, also when the caller drops them
    and the Transfer at once. Any thread may wait, and every one gets the same objects.
    """

    __slots__ = ("__weakref__", "_pending", "_result", "_structure")

    def __init__(self, pending: Pending, structure: Structure = ONE_TENSOR) -> None:
        self._pending = pending
        self._structure = structure
        self._result: Any = _UNSET

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
            TypeError, ValueError: ``timeout`` is no number.
            Exception: whatever the copies raised.
        """
        self._wait(timeout)
        if self._result is _UNSET:
            # Rebuilding containers runs code of theirs, so not under the lock; the first result is everybody's.
            assembled = self._assemble(self._pending.arrays())
            with _storing:
                if self._result is _UNSET:
                    self._result = assembled
        return self._result

    def exception(self, timeout: float | None = None) -> Exception | None:
        """What :meth:`result` raises, or ``None`` where it returns.

        Args:
            timeout: seconds to wait at most; ``None`` waits as long as it takes.

        Raises:
            TimeoutError: the copies have not ended in time.
        """
        self._wait(timeout)
        try:
            self.result()
        except Exception as error:
            return error
        return None

    def add_done_callback(self, fn: Callable[[Transfer], object]) -> None:
        """Call ``fn(transfer)`` once the copies have ended, well or with an error.

        It is called on the worker of the Bridge, one at a time and in the order in which they were added, or at once in
        the calling thread where the copies have ended already. What it raises is logged and goes no further, as with
        ``concurrent.futures``. It should be short: staged copies and other callbacks of the Bridge wait for it. A
        process that exits before the copies have ended calls none. The Transfer lives until then, also when nobody
        else holds it.

        Args:
            fn: is given this Transfer, whose :meth:`result` does not wait any more.

        Raises:
            TypeError: ``fn`` cannot be called.
        """
        if not callable(fn):
            raise TypeError(f"expected a function that takes the Transfer, got {fn!r}")
        if self._pending.done():
            self._call(fn)
        else:
            self._pending.add_done_callback(lambda: self._call(fn))

    def future(self) -> Future[Any]:
        """A new ``concurrent.futures.Future`` of the result, for ``as_completed``, ``wait`` and what else takes one.

        It counts as running, so it cannot be cancelled. Its result is assembled on the worker.
        """
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        waiting = [future]

        def settle(transfer: Transfer) -> None:
            settled = waiting.pop()
            try:
                result = transfer.result()
            except BaseException as error:  # as an executor does: else who waits would wait for good
                settled.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                settled.set_result(result)
            finally:
                # The error knows this frame: by way of its future it would keep itself and the arrays.
                del settled

        self.add_done_callback(settle)
        return future

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait in a running event loop of asyncio, and return or raise what :meth:`result` does; ``await transfer``.

        The loop is not blocked and no thread is started for it. Cancelling the task that awaits leaves the Transfer as
        it is; it may be awaited again, and by several loops.

        Raises:
            RuntimeError: no event loop is running.
        """
        loop = asyncio.get_running_loop()
        if not self._pending.done():
            ended: asyncio.Future[None] = loop.create_future()

            def tell(transfer: Transfer) -> None:
                with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                    loop.call_soon_threadsafe(_settle, ended)

            self.add_done_callback(tell)
            yield from ended
        return self.result()

    def _call(self, fn: Callable[[Transfer], object]) -> None:
        try:
            fn(self)
        except Exception:
            _logger.exception("a callback of %r raised", self)

    def block_stream(self, stream: torch.Stream | None = None) -> None:
        """Make a stream wait for the copies, without making the host wait.

        What is submitted to the stream after this call runs after the copies, so it may overwrite the sources.

        Args:
            stream: the stream; ``None`` is the current stream of each device that the copies come from.

        Raises:
            TypeError: ``stream`` is none.
            RuntimeError: the stream is being captured into a graph.
        """
        # Classes are asked, not objects: a mock may say that it is a stream.
        if stream is not None and not issubclass(type(stream), torch.Stream):
            raise TypeError(f"expected a torch.Stream or None, got {type(stream).__name__}")
        self._pending.block_stream(stream)

    def _wait(self, timeout: float | None) -> None:
        seconds = None if timeout is None else _seconds(timeout)
        if not self._pending.wait(seconds):
            raise TimeoutError(f"expected the copies to end within {seconds} s, and they have not; ask again later")

    def _assemble(self, arrays: list[Array]) -> Any:
        mutated = self._pending.mutated_leaf()
        if mutated is not None:
            raise SourceMutatedError(
                f"{self._structure.path(mutated)}: expected a source that stays as it is until its copy has ended, got "
                "one that was changed in place; wait for result() before the change, pass snapshot=True, or call "
                "block_stream() before it"
            )
        return self._structure.rebuild(arrays)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """The array of a Transfer of one tensor, after waiting for it; NumPy calls this in ``np.asarray``.

        Args:
            dtype: the dtype to convert to, on the host; ``None`` keeps that of the array.
            copy: as in ``numpy.asarray``.

        Raises:
            TypeError: it is a Transfer of a tree.
            ValueError: ``copy=False``, and the dtype is another.
        """
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


def _renew_lock() -> None:
    global _storing
    _storing = threading.Lock()


if hasattr(os, "register_at_fork"):
    # Another thread may have had it, and is not there in the child to let go.
    os.register_at_fork(after_in_child=_renew_lock)


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():  # the task that waits may have been cancelled
        ended.set_result(None)


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
