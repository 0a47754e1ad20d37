"""The libraries of the integrations, or a sentence that says how to install one."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def library(module: str, title: str, extra: str) -> ModuleType:
    """The module of a library.

    Raises:
        ImportError: it is not installed; the message names the extra that has it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise  # it is there, and lacks something itself
        raise ImportError(
            f"expected {title} beside torch_np_bridge, got none; run: pip install 'torch-np-bridge[{extra}]'"
        ) from error
