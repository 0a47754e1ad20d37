"""Streams as the driver's C interface takes them."""

import ctypes
from typing import Any, cast

import torch


def stream_handle(stream: torch.Stream) -> ctypes.c_void_p:
    """The driver's handle; torch's published types do not have it."""
    return ctypes.c_void_p(cast("Any", stream).native_handle)
