"""What is refused, and what is supported though one may doubt it: the cases of the tests and of `docs/supported.md`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import torch

Convert: TypeAlias = Callable[[torch.Tensor], Any]


@dataclass(frozen=True)
class Refused:
    """A situation with a tensor that is refused in it, and what the sentence has to say, as a regular expression."""

    what: str
    words: str
    meet: Callable[[Convert], Any]  # calls its argument with the tensor, in the situation
    needs: tuple[str, ...] = ()


class Wrapper(torch.Tensor):
    """A subclass whose values are somewhere else."""

    @staticmethod
    def __new__(cls) -> Wrapper:
        made: Wrapper = torch.Tensor._make_wrapper_subclass(cls, (3,))
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise NotImplementedError(func)

    def __repr__(self) -> str:  # type: ignore[override]
        return "Wrapper()"


class Loud(torch.Tensor):
    """A subclass that notes which operations it is asked about, and answers none."""

    asked: ClassVar[list[Any]] = []

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.asked.append(func)
        raise NotImplementedError(func)


def plain(make: Callable[[], torch.Tensor]) -> Callable[[Convert], Any]:
    """The tensor is all there is to the situation. Torch warns that some of these kinds are prototypes."""

    def meet(convert: Convert) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensor = make()
        return convert(tensor)

    return meet


def bytes_as(name: str) -> torch.Tensor:
    """A tensor of a dtype that torch's stubs may not know, nor its functions."""
    dtype: torch.dtype = vars(torch)[name]
    return torch.arange(3 * dtype.itemsize, dtype=torch.uint8).view(dtype)


def fake_tensor() -> torch.Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(3)


@contextmanager
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    import torch.distributed as dist

    store = vars(dist)["HashStore"]()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def distributed(convert: Convert) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    with one_process():
        return convert(distribute_tensor(torch.ones(3), init_device_mesh("cpu", (1,)), [Replicate()]))


def batched(convert: Convert) -> None:
    torch.func.vmap(lambda row: (convert(row), row)[1])(torch.ones(2, 3))


def differentiated(convert: Convert) -> None:
    torch.func.grad(lambda point: (convert(point * 2), point.sum())[1])(torch.ones(3))


def functionalized(convert: Convert) -> None:
    torch.func.functionalize(lambda x: (convert(x), x * 2)[1])(torch.ones(3))


def freed(convert: Convert) -> Any:
    tensor = torch.ones(12)
    tensor.untyped_storage().resize_(0)
    return convert(tensor)


def captured(convert: Convert) -> Any:
    import fake_device

    tensor = torch.ones(3, device="fake")
    torch.accelerator.synchronize()
    with fake_device.capture(torch.Stream("fake")):
        return convert(tensor)


