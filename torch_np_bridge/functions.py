"""The functions of the package: the methods of one Bridge that all share, and their documentation."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, SupportsIndex, overload

import numpy.typing as npt

from ._accelerate import Accelerated
from ._profile import Profile
from ._stats import Stats
from .bridge import Bridge, DTypes
from .engine import Array, EngineInfo
from .pipeline import AsyncHostIterator, HostIterator
from .transfer import Transfer

_default = Bridge()


def _to_numpy(tree: Any, *, dtype: DTypes = None, copy: bool | None = None, out: Any = None) -> Any:
    """The arrays of a tree of tensors, in the same structure.

    Args:
        tree: a tensor of any shape, or any nesting of dict, list, tuple, namedtuple, dataclass and what is registered
            with torch's pytree or with optree. Leaves that are no tensors, NumPy arrays too, pass through untouched.
        dtype: a dtype of NumPy or ``ml_dtypes`` that every tensor is cast to, or a mapping from dtypes of torch to
            such, which casts the tensors of those. The cast is made on the tensor's own device, before the copy.
            ``None`` gives each array the dtype with the same bits.
        copy: as in ``numpy.asarray``. ``None`` shares memory where possible (tensors on the CPU that need no cast) and
            copies otherwise; ``True`` always gives fresh memory; ``False`` never copies.
        out: a tree of the same structure with arrays to fill, each of the shape of its tensor and of the dtype that
            its array would have. The device writes to memory of :func:`empty` directly, to any other by way of
            page-locked memory. What it has in the place of leaves that are no tensors is not looked at.

    Returns:
        For each tensor ``x`` what ``x.detach().cpu().resolve_conj().resolve_neg().numpy()`` gives, bit for bit, with
        its shape, strides and dtype; bfloat16 and the float8 kinds come as the ``ml_dtypes`` with the same bits. Where
        it is cast, the same of ``x.to(...)``. With ``out`` its very arrays, which keep their strides.

    Raises:
        UnsupportedTensorError: a tensor has no NumPy equivalent; the message names its path. Nothing was enqueued.
        ValueError: ``copy=False`` and a tensor cannot be shared, or an array of ``out`` has another shape.
        TypeError: ``dtype`` is none that torch has too; an array of ``out`` has another dtype, or is none; both
            ``copy`` and ``out`` are given; or a container with tensors cannot be made again with arrays.
        RecursionError: the tree has more than 999 levels, or a container contains itself.
        RuntimeError: in a forked child, for a tensor on an accelerator; and whatever torch raises where a copy fails.
    """
    return _default.to_numpy(tree, dtype=dtype, copy=copy, out=out)


_to_numpy.__name__ = _to_numpy.__qualname__ = "to_numpy"
_to_numpy.__module__ = "torch_np_bridge"
# What is debugged has to know of every call.
to_numpy = _to_numpy if _default._debugging else _default._engine.front(_to_numpy, Transfer)


def _to_numpy_async(tree: Any, *, dtype: DTypes = None, out: Any = None, snapshot: bool = False) -> Transfer:
    """Start copying a tree of tensors to the host and return at once.

    The copy runs on a stream of its own, after everything that was submitted to the current stream of each tensor's
    device before this call. With the Python engine the copy is made here, and the returned Transfer is finished.

    Args:
        tree: as in :func:`to_numpy`. Tensors on the CPU are shared, not copied, unless they are cast.
        dtype: as in :func:`to_numpy`. Tensors on the CPU are cast at once.
        out: as in :func:`to_numpy`. Its arrays are not to be read before the Transfer is done, nor used by another one;
            those of tensors on the CPU are filled at once.
        snapshot: clone each tensor first, on its own device and on the current stream, so that the caller may overwrite
            it at once (static outputs of CUDA graphs); tensors on the CPU are copied. What is cast is not cloned
            first: the cast is the clone.

    Returns:
        A :class:`Transfer`; its ``result()`` is what ``to_numpy(tree, dtype=dtype, out=out)`` returns.

    Raises:
        UnsupportedTensorError: a tensor has no NumPy equivalent; the message names its path. Nothing was enqueued.
        ValueError, TypeError, RecursionError, RuntimeError: as in :func:`to_numpy`, for what is seen before anything is
            enqueued. What a copy raises later is raised by ``result()``.
    """
    return _default.to_numpy_async(tree, dtype=dtype, out=out, snapshot=snapshot)


_to_numpy_async.__name__ = _to_numpy_async.__qualname__ = "to_numpy_async"
_to_numpy_async.__module__ = "torch_np_bridge"
to_numpy_async = _to_numpy_async if _default._debugging else _default._engine.front_async(_to_numpy_async, Transfer)


@overload
def prefetch_to_host(
    iterable: Iterable[Any], depth: SupportsIndex = 2, *, dtype: DTypes = None, snapshot: bool = False
) -> HostIterator: ...
@overload
def prefetch_to_host(
    iterable: AsyncIterable[Any], depth: SupportsIndex = 2, *, dtype: DTypes = None, snapshot: bool = False
) -> AsyncHostIterator: ...
def prefetch_to_host(
    iterable: Iterable[Any] | AsyncIterable[Any],
    depth: SupportsIndex = 2,
    *,
    dtype: DTypes = None,
    snapshot: bool = False,
) -> HostIterator | AsyncHostIterator:
    """Iterate over the arrays of what ``iterable`` yields, while their copies overlap the making of what comes next.

    The iterable is pulled inside ``next()``, in the consumer's thread and on its current streams, until ``depth``
    transfers are under way; then the oldest is waited for and given out. So the device is given ``depth - 1`` items
    ahead of the consumer. At most ``depth`` items are alive on the device beside the one that is being made, and on the
    host their arrays beside those that the consumer still has: take a depth of 3 where the consumer takes about as long
    as the device does for an item.

    An exception of the iterable comes at its place in the order, after the arrays of the items before it, and ends
    the iteration, as does a tree that is refused and a copy that fails. Ctrl-C comes at once; iterating may go on.

    Args:
        iterable: yields trees as for :func:`to_numpy`: a generator, a ``DataLoader``, a list, … What its items hold
            beside tensors, such as names and labels, passes through.
        depth: how many transfers are under way at most, an integer of 1 or more.
        dtype: as in :func:`to_numpy`.
        snapshot: clone the tensors first, for items whose tensors are written to again (static outputs of CUDA graphs).

    Returns:
        An iterator with the length of the iterable, where it has one, and ``close()``. For an asynchronous iterable an
        asynchronous iterator, whose waiting does not block the event loop, with ``aclose()``. One caller at a time.

    Raises:
        ValueError: ``depth`` is below 1.
        TypeError: ``iterable`` is none, or ``depth`` no integer.

    ``next()`` raises what the iterable raises, and what :func:`to_numpy_async` and :meth:`Transfer.result` do.
    """
    return _default.prefetch_to_host(iterable, depth, dtype=dtype, snapshot=snapshot)


def accelerate() -> AbstractContextManager[object]:
    """Let code that cannot be edited take the bridge's way wherever it says ``.cpu().numpy()``.

    **Before you use it:** what ``.cpu()`` gives lies in page-locked memory then, used again when it is dropped. A
    copy of it *back* to the device with ``non_blocking=True`` does not wait, as it did from ordinary memory: keep the
    tensor or array until that copy has ended, if it runs on another stream than the current one, and for good if the
    copy was captured into a graph. While ``torch.cuda.graph`` captures on its default stream, it lies in ordinary
    memory. docs/accelerate.md says more.

    In the thread that enters the context, ``.cpu()``, ``.to("cpu")`` and ``.numpy(force=True)`` of tensors on an
    accelerator give the same values, dtypes, shapes and strides as ever, and the same errors; they are copied as
    :func:`to_numpy` copies. Everything else is torch's affair, as is whatever the bridge refuses: tensors that need a
    gradient while gradients are recorded, subclasses, ``non_blocking=True``, other memory formats, casts, captures.

    Returns:
        A context manager, for one use; contexts may be nested. Where the bridge refuses or fails under it, torch does
        what it ever did, and nothing raises that did not before.
    """
    return Accelerated(to_numpy)


def profile() -> Profile:
    """See where the time of conversions goes: waiting for the device, copying, or hidden behind other work.

    ::

        with tnb.profile() as p:
            for arrays in tnb.prefetch_to_host(outputs(batches)): ...
        print(p.summary())

    It sees the functions of the package, called by any thread, and ``prefetch_to_host()`` and ``accelerate()`` too;
    ``Bridge.profile()`` sees those of another Bridge. A call that is profiled uses events that tell the time, and one
    more of them for each device; others cost what they did.

    Returns:
        A context manager, for one use, whose ``calls``, ``hidden``, ``summary()``, ``trace(path)`` and ``plot(path)``
        say what was seen, at any time. docs/profile.md has the model.

    Raises:
        RuntimeError: on entering it, where another profile of the Bridge is active.
    """
    return _default.profile()


def empty(shape: int | Sequence[int], dtype: npt.DTypeLike) -> Array:
    """An array for ``out=``, in page-locked memory that the current accelerator writes to directly.

    Its values are arbitrary. Where there is no accelerator, with the Python engine and at the limit the memory is
    ordinary, which works alike and more slowly; ``stats().unpooled_leaves`` counts it. Memory that another array had
    is given out only when what was submitted to the current stream before this call has passed, so that a copy of that
    array back to the device is not disturbed.

    Args:
        shape: the sizes, an integer or a sequence of them.
        dtype: a NumPy dtype that a tensor can have, those of ``ml_dtypes`` included.

    Returns:
        A C-contiguous, writable ``numpy.ndarray``, aligned to 128 bytes where it is page-locked.

    Raises:
        TypeError: no tensor has such a dtype.
        ValueError: a size is negative, or the array is larger than any memory.
    """
    return _default.empty(shape, dtype)


def engine_info() -> EngineInfo:
    """Which engine the functions of the package use, and why.

    Returns:
        A frozen dataclass; see :class:`~torch_np_bridge.engine.EngineInfo` for its fields.
    """
    return _default.engine_info()


def stats() -> Stats:
    """Counters of the page-locked memory and of the transfers of the functions of the package.

    Returns:
        A frozen dataclass of integers; see :class:`~torch_np_bridge._stats.Stats` for its fields. Sizes are in bytes.
    """
    return _default.stats()


def trim() -> None:
    """Give page-locked memory that no array uses back to the system.

    It empties the cache of torch's own host allocator for the device type too, since that is where the memory may come
    from. May wait for the device. What arrays, transfers and torch use stays; ``stats().held_bytes`` says how much.
    """
    _default.trim()


for _public in (accelerate, empty, prefetch_to_host, profile, to_numpy_async, engine_info, stats, trim):
    _public.__module__ = "torch_np_bridge"
