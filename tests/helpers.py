"""Tools of the contract tests: torch's own answer, comparison bit for bit, latches, calls that are held open."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

import numpy as np
import pytest
import torch

import torch_np_bridge as tnb
from torch_np_bridge.dtypes import NUMPY_DTYPES

Array = np.ndarray[Any, Any]
ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0
_SAME_WIDTH = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def torchs_answer(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> Array:
    """What torch itself makes of `tensor`, cast on its device: the answer that every engine has to give."""
    host = tensor.detach().to(dtype or tensor.dtype).cpu().resolve_conj().resolve_neg()
    wanted = NUMPY_DTYPES[host.dtype]
    if wanted.type.__module__ == "numpy":
        return host.numpy()
    return host.view(_SAME_WIDTH[wanted.itemsize]).numpy().view(wanted)


def assert_same_array(got: Any, expected: Array) -> None:
    """Type, dtype, shape, strides and writability are equal, and the values bit for bit."""
    assert type(got) is np.ndarray
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.strides == expected.strides
    assert got.flags.writeable == expected.flags.writeable
    assert got.tobytes() == expected.tobytes()


class Latch(Protocol):
    """Holds a stream closed until it is released; a context manager that releases at its end."""

    def release(self) -> None: ...

    def __enter__(self) -> Latch: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class CudaLatch:
    """A CUDA stream waits for a word of page-locked memory, which the host writes at the release."""

    def __init__(self, stream: torch.Stream) -> None:
        self._word = torch.zeros(1, dtype=torch.int32).pin_memory()
        ids = {"stream_id": stream.stream_id, "device_index": stream.device_index, "device_type": stream.device_type}
        handle = torch.cuda.Stream(**ids).cuda_stream
        greater_or_equal = 0
        status = ctypes.CDLL("libcuda.so.1").cuStreamWaitValue32_v2(
            ctypes.c_void_p(handle), ctypes.c_uint64(self._word.data_ptr()), ctypes.c_uint32(1), greater_or_equal
        )
        assert status == 0, f"cuStreamWaitValue32 answered {status}"

    def release(self) -> None:
        self._word.fill_(1)

    def __enter__(self) -> CudaLatch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(device: str, stream: torch.Stream | None = None) -> Latch:
    """Closes a stream of `device` (default: the thread's current one) for what is submitted to it from now on."""
    held = torch.accelerator.current_stream() if stream is None else stream
    if device == "cuda":
        return CudaLatch(held)
    import fake_device

    latch: Latch = fake_device.hold(held)
    return latch


class Call:
    """A function in a thread of its own; its error is raised by `result()`."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._outcome: Any = None
        self._error: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._function()
        except BaseException as error:
            self._error = error

    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> Any:
        self._thread.join(PATIENCE)
        assert self.done(), "a thread hangs"
        if self._error is not None:
            raise self._error
        return self._outcome


def start(bridge: tnb.Bridge, tree: Any, device: str) -> Any:
    """A conversion that a latch on `device` may hold: something with `done()` and `result()`.

    The Python engine is synchronous, so its call runs in a thread, on the caller's streams; it has reached the copy
    when this returns.
    """
    if bridge.engine_info().engine == "native":
        return bridge.to_numpy_async(tree)
    index = torch.accelerator.current_device_index()
    stream = torch.accelerator.current_stream()

    def convert() -> Any:
        torch.accelerator.set_device_index(index)
        torch.accelerator.set_stream(stream)
        return bridge.to_numpy(tree)

    if device != "fake":
        return Call(convert)
    import fake_device

    before = fake_device.counters().copies_synchronous
    call = Call(convert)
    wait_until(lambda: call.done() or fake_device.counters().copies_synchronous > before)
    return call


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits for what is certain to come; the time limit is for tests that fail."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def copy_stream(bridge: tnb.Bridge, x: torch.Tensor) -> torch.Stream:
    """The stream of the fake accelerator that the native engine copies on: the one whose capture is in its way."""
    import fake_device

    bridge.to_numpy(x)
    for stream in [torch.Stream("fake") for _ in range(4)]:
        with_capture = fake_device.capture(stream)
        try:
            bridge.to_numpy(x)
        except tnb.UnsupportedTensorError:
            return stream
        finally:
            with_capture.end()
    raise AssertionError("expected a capture of one of the four streams to be refused")


def side_stream(bridge: tnb.Bridge, x: torch.Tensor) -> torch.Stream:
    """One of the fake accelerator's that the native engine does not copy on: its pool gives that one out too."""
    ours = copy_stream(bridge, x)
    return next(stream for stream in (torch.Stream("fake"), torch.Stream("fake")) if stream != ours)


def revive() -> None:
    """Brings a lost fake device back. A copy that was under way may end its context once more."""
    import fake_device

    def revived() -> bool:
        fake_device.clear_failures()
        try:
            torch.accelerator.synchronize()
        except RuntimeError:
            return False
        return True

    wait_until(revived)


def interrupt(call: Callable[[], object]) -> None:
    """Calls, and interrupts the call a moment after its begin, as Ctrl-C does."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def timed() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        call()

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with pytest.raises(KeyboardInterrupt):  # on a busy machine it may come before the call has begun
            timed()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run_script(source: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs Python source in a fresh process that finds the package and the fake accelerator; warnings are errors."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=ROOT / "tests",
        # Kernels are loaded as they are needed, unlike in the process of the tests: no script holds a CUDA stream.
        env={
            **os.environ,
            "CUDA_MODULE_LOADING": "LAZY",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def assert_silent(finished: subprocess.CompletedProcess[str], output: str = "") -> None:
    """A script ended well and said nothing but `output`."""
    assert finished.returncode == 0, f"status {finished.returncode}: {finished.stderr}"
    assert finished.stdout == output
    assert finished.stderr == ""
