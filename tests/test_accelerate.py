"""`accelerate()`: the same answers and errors as torch's own, from page-locked memory; what it covers is a table."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT, Call, assert_same_array, torchs_answer
from torch.overrides import TorchFunctionMode

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice
from torch_np_bridge.dtypes import CARRIERS, NUMPY_DTYPES

PAGE = ROOT / "docs" / "accelerate.md"


@dataclass(frozen=True)
class Idiom:
    """What people write, and whether it takes the bridge's way."""

    code: str
    covered: bool
    why: str = ""

    def run(self, x: torch.Tensor) -> Any:
        names: dict[str, Any] = {"torch": torch, "np": np, "x": x, "other": torch.zeros(1)}
        return eval(self.code, names)


IDIOMS = [
    Idiom("x.cpu().numpy()", True),
    Idiom("x.detach().cpu().numpy()", True),
    Idiom('x.to("cpu").numpy()', True),
    Idiom('x.to(torch.device("cpu")).numpy()', True),
    Idiom('x.to(device="cpu", copy=True).numpy()', True),
    Idiom("x.to(other).numpy()", True),
    Idiom("x.numpy(force=True)", True),
    Idiom("np.asarray(x.cpu())", True),
    Idiom("x[:, 1].cpu().numpy()", True),
    Idiom("x.t().cpu()", True),
    Idiom("x.cpu().tolist()", True),
    Idiom("x.bfloat16().cpu()", True),
    Idiom("x.tolist()", False, "torch copies inside of it"),
    Idiom("x[0, 0].item()", False, "torch copies inside of it"),
    Idiom('x.to("cpu", torch.float64).numpy()', False, "a cast; torch makes it on the host"),
    Idiom("x.double().cpu().numpy()", True),
    Idiom('x.to("cpu", None, False, True).numpy()', False, "`copy` by its position, which is not looked at"),
    Idiom('x.to("cpu", non_blocking=True)', False, "what that gives is not there yet, as ever"),
    Idiom("x.cpu(memory_format=torch.contiguous_format)", False, "another memory format than the tensor's own"),
    Idiom("torch.empty(4, 3).copy_(x)", False, "it has memory of its own"),
    Idiom("torch.nn.Parameter(x).cpu()", False, "a subclass, and part of a graph"),
    Idiom("x[:0].cpu()", False, "there is nothing to copy"),
]


def table() -> str:
    rows = [f"| `{idiom.code}` | {'yes' if idiom.covered else 'no'} | {idiom.why} |" for idiom in IDIOMS]
    return "\n".join(["| written | accelerated | why not |", "| --- | --- | --- |", *rows])


def source(device: str) -> torch.Tensor:
    return torch.arange(12, dtype=torch.float32, device=device).reshape(4, 3)


@pytest.mark.parametrize("idiom", IDIOMS, ids=lambda idiom: idiom.code)
def test_what_takes_the_bridges_way(bridge: tnb.Bridge, accelerator: str, idiom: Idiom) -> None:
    x = source(accelerator)
    expected = idiom.run(x)
    before = bridge.stats().transfers
    with bridge.accelerate():
        got = idiom.run(x)
    assert (bridge.stats().transfers > before) == idiom.covered
    torch.accelerator.synchronize()
    assert type(got) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert (got.dtype, got.device, got.requires_grad) == (expected.dtype, expected.device, expected.requires_grad)
        got, expected = torchs_answer(got), torchs_answer(expected)
    if isinstance(expected, np.ndarray):
        assert_same_array(got, expected)
    else:
        assert got == expected


def test_the_page_has_the_table() -> None:
    assert table() in PAGE.read_text(), f"expected docs/accelerate.md to have this table:\n\n{table()}\n"


