"""``accelerate()``: code that cannot be edited and says ``.cpu().numpy()`` takes the bridge's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.autograd.forward_ad import unpack_dual
from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from ._captures import torch_captures
from .dtypes import CARRIERS, NUMPY_DTYPES
from .engine import Array

Convert: TypeAlias = Callable[..., Array]  # as to_numpy() of a single tensor
Way: TypeAlias = Callable[..., Any]

_PRESERVE = (None, torch.preserve_format)


class Accelerated(TorchFunctionMode):
    """What is in force under :func:`torch_np_bridge.accelerate`, in the thread that has entered it."""

    def __init__(self, convert: Convert) -> None:
        super().__init__()
        self._convert = convert

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        way = _WAYS.get(func)
        if way is not None and type(args[0]) is torch.Tensor and not args[0].is_cpu and not _is_followed():
            answer = way(self._convert, *args, **kwargs)
            if answer is not NotImplemented:
                return answer
        return func(*args, **kwargs)


def _is_followed() -> bool:
    """Whether somebody follows each operation, such as a trace: to it our copies would be constants."""
    traced = is_dynamo_compiling() or torch._C._get_tracing_state() is not None
    return traced or torch._C._len_torch_dispatch_stack() > 0


def _cpu(convert: Convert, tensor: torch.Tensor, memory_format: Any = None) -> Any:
    return _on_host(convert, tensor) if memory_format in _PRESERVE else NotImplemented


def _to(convert: Convert, tensor: torch.Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Any:
    try:
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
    except (TypeError, RuntimeError):  # a form that it does not know
        return NotImplemented
    plain = dtype in (None, tensor.dtype) and not non_blocking and memory_format in _PRESERVE
    if device is None or device.type != "cpu" or not plain:
        return NotImplemented
    return _on_host(convert, tensor)


def _numpy(convert: Convert, tensor: torch.Tensor, *, force: bool = False) -> Any:
    # The others raise, as NumPy does not have them.
    if not force or tensor.dtype not in NUMPY_DTYPES or tensor.dtype in CARRIERS:
        return NotImplemented
    return _attempt(convert, tensor)


_WAYS: dict[Any, Way] = {torch.Tensor.cpu: _cpu, torch.Tensor.to: _to, torch.Tensor.numpy: _numpy}


def _on_host(convert: Convert, tensor: torch.Tensor) -> Any:
    """A tensor on the CPU over the array; ``NotImplemented`` where only torch's own has all that it is to have."""
    in_graph = (tensor.requires_grad and torch.is_grad_enabled()) or unpack_dual(tensor).tangent is not None
    lazy = tensor.is_conj() or tensor.is_neg()
    if in_graph or lazy or tensor.numel() == 0:
        return NotImplemented
    array = _attempt(convert, tensor)
    if array is NotImplemented:
        return NotImplemented
    carrier = CARRIERS.get(tensor.dtype)
    if carrier is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(NUMPY_DTYPES[carrier])).view(tensor.dtype)


def _attempt(convert: Convert, tensor: torch.Tensor) -> Any:
    """The array; where the bridge refuses or fails, torch is to give its own answer, or its own error."""
    try:
        if not torch_captures(tensor.device):
            return convert(tensor)
        # A captured copy to the device reads its source at every replay, and torch does not know that our memory is in
        # use.
        return convert(tensor, out=_in_ordinary_memory(tensor))
    except Exception:
        return NotImplemented


def _in_ordinary_memory(tensor: torch.Tensor) -> Array:
    """An array to fill, of the strides that ``.cpu()`` would give it."""
    carrier = CARRIERS.get(tensor.dtype, tensor.dtype)
    array: Array = torch.empty_like(tensor, dtype=carrier, device="cpu", requires_grad=False).numpy()
    return array.view(NUMPY_DTYPES[tensor.dtype])
