"""`accelerate()` beside graphs: those of autograd, those that are captured, and those of traces and compilers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import assert_same_array, copy_stream, torchs_answer
from test_accelerate import source
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import torch_np_bridge as tnb


def test_a_graph_is_torchs(bridge: tnb.Bridge, accelerator: str) -> None:
    x = source(accelerator).requires_grad_()
    with bridge.accelerate():
        before = bridge.stats().transfers
        host = x.cpu()
        assert host.requires_grad
        with pytest.raises(RuntimeError, match="requires grad"):
            host.numpy()
        host.sum().backward()
        assert bridge.stats().transfers == before
        with torch.no_grad():
            assert not x.cpu().requires_grad
        assert bridge.stats().transfers == before + 1
    assert x.grad is not None
    assert x.grad.cpu().tolist() == [[1] * 3] * 4


def test_a_capture_is_torchs_affair(bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The same error; and neither is more in the graph than ever."""
    x = source("fake")
    torch.accelerator.synchronize()

    def within(accelerated: bool) -> str:
        with contextlib.ExitStack() as stack:
            if accelerated:
                stack.enter_context(bridge.accelerate())
            with pytest.raises(RuntimeError) as error, fake.capture():
                x.cpu()
        return str(error.value)

    assert within(accelerated=True) == within(accelerated=False)


ON_HOST: dict[str, Callable[[torch.Tensor], Any]] = {
    "cpu": torch.Tensor.cpu,
    "other strides": lambda x: x.t().cpu(),
    "with gaps": lambda x: x[:, 1].cpu(),
    "bfloat16": lambda x: x.bfloat16().cpu(),
    "lazily conjugate": lambda x: x.to(torch.complex64).conj().numpy(force=True),
    "numpy": lambda x: x.numpy(force=True),
    "needs a gradient": lambda x: x.requires_grad_().numpy(force=True),
}


@pytest.mark.skipif(
    not hasattr(torch.Stream, "is_capturing"),
    reason=f"expected torch 2.13 or newer, which asks guards; got {torch.__version__}",
)
@pytest.mark.parametrize("way", ON_HOST)
def test_memory_is_ordinary_while_torch_captures(
    native_bridge: tnb.Bridge, fake: ModuleType, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On its own stream, which is not the current one; and the capture goes on."""
    graph = fake.device_module.graph
    x, there = source("fake"), torch.zeros(4, 3, device="fake")
    expected = ON_HOST[way](x)
    ours = copy_stream(native_bridge, x)  # which CUDA does not give out, since it has a priority
    own, side = [stream for stream in (torch.Stream("fake") for _ in range(3)) if stream != ours][:2]
    monkeypatch.setattr(graph, "default_capture_stream", own)
    torch.accelerator.synchronize()
    with native_bridge.accelerate():
        for captured in (True, False):
            before = native_bridge.stats()
            with graph() if captured else contextlib.nullcontext() as capture:
                there.add_(1)
                with side:
                    got = ON_HOST[way](x)
            after = native_bridge.stats()
            assert after.transfers == before.transfers + 1
            assert (after.leased_bytes == before.leased_bytes) == captured
            assert type(got) is type(expected)
            assert_same_array(torchs_answer(torch.as_tensor(got)), torchs_answer(torch.as_tensor(expected)))
            if capture is not None:
                assert not there.any()
                capture.launch()
                assert there.all()


def traced(x: torch.Tensor) -> Any:
    return torch.jit.trace(lambda given: given.cpu() * 2, (x,), check_trace=False)


def made_into_a_graph(x: torch.Tensor) -> Any:
    return make_fx(lambda given: given.cpu() * 2)(x)


def compiled(x: torch.Tensor) -> Any:
    torch.compiler.reset()
    function = torch.compile(lambda given: given.cpu() * 2, backend="eager", fullgraph=True)
    function(x)
    return function


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("follow", [traced, made_into_a_graph, compiled])
def test_what_follows_the_operations_sees_the_copy(
    bridge: tnb.Bridge, accelerator: str, follow: Callable[[torch.Tensor], Any]
) -> None:
    """Else it would have the values of its first tensor for constants."""
    x = source(accelerator)
    with bridge.accelerate():
        function = follow(x)
        assert torch.equal(function(x + 1), 2 * (x + 1).cpu())


def test_a_mode_of_the_dispatcher_sees_the_copy(bridge: tnb.Bridge, accelerator: str) -> None:
    seen: list[str] = []

    class Dispatched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    x = source(accelerator)
    with bridge.accelerate(), Dispatched():  # type: ignore[no-untyped-call]
        assert x.cpu()[3, 2] == 11
    assert "aten._to_copy.default" in seen


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_forward_mode_is_torchs(bridge: tnb.Bridge, accelerator: str) -> None:
    with bridge.accelerate(), forward_ad.dual_level():
        x = forward_ad.make_dual(source(accelerator), torch.ones(4, 3, device=accelerator))
        assert forward_ad.unpack_dual(x.cpu()).tangent.tolist() == [[1] * 3] * 4
        before = bridge.stats().transfers
        assert source(accelerator).cpu()[3, 2] == 11
        assert bridge.stats().transfers == before + 1


def test_compiled_functions_go_on(bridge: tnb.Bridge, accelerator: str) -> None:
    @torch.compile(backend="eager")
    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    with bridge.accelerate():
        assert double(torch.ones(3)).tolist() == [2, 2, 2]
        assert double(source(accelerator)).cpu()[3, 2] == 22
