"""Two CUDA runtimes beside each other: torch's, and the one inside the extension. They share the driver alone.

The contexts and the current device are the driver's; the last error of a thread is each runtime's own.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
import torch
from cuda_tools import blocking_stream, captured, current_device, delay
from helpers import Call, assert_silent, run_script

import torch_np_bridge as tnb

pytestmark = pytest.mark.usefixtures("gpu")


def tree_on(device: str) -> list[torch.Tensor]:
    """What is packed, dense and strided, what is gathered, and what is copied as it is."""
    x = torch.arange(200_000.0, device=device).view(400, 500)
    return [x[0, :5], x[::2, 7], *x[:50].unbind(), x[:, ::2], x]


def test_to_look_makes_no_context(native: str) -> None:
    """Nor does anything that concerns the CPU alone: a context takes some hundred MiB, and no fork survives it."""
    assert_silent(
        run_script("""
import numpy as np, torch, torch_np_bridge as tnb
from cuda_tools import has_context
devices = range(torch.cuda.device_count())
tnb.engine_info(), tnb.stats(), tnb.trim()
with tnb.Bridge(engine="native") as bridge:
    x = torch.arange(5.0)
    assert bridge.to_numpy([x, x[::2]], dtype=np.float16)[1].tolist() == [0, 2, 4]
    assert bridge.to_numpy_async(x, snapshot=True).result().tolist() == [0, 1, 2, 3, 4]
    bridge.trim()
assert not any(map(has_context, devices)), "a context was made, and no tensor of CUDA was there"
y = torch.ones(5, device="cuda")
assert tnb.to_numpy(y).tolist() == [1] * 5
assert has_context(0)
""")
    )


def test_no_context_but_on_the_tensors_own_device(native: str, two_gpus: str) -> None:
    """On hardware what test_ordering shows on the fake: pytorch#58626."""
    assert_silent(
        run_script("""
import threading, torch, torch_np_bridge as tnb
from cuda_tools import has_context
from test_cuda_runtimes import tree_on
tree = tree_on("cuda:1")
assert not has_context(0), "torch has made one by itself: nothing can be seen"
with tnb.Bridge(engine="native") as bridge, tnb.Bridge(engine="native", pinned_limit=0) as staged:
    def convert():
        for one in (bridge, staged):
            transfer = one.to_numpy_async(tree, snapshot=True)
            transfer.block_stream()
            assert transfer.result()[-1][0, 3] == 3
            assert one.to_numpy(tree)[-1][0, 3] == 3
            one.trim()
    convert()
    fresh = threading.Thread(target=convert)  # of which no device has heard yet
    fresh.start()
    fresh.join()
assert not has_context(0), "a context was made on cuda:0"
""")
    )


@pytest.mark.parametrize("current", [0, 1])
def test_the_current_device_stays(native_bridge: tnb.Bridge, two_gpus: str, current: int) -> None:
    """By torch's runtime and by the driver; the work is on the tensors' own device."""
    other = 1 - current
    torch.cuda.synchronize(other)
    torch.cuda.set_device(current)
    try:
        torch.cuda.synchronize()  # which makes its context, where there is none
        tree = tree_on(f"cuda:{other}")
        expected = [tensor.cpu().numpy() for tensor in tree]
        empty = native_bridge.empty(200_000, np.float32)
        for arrays in (
            native_bridge.to_numpy(tree),
            native_bridge.to_numpy_async(tree, snapshot=True).result(),
            [*expected[:-1], native_bridge.to_numpy(tree[-1].view(-1), out=empty).reshape(400, 500)],
        ):
            assert (torch.cuda.current_device(), current_device()) == (current, current)
            assert all(np.array_equal(array, right) for array, right in zip(arrays, expected, strict=True))
        transfer = native_bridge.to_numpy_async(tree)
        transfer.block_stream()
        assert (torch.cuda.current_device(), current_device()) == (current, current)
        transfer.result()
        native_bridge.trim()
        assert (torch.cuda.current_device(), current_device()) == (current, current)
    finally:
        torch.cuda.set_device(0)


def test_an_error_that_ours_has_met_is_not_torchs(native_bridge: tnb.Bridge, kernels: str) -> None:
    """Whether the default stream is captured CUDA answers by an error, while a stream that waits for it is.
    The next launch of torch, which asks its runtime for errors, hears of none, and the capture goes on."""
    x = torch.arange(1000.0, device=kernels)
    y = x + 1
    native_bridge.to_numpy(x)
    torch.cuda.synchronize()
    with blocking_stream() as stream, captured(stream):
        for _ in range(2):
            with pytest.raises(tnb.UnsupportedTensorError, match="got one that is captured into a graph"):
                native_bridge.to_numpy([x, x[:7]])
        with torch.cuda.stream(stream):
            y.add_(1)
    y.add_(2)
    torch.cuda.synchronize()
    assert (native_bridge.to_numpy(y) == np.arange(1000) + 3).all()  # what was captured has not run


def test_an_error_that_torch_has_left_is_not_ours(native_bridge: tnb.Bridge, kernels: str) -> None:
    """In a thread of its own, which keeps its last error to itself."""
    tree = tree_on(kernels)[:52]  # no kernel of torch's, which would be told of it
    expected = [tensor.cpu().numpy() for tensor in tree]
    native_bridge.to_numpy(tree)
    unlocked = ctypes.create_string_buffer(4096)

    def convert() -> Any:
        assert int(torch.cuda.cudart().cudaHostUnregister(ctypes.addressof(unlocked))) != 0
        return native_bridge.to_numpy(tree)

    arrays = Call(convert).result()
    assert all(np.array_equal(array, right) for array, right in zip(arrays, expected, strict=True))


def test_a_thread_that_cuda_has_not_heard_of(native_bridge: tnb.Bridge, gpu: str) -> None:
    """It asks for what others have submitted: our runtime may be the first to be called on it."""
    tree = tree_on(gpu)
    expected = [tensor.cpu().numpy() for tensor in tree]
    native_bridge.to_numpy(tree)
    delay(20)
    transfer = native_bridge.to_numpy_async(tree)
    arrays = Call(transfer.result).result()
    assert all(np.array_equal(array, right) for array, right in zip(arrays, expected, strict=True))
    again = Call(lambda: native_bridge.to_numpy(tree)).result()
    assert all(np.array_equal(array, right) for array, right in zip(again, expected, strict=True))
