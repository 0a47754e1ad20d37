"""Whether a stream is captured into a graph, as far as torch can be asked."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch


def is_captured(stream: torch.Stream) -> bool:
    asked: Callable[[], bool] | None = getattr(stream, "is_capturing", None)  # from torch 2.13 on
    if asked is not None:
        return asked()
    if stream.device.type != "cuda":
        return False
    with torch.cuda.stream(stream):  # type: ignore[arg-type]
        return torch.cuda.is_current_stream_capturing()


def current_stream_is_captured(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_current_stream_capturing()
    try:
        return is_captured(torch.accelerator.current_stream(device))
    except (RuntimeError, ValueError):  # a device type without streams has none that is captured
        return False


def torch_captures(device: torch.device) -> bool:
    """Whether the stream is captured that ``torch.cuda.graph``, or its like for the device type, takes by itself.

    Nobody tells of captures on other streams, but for the one that is current.
    """
    stream: torch.Stream | None = getattr(_graph_of(device.type), "default_capture_stream", None)
    return stream is not None and is_captured(stream)


@cache  # it is asked before every copy
def _graph_of(device_type: str) -> object:
    return getattr(getattr(torch, device_type, None), "graph", None)
