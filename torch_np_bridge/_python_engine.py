"""The fallback: plain torch, always synchronous, on any device that torch can copy from."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch.autograd import profiler
from torch.autograd.profiler import record_function
from torch.utils._python_dispatch import _disable_current_modes

from . import outputs, refusals
from ._captures import current_stream_is_captured
from ._recording import HostRecording, Recording
from .casting import Casts, dtype_on_host
from .dtypes import CARRIERS, NUMPY_DTYPES
from .errors import LeafRefusedError, OutputRefusedError

Array = np.ndarray[Any, Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Finished:
    """A submission that ended before it was handed out, well or with an error."""

    def __init__(self, arrays: list[Array], error: Exception | None) -> None:
        self._arrays = arrays
        self._error = error

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None) -> bool:
        return True

    def arrays(self) -> list[Array]:
        if self._error is not None:
            raise self._error
        return self._arrays

    def mutated_leaf(self) -> int | None:
        return None

    def add_done_callback(self, function: Callable[[], Any]) -> None:
        function()

    def block_stream(self, stream: torch.Stream | None) -> None:
        """Nothing is in flight."""


class PythonEngine:
    """``.detach().cpu().numpy()``, with the dtypes that NumPy lacks, and all at once."""

    @property
    def name(self) -> Literal["native", "python"]:
        return "python"

    def __init__(self) -> None:
        self._transfers = 0
        self._unpooled = 0
        self._recording: HostRecording | None = None

    def submit(
        self,
        tensors: Sequence[torch.Tensor],
        out: Sequence[Any] | None,
        cast: Casts | None,
        fresh: bool,
        snapshot: bool,
        blocking: bool,
    ) -> Finished:
        began = perf_counter()
        with _range():
            finished = self._submit(tensors, out, cast, fresh or snapshot)
        recording = self._recording  # another thread may stop it meanwhile
        if recording is not None and recording.process == os.getpid():
            sizes: Counter[str] = Counter()
            for tensor, array in zip(tensors, finished._arrays, strict=False):
                if not tensor.is_cpu:
                    sizes[str(tensor.device)] += array.nbytes
            recording.add(began, sizes, Counter(_route(tensor, cast, fresh or snapshot) for tensor in tensors))
        return finished

    def _submit(
        self, tensors: Sequence[torch.Tensor], out: Sequence[Any] | None, cast: Casts | None, fresh: bool
    ) -> Finished:
        # As in C++: neither a subclass nor a mode that the caller has entered is asked about our copies.
        with torch._C.DisableTorchFunction():
            for index, tensor in enumerate(tensors):
                if refusals.reason(tensor, cast) is not None:
                    raise LeafRefusedError(index)
            if out is not None:
                _check(tensors, out, cast)
            _refuse_captures(tensors)
            try:
                # A mode of the dispatcher or a transform (fake tensors, torch.func.grad, …)
                with _disable_current_modes(), torch._C._DisableFuncTorch():
                    arrays = [_convert(tensor, cast, fresh) for tensor in tensors]
                    for target, array in zip(out or (), arrays, strict=False):
                        np.copyto(target, array)
            except Exception as error:
                return Finished([], error.with_traceback(None))  # its frames hold the tensors
            # Reckoned first: between reading a counter and writing it nothing is called, so no other thread comes in.
            moved = any(not tensor.is_cpu for tensor in tensors)
            self._transfers += moved
            return Finished(arrays if out is None else list(out), None)

    def empty(self, device: torch.device | None, bytes: int) -> Array:
        self._unpooled += 1
        return np.empty(bytes, np.uint8)

    def close(self) -> None:
        """Nothing is ever in flight."""

    def trim(self) -> None:
        """Nothing is page-locked."""

    def stats(self) -> dict[str, int]:
        return {"transfers": self._transfers, "unpooled_leaves": self._unpooled}

    def start_profile(self) -> Recording | None:
        recording = HostRecording()
        # Nothing is called from here on, so no other thread comes in between.
        active = self._recording
        if active is not None and active.process == recording.process:
            return None
        self._recording = recording
        return recording

    def stop_profile(self) -> None:
        self._recording = None

    def front(self, function: _Function, transfer: Callable[[Any], Any]) -> _Function:
        return function

    def front_async(self, function: _Function, transfer: Callable[[Any], Any]) -> _Function:
        return function


def _range() -> AbstractContextManager[object]:
    """Shows the call to torch's profiler, which alone pays for it."""
    return record_function("torch_np_bridge::submit") if profiler._is_profiler_enabled else nullcontext()


def _route(tensor: torch.Tensor, cast: Casts | None, fresh: bool) -> str:
    if tensor.numel() == 0 and not tensor.is_cpu:
        return "empty"
    plain = not (fresh or tensor.is_conj() or tensor.is_neg() or dtype_on_host(tensor, cast) != tensor.dtype)
    return "view" if tensor.is_cpu and plain else "host"


def _check(tensors: Sequence[torch.Tensor], out: Sequence[Any], cast: Casts | None) -> None:
    for index, (tensor, array) in enumerate(zip(tensors, out, strict=True)):
        if outputs.obstacle(tensor, array, cast) is not None:
            raise OutputRefusedError(index)
    overlap = outputs.overlapping(tensors, out)
    if overlap is not None:
        raise OutputRefusedError(overlap)


def _refuse_captures(tensors: Sequence[torch.Tensor]) -> None:
    # The copy would fail, and end the capture.
    devices = {tensor.device: index for index, tensor in reversed(list(enumerate(tensors))) if not tensor.is_cpu}
    for device, index in devices.items():
        if current_stream_is_captured(device):
            raise LeafRefusedError(
                index,
                f"expected a stream of {device} whose work runs, got one that is captured into a graph; capture "
                "without the conversion and convert after the replay, or give the static output with snapshot=True "
                "then",
            )


def _convert(tensor: torch.Tensor, cast: Casts | None, fresh: bool) -> Array:
    source = torch.Tensor.detach(tensor)  # a plain tensor; a subclass may have methods of its own
    host = source.to(dtype_on_host(source, cast))
    host = host.cpu() if not host.is_cpu else host.clone() if fresh and host.dtype == source.dtype else host
    host = host.resolve_conj().resolve_neg()
    carrier = CARRIERS.get(host.dtype)
    if carrier is None:
        return host.numpy()
    return host.view(carrier).numpy().view(NUMPY_DTYPES[host.dtype])