def sparse(kind: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Refused:
    words = rf"a strided tensor, got layout torch\.sparse_{kind.lower()}; call \.to_dense"
    return Refused(f"sparse: {kind}", words, plain(lambda: make(torch.eye(4))))


def subclass(what: str, name: str, advice: str, meet: Callable[[Convert], Any]) -> Refused:
    return Refused(what, rf"a plain tensor, got {name}, which dispatches by itself; {advice}", meet)


WRAPPED = r"got one wrapped by torch\.func; convert outside of vmap, grad and the like"
REFUSED = {
    "coo": sparse("COO", lambda eye: eye.to_sparse()),
    "csr": sparse("CSR", lambda eye: eye.to_sparse_csr()),
    "csc": sparse("CSC", lambda eye: eye.to_sparse_csc()),
    "bsr": sparse("BSR", lambda eye: eye.to_sparse_bsr((2, 2))),
    "bsc": sparse("BSC", lambda eye: eye.to_sparse_bsc((2, 2))),
    "mkldnn": Refused("MKL-DNN", r"got layout torch\._mkldnn; .*to_dense", plain(lambda: torch.ones(3).to_mkldnn())),
    "nested": Refused(
        "nested: strided",
        r"one dense tensor, got a nested tensor; .*unbind",
        plain(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])),
    ),
    "jagged": Refused(
        "nested: jagged",
        r"one dense tensor, got a nested tensor; .*unbind",
        plain(lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)),
    ),
    "quantized": Refused(
        "quantized: per tensor",
        r"got the quantized torch\.qint8; .*dequantize.* or .*int_repr",
        plain(lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
    ),
    "quantized by channel": Refused(
        "quantized: per channel",
        r"got the quantized torch\.quint4x2; .*dequantize.* or .*int_repr",
        plain(lambda: torch.quantize_per_channel(torch.ones(2, 4), torch.ones(2), torch.zeros(2), 0, torch.quint4x2)),
    ),
    "bits": Refused(
        "a dtype that NumPy has not: as above", r"got torch\.bits8; call \.view", plain(lambda: bytes_as("bits8"))
    ),
    "meta": Refused(
        "on the meta device",
        "a tensor with data, got one on the meta device; materialize",
        plain(lambda: torch.ones(3, device="meta")),
    ),
    "fake": subclass("fake tensors", r"torch\.\S*\.FakeTensor", "convert real tensors, outside", plain(fake_tensor)),
    "batched": Refused("what `torch.func.vmap` gives its function", WRAPPED, batched),
    "differentiated": Refused("what `torch.func.grad`, `jvp` and the like give theirs", WRAPPED, differentiated),
    "functionalized": Refused("what `torch.func.functionalize` gives its function", WRAPPED, functionalized),
    "functional": Refused(
        "what tracing makes functional",
        "got a functional one, as tracing makes them; convert outside of what is traced",
        plain(lambda: torch._to_functional_tensor(torch.ones(3))),
    ),
    "dtensor": subclass(
        "DTensor", r"torch\.distributed\.tensor\.DTensor", r"call \.full_tensor\(\), or \.to_local\(\)", distributed
    ),
    "masked": subclass(
        "masked tensors",
        r"torch\.masked\.\S*\.MaskedTensor",
        "convert the tensors that it wraps",
        plain(lambda: torch.masked.masked_tensor(torch.ones(3), torch.tensor([True, False, True]))),
    ),
    "wrapper": subclass(
        "other subclasses with a `__torch_dispatch__` of their own",
        r"refused\.Wrapper",
        "convert the tensors that it wraps",
        plain(Wrapper),
    ),
    "lazy parameter": Refused(
        "parameters and buffers of a lazy module before its first forward",
        "a tensor with a shape, got a parameter of a lazy module; run the module's first forward",
        plain(lambda: torch.nn.LazyLinear(3).weight),
    ),
    "lazy buffer": Refused(
        "parameters and buffers of a lazy module before its first forward",
        "a tensor with a shape, got a parameter of a lazy module; run the module's first forward",
        plain(lambda: torch.nn.parameter.UninitializedBuffer()),
    ),
    "freed": Refused(
        "a storage that was freed or made smaller under the tensor, as sharded training does it",
        "a storage of 48 bytes or more, got one of 0: it was freed or made smaller under the tensor; gather",
        freed,
    ),
    "zero tensor": Refused(
        "ZeroTensors", r"with memory, got a ZeroTensor, .*; call \.clone", plain(lambda: torch._efficientzerotensor(3))
    ),
    "too many dimensions": Refused(
        "more than 64 dimensions", r"at most 64 dimensions.* got 65; call \.flat", plain(lambda: torch.ones([1] * 65))
    ),
    "captured": Refused(
        "a tensor whose stream is being captured into a graph",
        r"a stream of fake:0 whose work runs, got one that is captured into a graph; capture without the conversion",
        captured,
        needs=("native", "fake"),
    ),
}


def compiled(convert: Convert) -> Any:
    """Tracing stops at the call, which runs as always; torch warns of some of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.compile(lambda x: convert(x * 2), backend="eager")(torch.full((3,), 0.5))


def in_vmap(convert: Convert) -> Any:
    outside = torch.ones(3)
    results: list[Any] = []

    def collect(row: torch.Tensor) -> torch.Tensor:
        results.append(convert(outside))
        return row

    torch.func.vmap(collect)(torch.ones(2, 3))
    return results[0]


def in_fake_mode(convert: Convert) -> Any:
    from torch._subclasses.fake_tensor import FakeTensorMode

    real = torch.ones(3)
    with FakeTensorMode():
        return convert(real)


def dual(convert: Convert) -> Any:
    with torch.autograd.forward_ad.dual_level():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch uses what it calls deprecated
            made = torch.autograd.forward_ad.make_dual(torch.ones(3).requires_grad_(), torch.zeros(3))
        return convert(made)


# Each gives an array of three ones.
SUPPORTED: dict[str, Callable[[Convert], Any]] = {
    "parameters and buffers": lambda convert: convert(torch.nn.Parameter(torch.ones(3))),
    "subclasses without a `__torch_dispatch__`: none of their operations is asked": lambda convert: convert(
        torch.ones(3).as_subclass(Loud)
    ),
    "tensors that require a gradient, are part of a graph or are dual: the values": dual,
    "inference tensors": lambda convert: convert(torch.inference_mode()(torch.ones)(3)),
    "lazily conjugated and negated tensors: resolved, on their device": lambda convert: convert(
        torch._neg_view(-torch.ones(3))
    ),
    "plain tensors inside of `torch.func` transforms": in_vmap,
    "plain tensors inside of dispatch modes (fake tensors, say)": in_fake_mode,
    "calls in what `torch.compile` traces: they break the graph (and so end a `fullgraph=True`)": compiled,
}
