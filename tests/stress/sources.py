"""What is converted: random bytes of every dtype under layouts of every kind, and what their arrays have to be."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from helpers import Array, torchs_answer
from layouts import CONJUGATABLE, NEGATABLE

from torch_np_bridge.dtypes import NUMPY_DTYPES

View = Callable[[torch.Tensor], torch.Tensor]

# Few sizes, used often: the fake device gives memory out by exact size, and keeps what was freed for the same size.
SMALL = [(1, 1, 1), (2, 3, 5), (3, 7, 11), (4, 4, 16), (1, 10, 100), (8, 16, 32), (10, 20, 50), (64, 64, 4)]
LARGE = [(4, 512, 512), (3, 700, 700)]
HUGE = (20, 1024, 1024)

# Views that are all of their storage: a change in place under them is always told of.
WHOLE: dict[str, View] = {
    "itself": lambda x: x,
    "flat": lambda x: x.view(-1),
    "transposed": lambda x: x.transpose(0, 2),
    "permuted": lambda x: x.permute(1, 2, 0),
}
PARTS: dict[str, View] = {
    "every other column": lambda x: x[..., ::2],
    "every other row": lambda x: x[::2],
    "an offset": lambda x: x.view(-1)[1:],
    "a column": lambda x: x[..., -1],
    "zero-dimensional": lambda x: x[0, 0, 0],
    "empty": lambda x: x[:0],
    "expanded": lambda x: x.unsqueeze(0).expand(3, *x.shape),
    "windows": lambda x: x.view(-1).unfold(0, min(3, x.numel()), 1),
}
NEGATED: dict[str, View] = {"negated": lambda x: torch._neg_view(x), "negated part": lambda x: torch._neg_view(x[1:])}
CONJUGATED: dict[str, View] = {"conjugated": lambda x: x.conj(), "imaginary": lambda x: x.conj().imag}
WITH_GRADIENT: dict[str, View] = {"with a gradient": lambda x: x.detach().requires_grad_()}


@dataclass(frozen=True)
class Expected:
    """What the array of one leaf has to be: a description of it, and its bytes in C order."""

    source: str
    array: Array
    content: bytes
    shared: bool = False  # with a tensor, which has to stay as it is

    def complaint(self, got: object) -> tuple[str, int] | None:
        """What is wrong with an array, and how many of its bytes are; None where nothing is."""
        want = self.array
        if type(got) is not type(want):
            return f"{self.source}: expected an array, got {type(got).__name__}", len(self.content)
        form = (got.dtype, got.shape, got.strides, got.flags.writeable)
        if form != (want.dtype, want.shape, want.strides, want.flags.writeable):
            return f"{self.source}: expected {want.dtype} {want.shape} {want.strides}, got {form}", len(self.content)
        content = got.tobytes()
        if content == self.content:
            return None
        wrong = sum(a != b for a, b in zip(content, self.content, strict=True))
        return f"{self.source}: {wrong} of {len(content)} bytes are wrong", wrong


@dataclass(frozen=True)
class Source:
    """A base that lies on every device, and a view of it."""

    bases: dict[str, torch.Tensor]  # by device, the CPU too; never changed
    view: View
    whole: bool
    on_device: Expected
    on_cpu: Expected


def _random_base(dice: random.Random, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    content = bytearray(dice.randbytes(torch.Size(shape).numel() * dtype.itemsize))
    raw = torch.frombuffer(content, dtype=torch.uint8)
    if dtype == torch.bool:  # any other byte is no bool
        raw &= 1
    return raw.view(dtype).view(shape)


def _views(dtype: torch.dtype) -> dict[str, View]:
    return {
        **WHOLE,
        **PARTS,
        **(NEGATED if dtype in NEGATABLE | CONJUGATABLE else {}),
        **(CONJUGATED if dtype in CONJUGATABLE else {}),
        **(WITH_GRADIENT if dtype.is_floating_point and dtype.itemsize > 1 else {}),
    }


def random_source(dice: random.Random, shape: tuple[int, ...], devices: list[str]) -> Source:
    """A source of any dtype and view. Its bases are on the devices when those have been synchronised."""
    dtype = torch.uint8 if shape == HUGE else dice.choice(list(NUMPY_DTYPES))
    host = _random_base(dice, shape, dtype)
    name, view = dice.choice(list((WHOLE if shape == HUGE else _views(dtype)).items()))
    bases = {"cpu": host, **{device: host.to(device) for device in devices}}
    described = f"{name} of {str(dtype).removeprefix('torch.')} {shape}"
    shared, copied = torchs_answer(view(host)), torchs_answer(view(bases[devices[0]]))  # with strides of their own
    content = shared.tobytes()
    assert copied.tobytes() == content, described
    return Source(
        bases, view, name in WHOLE, Expected(described, copied, content), Expected(described, shared, content, True)
    )
