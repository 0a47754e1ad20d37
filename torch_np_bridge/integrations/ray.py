"""Ray Data: a model as a callable class for ``Dataset.map_batches``, synchronous and asynchronous."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch

from ..bridge import DTypes
from ..dtypes import CARRIERS, NUMPY_DTYPES, TORCH_DTYPES
from ..engine import Array
from ..functions import empty, prefetch_to_host, to_numpy_async
from ._library import library

library("ray.data", "Ray Data", "ray")

__all__ = ["AsyncPredictor", "Predictor"]


class _Predictor:
    """What both kinds share: a batch to the device, through the model, and the columns that come of it."""

    def __init__(
        self,
        model: torch.nn.Module | Callable[[], Callable[..., Any]],
        inputs: str | Sequence[str],
        *,
        keep: Sequence[str] = (),
        output: str = "output",
        device: torch.device | str | None = None,
        dtype: DTypes = None,
    ) -> None:
        if isinstance(keep, str):
            raise TypeError(f"expected a sequence of the names of columns to keep, got {keep!r}; pass [{keep!r}]")
        made = model if isinstance(model, torch.nn.Module) else model()
        if device is None:  # after the model is made: that may be what registers an accelerator
            device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        self._device = torch.device(device or "cpu")
        if self._device.type != "cpu" and self._device.index is None:
            self._device = torch.device(self._device.type, torch.accelerator.current_device_index())
        self._model = made.to(self._device).eval() if isinstance(made, torch.nn.Module) else made
        self._inputs, self._keep, self._output, self._dtype = inputs, tuple(keep), output, dtype

    def _checked(self, batch: Any) -> dict[str, Any]:
        """The columns of a batch that are needed, those of the model as arrays or tensors."""
        if not isinstance(batch, Mapping):
            got = type(batch).__name__
            raise TypeError(f"expected a batch of arrays by name, got {got}; pass batch_format='numpy' to map_batches")
        inputs = (self._inputs,) if isinstance(self._inputs, str) else tuple(self._inputs)
        for name in (*inputs, *self._keep):
            if name not in batch:
                names = ", ".join(map(repr, batch))
                raise ValueError(f"expected a batch with the column {name!r}, got one with {names}")
        return {name: batch[name] for name in self._keep} | {name: _numbers(batch[name], name) for name in inputs}

    def _run(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        """The columns that come of those of a batch, tensors among them."""
        # As the current device: empty() gives memory to the host again behind what its current stream has read.
        on_device = nullcontext() if self._device.type == "cpu" else torch.accelerator.device_index(self._device.index)
        with torch.inference_mode(), on_device:
            if isinstance(self._inputs, str):
                outputs = self._model(_on_device(columns[self._inputs], self._device))
            else:
                outputs = self._model(**{name: _on_device(columns[name], self._device) for name in self._inputs})
        made = {self._output: outputs} if isinstance(outputs, torch.Tensor) else outputs
        if not isinstance(made, Mapping):
            got = type(outputs).__name__
            raise TypeError(f"expected a model that returns a tensor or a mapping of names to tensors, got {got}")
        if both := sorted(made.keys() & set(self._keep)):
            raise ValueError(f"expected columns of the model beside those that are kept, got {both[0]!r} of both")
        return {**made, **{name: columns[name] for name in self._keep}}


class Predictor(_Predictor):
    """A model for ``Dataset.map_batches``: a batch of arrays in, arrays out while the device computes what is next.

    ::

        dataset.map_batches(
            Predictor,
            fn_constructor_args=[make_model, "image"],
            fn_constructor_kwargs={"keep": ["id"]},
            batch_size=1024,
            num_gpus=1,
            compute=ray.data.ActorPoolStrategy(size=4),
        )

    **What overlaps.** Each batch is computed in ``parts``: while one is computed, the one before is copied to the host,
    and Ray makes a block of the one before that. So choose a ``batch_size`` that is ``parts`` times what the model is
    to be given. Between two batches nothing overlaps, since Ray takes all of one before it gives another: the last
    part of each is waited for. :class:`AsyncPredictor` overlaps whole batches. In both, Ray copies the arrays into its
    object store, where they leave page-locked memory; with several actors on one device they share its copy engines.

    An actor that dies takes its batch with it, and Ray gives that to another: rows come out once.

    Args:
        model: a ``torch.nn.Module``, which is sent to each actor, or a function without arguments that makes one, or
            anything else that can be called, in the actor. It runs in inference mode.
        inputs: the column that the model is called with; or several, which it is called with by their names.
        keep: columns that come out as they went in, such as an id.
        output: the name of the column, where the model returns a tensor. A mapping of names to tensors gives a column
            for each.
        device: where the model runs; by default the current accelerator, else the CPU.
        dtype: as in :func:`torch_np_bridge.to_numpy`, for what the model returns. Ray's blocks have no bfloat16, no
            float8 and no complex numbers: ``{torch.bfloat16: numpy.float32}`` casts them on the device. Without it
            they are refused, since Ray would store them row by row, as pickled objects.
        parts: in how many parts a batch is computed, 1 or more.

    Raises:
        TypeError, ValueError: in the actor, with the column's name, before Ray sees anything: a column is missing or
            is none of numbers, or the model returned what no block can hold.
    """

    def __init__(
        self,
        model: torch.nn.Module | Callable[[], Callable[..., Any]],
        inputs: str | Sequence[str],
        *,
        keep: Sequence[str] = (),
        output: str = "output",
        device: torch.device | str | None = None,
        dtype: DTypes = None,
        parts: int = 4,
    ) -> None:
        if parts < 1:
            raise ValueError(f"expected parts to be 1 or more, got {parts}")
        super().__init__(model, inputs, keep=keep, output=output, device=device, dtype=dtype)
        self._parts = parts

    def __call__(self, batch: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The columns of each part of the batch, in order."""
        columns = self._checked(batch)
        rows = len(next(iter(columns.values())))
        step = max(-(-rows // self._parts), 1)
        slices = (slice(start, start + step) for start in range(0, max(rows, 1), step))
        outputs = (self._run({name: values[part] for name, values in columns.items()}) for part in slices)
        for arrays in prefetch_to_host(outputs, dtype=self._dtype):
            yield _for_block(arrays)


class AsyncPredictor(_Predictor):
    """As :class:`Predictor`, a coroutine: Ray starts further batches while the copies of earlier ones are under way.

    **What overlaps.** The next batches of the same task are computed while one is copied, and Ray makes blocks
    meanwhile, in another thread. Ray starts up to four (``RAY_DATA_DEFAULT_ASYNC_BATCH_UDF_MAX_CONCURRENCY`` in the
    actors' environment): as many batches are on the device at once. Between two tasks, which have a block or more each,
    nothing overlaps. A model that waits for the device, by ``.item()`` say, keeps the event loop waiting too.

    Args: those of :class:`Predictor`, without ``parts``: the model is given whole batches.
    """

    async def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The columns of the batch."""
        return _for_block(await to_numpy_async(self._run(self._checked(batch)), dtype=self._dtype))


def _numbers(values: Any, name: str) -> Array | torch.Tensor:
    """A column that a tensor can be made of."""
    if isinstance(values, torch.Tensor):
        return values
    array = np.asarray(values)
    if array.dtype == object:
        # What Arrow has no type for, such as bfloat16, Ray hands on as one object for each row.
        try:
            array = np.array(array.tolist())
        except ValueError:
            raise ValueError(f"batch[{name!r}]: expected rows of one shape, got several; pad them first") from None
    if array.dtype not in TORCH_DTYPES:
        raise TypeError(f"batch[{name!r}]: expected a column of numbers, got {array.dtype}; list it under keep=, say")
    return array


def _on_device(values: Array | torch.Tensor, device: torch.device) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values.to(device)
    # By way of page-locked memory: the copy to the device does not wait then, and no tensor lies in Ray's own memory,
    # which is read-only and shared by processes.
    staged = empty(values.shape, values.dtype)
    staged[...] = values
    dtype = TORCH_DTYPES[staged.dtype]
    carrier = CARRIERS.get(dtype)
    if carrier is None:
        return torch.from_numpy(staged).to(device, non_blocking=True)
    return torch.from_numpy(staged.view(NUMPY_DTYPES[carrier])).view(dtype).to(device, non_blocking=True)


def _for_block(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns, none of which fails inside Ray or becomes pickled objects there."""
    rows: dict[str, int] = {}
    for name, array in columns.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"output[{name!r}]: expected a tensor, got {type(array).__name__}; let the model return a mapping of "
                "names to tensors"
            )
        if array.ndim == 0:
            raise ValueError(f"output[{name!r}]: expected a row for each row of the batch, got shape ()")
        if array.dtype in TORCH_DTYPES and (array.dtype.kind == "c" or array.dtype.type.__module__ != "numpy"):
            raise TypeError(
                f"output[{name!r}]: expected a dtype that Ray's blocks hold, got {array.dtype}, which they would store "
                "row by row as pickled objects; pass dtype= with one, as in dtype={torch.bfloat16: numpy.float32}"
            )
        rows[name] = len(array)
    if len(set(rows.values())) > 1:
        raise ValueError(f"expected as many rows in each column, got {rows}; Ray's blocks are tables")
    return columns
