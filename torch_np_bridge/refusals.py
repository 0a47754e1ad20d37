"""Why a tensor cannot become an array, in words: expected, got, what to call instead."""

from __future__ import annotations

import torch
from torch.nn.parameter import is_lazy

from .casting import Casts, dtype_on_host
from .dtypes import NUMPY_DTYPES, instead

_MAX_DIMS = 64

# By name, since what makes such a tensor has imported its class, and nobody else need.
_INSTEAD_OF = {
    "torch._subclasses.fake_tensor.FakeTensor": "convert real tensors, outside of its mode and of what is traced",
    "torch.distributed.tensor.DTensor": "call .full_tensor(), or .to_local() for the part of this rank",
}


def reason(tensor: torch.Tensor, cast: Casts | None) -> str | None:
    """Why ``tensor`` is refused, as the end of a sentence that begins with its path; ``None`` where it is not."""
    with torch._C.DisableTorchFunction():  # what a subclass makes of an operation is not asked: see PythonEngine
        return _reason(tensor, cast)


def _reason(tensor: torch.Tensor, cast: Casts | None) -> str | None:
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "expected a plain tensor, got one wrapped by torch.func; convert outside of vmap, grad and the like"
    if torch._is_functional_tensor(tensor):
        return "expected a plain tensor, got a functional one, as tracing makes them; convert outside of what is traced"
    if tensor.is_nested:
        return "expected one dense tensor, got a nested tensor; call .unbind() and convert the parts"
    if tensor.is_quantized:
        return f"expected a plain dtype, got the quantized {tensor.dtype}; call .dequantize() or .int_repr() first"
    if tensor.layout is not torch.strided:
        return f"expected a strided tensor, got layout {tensor.layout}; call .to_dense() first"
    if tensor.is_meta:
        return "expected a tensor with data, got one on the meta device; materialize it first (.to_empty, then fill it)"
    if tensor._is_zerotensor():
        return "expected a tensor with memory, got a ZeroTensor, which stands for zeros; call .clone() first"
    if dtype_on_host(tensor, cast) not in NUMPY_DTYPES:
        return f"expected a dtype that NumPy or ml_dtypes has, got {tensor.dtype}; {instead(tensor.dtype)}"
    if tensor.dim() > _MAX_DIMS:
        return f"expected at most {_MAX_DIMS} dimensions, as NumPy has, got {tensor.dim()}; call .flatten() first"
    if _has_own_dispatch(tensor):
        bases = [f"{cls.__module__}.{cls.__qualname__}" for cls in type(tensor).__mro__]
        instead_of_it = next(
            (advice for name, advice in _INSTEAD_OF.items() if name in bases), "convert the tensors that it wraps"
        )
        return f"expected a plain tensor, got {bases[0]}, which dispatches by itself; {instead_of_it}"
    if is_lazy(tensor):
        return "expected a tensor with a shape, got a parameter of a lazy module; run the module's first forward before"
    needed, there = _bytes_needed(tensor), tensor.untyped_storage().nbytes()
    if needed > there:
        return (
            f"expected a storage of {needed} bytes or more, got one of {there}: it was freed or made smaller under the "
            "tensor; gather the parameter first (FSDP: summon_full_params or unshard), or resize the storage"
        )
    return None


def _bytes_needed(tensor: torch.Tensor) -> int:
    """The bytes that the storage of a strided tensor must have."""
    if tensor.numel() == 0:
        return 0
    steps = ((size - 1) * stride for size, stride in zip(tensor.size(), tensor.stride(), strict=True))
    return int(tensor.storage_offset() + sum(steps) + 1) * tensor.element_size()


def _has_own_dispatch(tensor: torch.Tensor) -> bool:
    # The Python key is what a wrapper subclass (fake tensors, DTensor, …) carries: its data is somewhere else.
    return bool(torch._C._dispatch_keys(tensor).has(torch._C.DispatchKey.Python))


def describe(tensor: torch.Tensor, cast: Casts | None) -> str:
    """The sentence for a tensor that an engine refused, also where :func:`reason` knows none."""
    known = reason(tensor, cast)
    if known is not None:
        return known
    keys = torch._C._dispatch_keys(tensor)
    return f"expected a plain dense tensor, got one with dispatch keys {keys}; call .clone() first"


def obstacle_to_view(tensor: torch.Tensor, cast: Casts | None) -> str | None:
    """Why an array cannot share the memory of ``tensor``, a supported one; ``None`` where it can."""
    with torch._C.DisableTorchFunction():
        if not tensor.is_cpu:
            return f"expected a tensor on the CPU, as copy=False asks for, got one on {tensor.device}; pass copy=None"
        wanted = dtype_on_host(tensor, cast)
        if wanted is not tensor.dtype:
            return f"expected {wanted}, as copy=False and dtype= ask for, got {tensor.dtype}; pass copy=None"
        if tensor.is_conj() or tensor.is_neg():
            return "expected memory that holds the values, got a lazily conjugated or negated tensor; pass copy=None"
    return None