def test_the_memory_is_page_locked(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = source(accelerator)
    with native_bridge.accelerate():
        kept = [x.cpu(), x.bfloat16().cpu()]
        assert native_bridge.stats().leased_bytes == 2 * 128
    array = kept[0].numpy()
    del kept
    assert native_bridge.stats().leased_bytes == 128
    assert array[3, 2] == 11


@pytest.mark.parametrize("dtype", NUMPY_DTYPES, ids=str)
def test_every_dtype(bridge: tnb.Bridge, accelerator: str, dtype: torch.dtype) -> None:
    x = torch.arange(12, dtype=torch.uint8).view(torch.uint8).repeat(16).view(dtype).to(accelerator)
    before = bridge.stats().transfers
    with bridge.accelerate():
        host = x.cpu()
    assert bridge.stats().transfers == before + 1
    assert_same_array(torchs_answer(host), torchs_answer(x))


@pytest.mark.parametrize("dtype", CARRIERS, ids=str)
def test_what_numpy_lacks_raises_as_ever(bridge: tnb.Bridge, accelerator: str, dtype: torch.dtype) -> None:
    x = torch.zeros(4, dtype=torch.uint8).repeat(4).view(dtype).to(accelerator)
    ways: list[Callable[[], object]] = [lambda: x.cpu().numpy(), lambda: x.numpy(force=True)]
    for convert in ways:
        with pytest.raises(TypeError) as expected:
            convert()
        with bridge.accelerate(), pytest.raises(TypeError) as got:
            convert()
        assert str(got.value) == str(expected.value)


def test_lazy_bits_and_empty(bridge: tnb.Bridge, accelerator: str) -> None:
    x = torch.complex(source(accelerator), source(accelerator) + 1)
    with bridge.accelerate():
        assert torch.equal(x.conj().cpu().resolve_conj(), x.cpu().conj().resolve_conj())
        assert x.conj().numpy(force=True)[0, 1] == 1 - 2j
        assert x[:0].cpu().shape == (0, 3)


def test_inference_mode(bridge: tnb.Bridge, accelerator: str) -> None:
    with torch.inference_mode(), bridge.accelerate():
        x = source(accelerator)
        before = bridge.stats().transfers
        host = x.cpu()
        assert bridge.stats().transfers == before + 1
        assert host.is_inference()
        assert host.numpy()[3, 2] == 11


class Named(torch.Tensor):
    """A subclass, whose own `cpu` is asked."""


def test_subclasses_are_left_alone(bridge: tnb.Bridge, accelerator: str) -> None:
    x = source(accelerator).as_subclass(Named)
    before = bridge.stats().transfers
    with bridge.accelerate():
        assert type(x.cpu()) is Named
    assert bridge.stats().transfers == before


def test_nesting_and_other_modes(native_bridge: tnb.Bridge, native: EngineChoice, accelerator: str) -> None:
    seen: list[Any] = []

    class Functions(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    x = source(accelerator)
    with tnb.Bridge(engine=native) as inner:
        before = native_bridge.stats().transfers
        with native_bridge.accelerate(), Functions():
            assert x.cpu()[3, 2] == 11
            assert torch.Tensor.cpu in seen
            assert native_bridge.stats().transfers == before + 1
            with inner.accelerate():
                assert x.cpu()[3, 2] == 11
            assert inner.stats().transfers == 1
            assert native_bridge.stats().transfers == before + 1
            x.cpu()
            assert native_bridge.stats().transfers == before + 2


def test_nothing_stays_patched(bridge: tnb.Bridge, accelerator: str) -> None:
    own = torch.Tensor.cpu, torch.Tensor.to, torch.Tensor.numpy
    x = source(accelerator)

    def fail() -> None:
        with bridge.accelerate():
            x.cpu()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    before = bridge.stats().transfers
    x.cpu()
    assert bridge.stats().transfers == before
    assert (torch.Tensor.cpu, torch.Tensor.to, torch.Tensor.numpy) == own


def test_only_the_thread_that_entered(bridge: tnb.Bridge, accelerator: str) -> None:
    x = source(accelerator)
    torch.accelerator.synchronize()
    entered, asked = threading.Event(), threading.Event()

    def within() -> int:
        with bridge.accelerate():
            entered.set()
            assert asked.wait(30)
            x.cpu()
        return bridge.stats().transfers

    before = bridge.stats().transfers
    call = Call(within)
    assert entered.wait(30)
    x.cpu()
    assert bridge.stats().transfers == before
    asked.set()
    assert call.result() == before + 1


ERRORS: dict[str, Callable[[Any], Any]] = {
    "numpy of a device": lambda x: x.numpy(),
    "an array of a device": lambda x: np.asarray(x),
    "no such device": lambda x: x.to("nowhere"),
    "no such argument": lambda x: x.to("cpu", 1, 2, 3, 4),
    "numpy takes no position": lambda x: x.numpy(True, True),
}


@pytest.mark.parametrize("error", ERRORS)
def test_errors_are_torchs(bridge: tnb.Bridge, accelerator: str, error: str) -> None:
    x = source(accelerator)
    with pytest.raises((TypeError, RuntimeError)) as expected:
        ERRORS[error](x)
    with bridge.accelerate(), pytest.raises(type(expected.value)) as got:
        ERRORS[error](x)
    assert str(got.value) == str(expected.value)


def test_a_closed_bridge_accelerates_nothing(engine: EngineChoice) -> None:
    bridge = tnb.Bridge(engine=engine)
    bridge.close()
    with pytest.raises(RuntimeError, match="expected an open Bridge"):
        bridge.accelerate()
