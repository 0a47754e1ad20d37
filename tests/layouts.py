"""Hypothesis strategies for tensors: bytes of every kind under layouts of every kind, the same on every device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st

Step = tuple[str, tuple[Any, ...]]


def apply_steps(tensor: torch.Tensor, steps: tuple[Step, ...]) -> torch.Tensor:
    """`tensor` after each step, a method of Tensor or a function of torch, named."""
    for name, arguments in steps:
        function = getattr(torch.Tensor, name) if hasattr(torch.Tensor, name) else getattr(torch, name)
        tensor = function(tensor, *arguments)
    return tensor


@dataclass(frozen=True)
class Case:
    """A tensor that can be made anew on any device: bytes, their dtype and shape, and what is done to them."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    content: bytes
    steps: tuple[Step, ...]
    inference: bool = False
    requires_grad: bool = False

    def build(self, device: str) -> torch.Tensor:
        raw = torch.frombuffer(bytearray(self.content), dtype=torch.uint8) if self.content else torch.empty(0)
        with torch.inference_mode(self.inference):
            flat = raw.to(torch.uint8).view(self.dtype).view(self.shape)
            source = flat.to(device, copy=True).requires_grad_(self.requires_grad)
            return apply_steps(source, self.steps)


# Those for which torch can compute what it has put off.
NEGATABLE = {torch.int8, torch.int16, torch.int32, torch.int64, torch.float32, torch.float64}
CONJUGATABLE = {torch.complex64, torch.complex128}
NOT_FLIPPABLE = {torch.uint16, torch.uint32, torch.uint64, torch.complex32}


def _views(tensor: torch.Tensor) -> list[st.SearchStrategy[Step]]:
    """One strategy for each kind of step that `tensor` can take."""
    dims = st.integers(0, tensor.dim() - 1)
    kinds: list[st.SearchStrategy[Step]] = [
        st.integers(0, tensor.dim()).map(lambda dim: ("unsqueeze", (dim,))),
        st.integers(0, 3).map(lambda size: ("expand", (size, *tensor.shape))),
    ]
    if tensor.dtype in NEGATABLE | CONJUGATABLE:
        kinds.append(st.just(("_neg_view", ())))
    if tensor.dtype in CONJUGATABLE:
        kinds += [st.just(("conj", ())), st.just(("__getattribute__", ("imag",)))]
        if not tensor.is_conj():
            kinds.append(st.just(("view_as_real", ())))
    if tensor.dim() == 0:
        return kinds
    kinds += [
        st.permutations(range(tensor.dim())).map(lambda order: ("permute", tuple(order))),
        st.tuples(dims, st.integers(1, 3)).map(lambda cut: ("__getitem__", (_every(*cut),))),
        dims.flatmap(lambda dim: _narrow(tensor, dim)),
        dims.flatmap(lambda dim: _unfold(tensor, dim)),
    ]
    if all(size > 0 for size in tensor.shape):
        kinds.append(
            dims.flatmap(lambda dim: st.integers(0, tensor.size(dim) - 1).map(lambda at: ("select", (dim, at))))
        )
    if tensor.dtype not in NOT_FLIPPABLE and "float8" not in str(tensor.dtype):
        kinds.append(dims.map(lambda dim: ("flip", (dim,))))
    if tensor.dim() >= 2:
        kinds.append(st.integers(-2, 2).map(lambda offset: ("diagonal", (offset,))))
    return kinds


def _every(dim: int, step: int) -> tuple[slice, ...]:
    return (*[slice(None)] * dim, slice(None, None, step))


def _narrow(tensor: torch.Tensor, dim: int) -> st.SearchStrategy[Step]:
    def length(start: int) -> st.SearchStrategy[Step]:
        return st.integers(0, tensor.size(dim) - start).map(lambda size: ("narrow", (dim, start, size)))

    return st.integers(0, tensor.size(dim)).flatmap(length)


def _unfold(tensor: torch.Tensor, dim: int) -> st.SearchStrategy[Step]:
    window = st.integers(0, tensor.size(dim))
    return st.tuples(window, st.integers(1, 2)).map(lambda cut: ("unfold", (dim, *cut)))


@st.composite
def cases(draw: st.DrawFn, dtype: torch.dtype) -> Case:
    """Tensors of `dtype` with random bits, NaN payloads among them, under up to four views and lazy operations."""
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    count = torch.Size(shape).numel() * dtype.itemsize
    content = draw(st.binary(min_size=count, max_size=count))
    if dtype == torch.bool:  # any other byte is no bool
        content = bytes(byte & 1 for byte in content)
    inference = draw(st.booleans())
    grad = not inference and (dtype.is_floating_point or dtype.is_complex) and draw(st.booleans())
    steps: list[Step] = []
    for _ in range(draw(st.integers(0, 4))):
        # What a step may be depends on the shape so far.
        so_far = Case(dtype, shape, content, tuple(steps)).build("cpu")
        if so_far.dim() > 5 or so_far.numel() > 4096:
            break
        steps.append(draw(st.one_of(_views(so_far))))
    return Case(dtype, shape, content, tuple(steps), inference, grad)
