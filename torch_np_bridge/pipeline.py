"""``prefetch_to_host``: the arrays of what an iterable yields, copied while the iterable makes more."""

from __future__ import annotations

import operator
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any, SupportsIndex, TypeAlias

from .transfer import Transfer

Submit: TypeAlias = Callable[[Any], Transfer]


class _OneCaller:
    """Refuses a second caller while there is one: each would get the other's arrays, or none."""

    def __init__(self) -> None:
        self._taken = threading.Lock()

    def __enter__(self) -> None:
        if not self._taken.acquire(blocking=False):
            raise RuntimeError("expected one caller at a time, got another meanwhile; give each an iterator of its own")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._taken.release()


class _NoEnd:
    """What a container raises must not say that the items are at their end, as with generators (PEP 479)."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, StopIteration | StopAsyncIteration):
            words = f"expected a container to be taken apart and made again, got {type(error).__name__} from it"
            raise RuntimeError(words) from error


_NO_END = _NoEnd()


class _InOrder:
    """Transfers in the order of their items, and behind the last of them the error that ended the source, if any."""

    def __init__(self, submit: Submit, depth: int) -> None:
        self._submit = submit
        self._depth = depth
        self._transfers: deque[Transfer] = deque()
        self._error: Exception | None = None
        self._ended = False
        self._one_caller = _OneCaller()

    def _wants_more(self) -> bool:
        return not self._ended and len(self._transfers) < self._depth

    def _add(self, item: Any) -> None:
        try:
            with _NO_END:
                self._transfers.append(self._submit(item))
        except Exception as error:
            self._end(error)

    def _end(self, error: Exception | None = None) -> None:
        self._ended = True
        self._error = error

    def _drop_all(self) -> Exception | None:
        """The copies end by themselves; the error is given out once."""
        error = self._error
        self._transfers.clear()
        self._end()
        return error


class HostIterator(_InOrder, Iterator[Any]):
    """What :func:`torch_np_bridge.prefetch_to_host` gives for an iterable."""

    def __init__(self, source: Iterable[Any], submit: Submit, depth: int) -> None:
        super().__init__(submit, depth)
        self._source = source
        self._iterator = iter(source)

    def __next__(self) -> Any:
        with self._one_caller:
            while self._wants_more():
                try:
                    item = next(self._iterator)
                except StopIteration:
                    self._end()
                except Exception as error:
                    self._end(error)
                else:
                    self._add(item)
                    del item  # the Transfer keeps of it what the copy needs, and no longer than that
            if not self._transfers:
                raise self._close() or StopIteration
            try:
                # Ctrl-C in here leaves the Transfer where it is: the next call gives its arrays.
                with _NO_END:
                    arrays = self._transfers[0].result()
            except Exception:
                self._close()
                raise
            self._transfers.popleft()
            return arrays

    def __len__(self) -> int:
        """That of the iterable; ``TypeError`` where it has none."""
        return len(self._source)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        """True, as that of any iterator, whatever its length."""
        return True

    def close(self) -> None:
        """Let go of what was not given out, and close a generator."""
        with self._one_caller:
            self._close()

    def _close(self) -> Exception | None:
        error = self._drop_all()
        try:
            if isinstance(self._iterator, Generator):
                self._iterator.close()
        except Exception as failure:
            raise failure from error
        return error


class AsyncHostIterator(_InOrder, AsyncIterator[Any]):
    """What :func:`torch_np_bridge.prefetch_to_host` gives for an asynchronous iterable."""

    def __init__(self, source: AsyncIterable[Any], submit: Submit, depth: int) -> None:
        super().__init__(submit, depth)
        self._iterator = aiter(source)

    async def __anext__(self) -> Any:
        with self._one_caller:
            while self._wants_more():
                try:
                    item = await anext(self._iterator)
                except StopAsyncIteration:
                    self._end()
                except Exception as error:
                    self._end(error)
                else:
                    self._add(item)
                    del item  # as above
            if not self._transfers:
                raise await self._close() or StopAsyncIteration
            try:
                # A task that is cancelled in here leaves the Transfer where it is, too.
                with _NO_END:
                    arrays = await self._transfers[0]
            except Exception:
                await self._close()
                raise
            self._transfers.popleft()
            return arrays

    async def aclose(self) -> None:
        """Let go of what was not given out, and close a generator."""
        with self._one_caller:
            await self._close()

    async def _close(self) -> Exception | None:
        error = self._drop_all()
        try:
            if isinstance(self._iterator, AsyncGenerator):
                await self._iterator.aclose()
        except Exception as failure:
            raise failure from error
        return error


def prefetch(
    iterable: Iterable[Any] | AsyncIterable[Any], depth: SupportsIndex, submit: Submit
) -> HostIterator | AsyncHostIterator:
    """The iterator for ``iterable``; each item is given to ``submit``."""
    most = operator.index(depth)
    if most < 1:
        raise ValueError(
            f"expected a depth of 1 or more, got {most}; 2 lets one copy overlap the making of the next item"
        )
    if isinstance(iterable, AsyncIterable) and not isinstance(iterable, Iterable):
        return AsyncHostIterator(iterable, submit, most)
    source: Any = iterable  # it may be one by its __getitem__ alone, as data sets are
    try:
        return HostIterator(source, submit, most)
    except TypeError as error:
        raise TypeError(
            f"expected an iterable or an asynchronous iterable, got {type(source).__name__}; "
            "call to_numpy_async for a single tree"
        ) from error
