"""``Bridge`` and the public functions: options, trees, and the words of their errors."""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn

import torch

from . import engine as engines
from . import refusals, trees
from ._stats import Stats
from .config import EngineChoice, engine_choice
from .errors import LeafRefusedError, UnsupportedTensorError
from .memory_limit import parse_bytes
from .transfer import Transfer


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
    """

    def __init__(self, *, engine: EngineChoice = "auto", pinned_limit: int | str | None = None) -> None:
        choice = engine_choice(engine, "Bridge(engine=)")
        limit = None if pinned_limit is None else parse_bytes(pinned_limit, "Bridge(pinned_limit=)")
        self._selection = engines.select(choice, limit)
        self._engine = self._selection.engine
        self._closed = False

    def to_numpy(self, tree: Any, *, copy: bool | None = None) -> Any:
        """See :func:`torch_np_bridge.to_numpy`."""
        if copy is not None and not isinstance(copy, bool):
            raise TypeError(f"expected copy to be None, True or False, got {copy!r}")
        return self._submit(tree, copy, snapshot=False, blocking=True).result()

    def to_numpy_async(self, tree: Any, *, snapshot: bool = False) -> Transfer:
        """See :func:`torch_np_bridge.to_numpy_async`."""
        return self._submit(tree, None, snapshot, blocking=False)

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

    def _submit(self, tree: Any, copy: bool | None, snapshot: bool, blocking: bool) -> Transfer:
        if self._closed:
            raise RuntimeError("expected an open Bridge, got a closed one; make a new Bridge or use the functions")
        # Classes are asked, not objects: a proxy or a mock may say that it is a tensor.
        if issubclass(type(tree), torch.Tensor):
            tensors, spec, positions = [tree], None, [0]
            leaves: list[Any] = []
        else:
            leaves, spec = trees.flatten(tree)
            tensor_types = {cls for cls in set(map(type, leaves)) if issubclass(cls, torch.Tensor)}
            positions = [index for index, leaf in enumerate(leaves) if type(leaf) in tensor_types]
            tensors = [leaves[index] for index in positions]
            for index in positions:
                leaves[index] = None
        if copy is False:
            for position, tensor in zip(positions, tensors, strict=True):
                obstacle = refusals.reason(tensor) is None and refusals.obstacle_to_view(tensor)
                if obstacle:
                    raise ValueError(f"{trees.path(spec, position)}: {obstacle}")
        try:
            pending = self._engine.submit(tensors, copy is True, snapshot, blocking)
        except LeafRefusedError as refused:
            text = refusals.describe(tensors[refused.index])
            raise UnsupportedTensorError(f"{trees.path(spec, positions[refused.index])}: {text}") from None
        return Transfer(pending, spec, leaves, positions)


_default = Bridge()


def _to_numpy(tree: Any, *, copy: bool | None = None) -> Any:
    """The arrays of a tree of tensors, in the same structure.

    Args:
        tree: a tensor of any shape, or any nesting of dict, list, tuple, namedtuple, dataclass and what is registered
            with torch's pytree or with optree. Leaves that are no tensors, NumPy arrays too, pass through untouched.
        copy: as in ``numpy.asarray``. ``None`` shares memory where possible (tensors on the CPU) and copies otherwise;
            ``True`` always gives fresh memory; ``False`` never copies.

    Returns:
        For each tensor ``x`` what ``x.detach().cpu().resolve_conj().resolve_neg().numpy()`` gives, bit for bit, with
        its shape, strides and dtype; bfloat16 and the float8 kinds come as the ``ml_dtypes`` with the same bits.

    Raises:
        UnsupportedTensorError: a tensor has no NumPy equivalent; the message names its path. Nothing was enqueued.
        ValueError: ``copy=False`` and a tensor cannot be shared.
    """
    return _default.to_numpy(tree, copy=copy)


_to_numpy.__name__ = _to_numpy.__qualname__ = "to_numpy"
_to_numpy.__module__ = "torch_np_bridge"
to_numpy = _default._engine.front(_to_numpy)


def to_numpy_async(tree: Any, *, snapshot: bool = False) -> Transfer:
    """Start copying a tree of tensors to the host and return at once.

    The copy runs on a stream of its own, after everything that was submitted to the current stream of each tensor's
    device before this call. With the Python engine the copy is made here, and the returned Transfer is finished.

    Args:
        tree: as in :func:`to_numpy`. Tensors on the CPU are shared, not copied.
        snapshot: clone each tensor first, on its own device and on the current stream, so that the caller may overwrite
            it at once (static outputs of CUDA graphs); tensors on the CPU are copied.

    Returns:
        A :class:`Transfer`; its ``result()`` is what ``to_numpy(tree)`` returns.

    Raises:
        UnsupportedTensorError: a tensor has no NumPy equivalent; the message names its path. Nothing was enqueued.
    """
    return _default.to_numpy_async(tree, snapshot=snapshot)


def engine_info() -> engines.EngineInfo:
    """Which engine the functions of the package use, and why.

    Returns:
        A frozen dataclass: ``engine`` ("native" or "python"), ``reason``, ``kernels`` (the architectures of the CUDA
        kernels in the extension, or why there are none), ``built_for`` (the torch that the extension was built for, or
        ``None``), ``devices`` (the accelerators that torch sees), ``limit`` (the most bytes that may be page-locked)
        and ``versions``.
    """
    return _default.engine_info()


def stats() -> Stats:
    """Counters of the page-locked memory and of the transfers of the functions of the package.

    Returns:
        A frozen dataclass; see :class:`Stats` for its fields.
    """
    return _default.stats()


def trim() -> None:
    """Give page-locked memory that no array uses back to the system.

    It empties the cache of torch's own host allocator for the device type too, since that is where the memory may come
    from. May wait for the device.
    """
    _default.trim()


for _public in (Bridge, to_numpy_async, engine_info, stats, trim):
    _public.__module__ = "torch_np_bridge"
