"""The libraries of the integrations, or a sentence that says how to install one."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def library(module: str, title: str, extra: str) -> ModuleType:
    """The module of a library.

    Raises:
        ImportError: it, or what it needs itself, is not installed; the message names the extra that has both.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"expected {title} beside torch_np_bridge, got: {error}; run: pip install 'torch-np-bridge[{extra}]'"
        ) from error
