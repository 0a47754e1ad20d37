"""Tools of the tests that need a GPU: the driver's own calls, streams that torch has not made, and the copies' stream.

No latch here: a stream is delayed by a kernel that ends by itself, so whatever waits for the device goes on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

import torch_np_bridge as tnb

CYCLES_A_MILLISECOND = 2_000_000  # of a clock that is no faster than that
STREAMS_OF_A_POOL = 32  # c10/cuda/CUDAStream.cpp
RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED
OWN_DEFAULT_STREAM = 2  # CU_STREAM_PER_THREAD: in each thread another one


@cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def call(function: str, *arguments: Any) -> None:
    """A call of the driver that has to succeed."""
    status = getattr(_driver(), function)(*arguments)
    assert status == 0, f"{function} answered {status}"


def has_context(index: int) -> bool:
    """Whether this process has a context on a device. To ask makes none."""
    device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDevicePrimaryCtxGetState", device, ctypes.byref(flags), ctypes.byref(active))
    return active.value != 0


def current_device() -> int:
    """The device of the thread's current context, as the driver knows it."""
    device = ctypes.c_int()
    call("cuCtxGetDevice", ctypes.byref(device))
    return device.value


def delay(milliseconds: int, stream: torch.cuda.Stream | None = None) -> None:
    """Occupies a stream, the current one where none is given, for at least so long."""
    with torch.cuda.stream(stream):
        torch.cuda._sleep(milliseconds * CYCLES_A_MILLISECOND)


@contextmanager
def blocking_stream() -> Iterator[torch.cuda.Stream]:
    """A stream of somebody else's, which waits for the legacy default stream, as those of torch's pools do not."""
    handle = ctypes.c_void_p()
    assert int(torch.cuda.cudart().cudaStreamCreate(ctypes.addressof(handle))) == 0
    assert handle.value is not None
    stream = torch.cuda.ExternalStream(handle.value)
    try:
        yield stream
    finally:
        stream.synchronize()
        assert int(torch.cuda.cudart().cudaStreamDestroy(handle.value)) == 0


def own_default_stream() -> torch.cuda.Stream:
    """The thread's own default stream, as programs use it that are compiled with --default-stream per-thread."""
    return torch.cuda.ExternalStream(OWN_DEFAULT_STREAM)


@contextmanager
def captured(stream: torch.cuda.Stream) -> Iterator[None]:
    """Within the block a stream is captured, by a graph that torch does not know and that must stay whole."""
    handle, graph = ctypes.c_void_p(stream.cuda_stream), ctypes.c_void_p()
    call("cuStreamBeginCapture_v2", handle, RELAXED)
    try:
        yield
    finally:
        call("cuStreamEndCapture", handle, ctypes.byref(graph))
        call("cuGraphDestroy", graph)


def fastest_stream() -> torch.cuda.Stream:
    """The next one of the pool that has the highest priority, which our copies take theirs from."""
    return torch.cuda.Stream(priority=torch.cuda.current_stream().priority_range()[1])


def copy_stream(bridge: tnb.Bridge, x: torch.Tensor) -> torch.cuda.Stream:
    """The stream that the native engine copies on: the one whose capture is in its way."""
    bridge.to_numpy(x)
    for _ in range(STREAMS_OF_A_POOL):
        stream = fastest_stream()
        with captured(stream):
            try:
                bridge.to_numpy(x)
            except tnb.UnsupportedTensorError:
                return stream
    raise AssertionError(f"expected a capture of one of the {STREAMS_OF_A_POOL} streams to be refused")
