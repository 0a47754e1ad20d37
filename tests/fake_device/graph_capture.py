"""Capture of a stream's work into a graph, and the modes that say which calls may go on meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

import torch

from .native import fake

Mode = Literal["global", "thread_local", "relaxed"]
Status = Literal["none", "active", "invalidated"]

_MODES: dict[Mode, fake.CaptureMode] = {
    "global": fake.CaptureMode.GLOBAL,
    "thread_local": fake.CaptureMode.THREAD_LOCAL,
    "relaxed": fake.CaptureMode.RELAXED,
}
_NAMES: dict[fake.CaptureMode, Mode] = {mode: name for name, mode in _MODES.items()}
_STATUSES: dict[fake.CaptureStatus, Status] = {
    fake.CaptureStatus.NONE: "none",
    fake.CaptureStatus.ACTIVE: "active",
    fake.CaptureStatus.INVALIDATED: "invalidated",
}


def _mode(name: Mode) -> fake.CaptureMode:
    if name not in _MODES:
        raise ValueError(f"expected a capture mode, one of {', '.join(_MODES)}, got {name!r}")
    return _MODES[name]


class Capture:
    """A capture in progress. The end of the `with` block makes its stream the current one no longer and ends it."""

    def __init__(self, stream: torch.Stream, mode: Mode) -> None:
        self.stream = stream
        self._graph: fake.Graph | None = None
        fake.begin_capture(stream.device_index, stream.stream_id, _mode(mode))

    def end(self) -> None:
        """Ends the capture; RuntimeError if it was invalidated, or if a stream that it pulled in has not joined."""
        self._graph = fake.end_capture(self.stream.device_index, self.stream.stream_id)

    def launch(self, stream: torch.Stream | None = None) -> None:
        """Runs what was captured, as one operation of a stream (default: the current one)."""
        if self._graph is None:
            raise RuntimeError("expected a capture that has ended well, got one without a graph; call end() first")
        on = torch.accelerator.current_stream(self.stream.device_index) if stream is None else stream
        fake.launch_graph(self._graph, on.device_index, on.stream_id)

    def __enter__(self) -> "Capture":
        self.stream.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.__exit__(kind, error, trace)
        try:
            self.end()
        except RuntimeError:
            if error is None:
                raise


def capture(stream: torch.Stream | None = None, *, mode: Mode = "global") -> Capture:
    """Begins to capture a stream (default: one of the pool). Within a `with` block it is the current stream too.

    What is enqueued on it from now on does not run before `launch()`.
    """
    return Capture(torch.Stream("fake") if stream is None else stream, mode)


class graph:  # noqa: N801 - torch has it under this name
    """Captures the stream that it keeps for that within a `with` block, as `torch.cuda.graph` does by default."""

    default_capture_stream: torch.Stream | None = None

    def __enter__(self) -> Capture:
        if graph.default_capture_stream is None:
            graph.default_capture_stream = torch.Stream("fake")
        self._capture = capture(graph.default_capture_stream)
        return self._capture.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.__exit__(kind, error, trace)


def capture_status(stream: torch.Stream | None = None) -> Status:
    """Whether a stream (default: the current one) is captured."""
    asked = torch.accelerator.current_stream() if stream is None else stream
    return _STATUSES[fake.capture_status(asked.device_index, asked.stream_id)]


@contextmanager
def capture_mode(mode: Mode) -> Iterator[None]:
    """Exchanges the thread's capture mode, which is global otherwise, within a `with` block."""
    before = fake.exchange_capture_mode(_mode(mode))
    try:
        yield
    finally:
        fake.exchange_capture_mode(before)


def current_capture_mode() -> Mode:
    """The thread's capture mode."""
    mode = fake.exchange_capture_mode(fake.CaptureMode.GLOBAL)
    fake.exchange_capture_mode(mode)
    return _NAMES[mode]
