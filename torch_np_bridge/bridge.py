"""``Bridge``: options, trees, and the words of their errors."""

from __future__ import annotations

import math
import operator
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, SupportsIndex, TypeAlias, overload

import numpy as np
import numpy.typing as npt
import torch
from torch.compiler import is_dynamo_compiling

from . import engine as engines
from . import outputs, refusals, trees
from ._accelerate import Accelerated
from ._debug import Debugging
from ._profile import Profile
from ._stats import Stats
from .casting import Casts, casts
from .config import EngineChoice, engine_choice, read_settings
from .dtypes import NUMPY_DTYPES
from .engine import Array
from .errors import LeafRefusedError, OutputRefusedError, UnsupportedTensorError
from .memory_limit import MOST, parse_bytes
from .pipeline import AsyncHostIterator, HostIterator, prefetch
from .transfer import Transfer

# What `dtype=` takes: one for every tensor, or one for each dtype that is named.
DTypes: TypeAlias = npt.DTypeLike | Mapping[torch.dtype, npt.DTypeLike] | None


class Bridge:
    """Converts trees of tensors to trees of NumPy arrays, with an engine and page-locked memory of its own.

    The functions of the package are the methods of one Bridge that all share. A Bridge is a context manager: leaving
    it waits for its transfers; arrays that are alive stay valid.

    Args:
        engine: ``"native"`` (the compiled extension; :class:`EngineUnavailableError` where it cannot be used),
            ``"python"`` (plain torch), or ``"auto"``: what ``TORCH_NP_BRIDGE_ENGINE`` says, else native where it loads.
        pinned_limit: the most bytes that this Bridge may page-lock, an integer or a string such as ``"512MiB"``.
            ``None`` shares the limit of the process: ``TORCH_NP_BRIDGE_PINNED_LIMIT``, else a quarter of the memory
            that it may use and 4 GiB at most. Beyond the limit arrays come in ordinary memory, more slowly.

    Raises:
        EngineUnavailableError: ``engine="native"``, and it cannot be used; the message says why.
        ValueError: there is no such engine or size, or a variable of the environment has no such value.
    """

    def __init__(self, *, engine: EngineChoice = "auto", pinned_limit: int | str | None = None) -> None:
        choice = engine_choice(engine, "Bridge(engine=)")
        limit = None if pinned_limit is None else parse_bytes(pinned_limit, "Bridge(pinned_limit=)")
        self._selection = engines.select(choice, limit)
        self._engine = self._selection.engine
        self._debugging = Debugging(self._engine) if read_settings().debug else None
        self._closed = False

    def to_numpy(self, tree: Any, *, dtype: DTypes = None, copy: bool | None = None, out: Any = None) -> Any:
        """See :func:`torch_np_bridge.to_numpy`."""
        if is_dynamo_compiling():  # only while torch.compile follows us: it breaks the graph here and goes no further
            return torch._dynamo.disable(self.to_numpy)(tree, dtype=dtype, copy=copy, out=out)
        if copy is not None and not isinstance(copy, bool):
            raise TypeError(f"expected copy to be None, True or False, got {copy!r}")
        if copy is not None and out is not None:
            raise TypeError("expected either copy or out, got both; with out the values always go to its arrays")
        return self._submit(tree, casts(dtype), copy, out, snapshot=False, blocking=True).result()

    def to_numpy_async(self, tree: Any, *, dtype: DTypes = None, out: Any = None, snapshot: bool = False) -> Transfer:
        """See :func:`torch_np_bridge.to_numpy_async`."""
        if not isinstance(snapshot, bool):
            raise TypeError(f"expected snapshot to be True or False, got {snapshot!r}")
        if is_dynamo_compiling():
            untraced: Transfer = torch._dynamo.disable(self.to_numpy_async)(
                tree, dtype=dtype, out=out, snapshot=snapshot
            )
            return untraced
        return self._submit(tree, casts(dtype), None, out, snapshot, blocking=False)

    @overload
    def prefetch_to_host(
        self, iterable: Iterable[Any], depth: SupportsIndex = 2, *, dtype: DTypes = None, snapshot: bool = False
    ) -> HostIterator: ...
    @overload
    def prefetch_to_host(
        self, iterable: AsyncIterable[Any], depth: SupportsIndex = 2, *, dtype: DTypes = None, snapshot: bool = False
    ) -> AsyncHostIterator: ...
    def prefetch_to_host(
        self,
        iterable: Iterable[Any] | AsyncIterable[Any],
        depth: SupportsIndex = 2,
        *,
        dtype: DTypes = None,
        snapshot: bool = False,
    ) -> HostIterator | AsyncHostIterator:
        """See :func:`torch_np_bridge.prefetch_to_host`."""
        self._require_open()
        return prefetch(iterable, depth, partial(self.to_numpy_async, dtype=dtype, snapshot=snapshot))

    def accelerate(self) -> AbstractContextManager[object]:
        """See :func:`torch_np_bridge.accelerate`."""
        self._require_open()
        return Accelerated(self.to_numpy)

    def profile(self) -> Profile:
        """See :func:`torch_np_bridge.profile`."""
        self._require_open()
        return Profile(self._engine)

    def empty(self, shape: int | Sequence[int], dtype: npt.DTypeLike) -> Array:
        """See :func:`torch_np_bridge.empty`."""
        self._require_open()
        wanted = np.dtype(dtype)
        if wanted not in NUMPY_DTYPES.values():
            raise TypeError(f"expected a dtype that a tensor can have, got {wanted}; use numpy.empty for others")
        sizes = _sizes(shape)
        size = math.prod(sizes)
        if size == 0:
            return np.empty(sizes, wanted)
        if size * wanted.itemsize > MOST:
            raise ValueError(f"expected an array that memory can hold, got shape {sizes} of {wanted}")
        return self._engine.empty(engines.current_device(), size * wanted.itemsize).view(wanted).reshape(sizes)

    def engine_info(self) -> engines.EngineInfo:
        """See :func:`torch_np_bridge.engine_info`."""
        return engines.describe(self._selection)

    def stats(self) -> Stats:
        """See :func:`torch_np_bridge.stats`."""
        return Stats(**self._engine.stats())

    def trim(self) -> None:
        """See :func:`torch_np_bridge.trim`."""
        self._engine.trim()

    def close(self) -> None:
        """Wait for the transfers in flight and trim; later conversions raise ``RuntimeError``. Arrays stay valid."""
        self._closed = True
        self._engine.close()
        self._engine.trim()

    def __enter__(self) -> Bridge:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Bridge belongs to its process and cannot be pickled or copied; make one where it is needed")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("expected an open Bridge, got a closed one; make a new Bridge or use the functions")

    def _submit(
        self, tree: Any, cast: Casts | None, copy: bool | None, out: Any, snapshot: bool, blocking: bool
    ) -> Transfer:
        self._require_open()
        # Classes are asked, not objects: a proxy or a mock may say that it is a tensor.
        if issubclass(type(tree), torch.Tensor):
            tensors, structure = [tree], trees.ONE_TENSOR
        else:
            tensors, structure = trees.flatten(tree, self._selection.walk)
        if copy is False:
            for index, tensor in enumerate(tensors):
                obstacle = refusals.reason(tensor, cast) is None and refusals.obstacle_to_view(tensor, cast)
                if obstacle:
                    raise ValueError(f"{structure.path(index)}: {obstacle}")
        targets = None if out is None else structure.match(out)
        try:
            pending = self._engine.submit(tensors, targets, cast, copy is True, snapshot, blocking)
        except OutputRefusedError as refused:
            assert targets is not None
            error = outputs.refusal(tensors[refused.index], targets[refused.index], cast)
            raise type(error)(f"out for {structure.path(refused.index)}: {error}") from None
        except LeafRefusedError as refused:
            text = refused.words or refusals.describe(tensors[refused.index], cast)
            raise UnsupportedTensorError(f"{structure.path(refused.index)}: {text}") from None
        if self._debugging is None:
            return Transfer(pending, structure)
        return self._debugging.transfer(pending, structure, [] if snapshot else tensors)


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, (shape,) if isinstance(shape, SupportsIndex) else shape))
    except TypeError:
        raise TypeError(f"expected an integer or a sequence of integers for the shape, got {shape!r}") from None
    if any(size < 0 for size in sizes):
        raise ValueError(f"expected sizes that are not negative, got {sizes}")
    return sizes


Bridge.__module__ = "torch_np_bridge"
