"""Tensors of any PyTorch accelerator as NumPy arrays, copied asynchronously into pooled page-locked memory."""

from ._version import __version__
from .bridge import Bridge
from .errors import EngineUnavailableError, SourceMutatedError, UnsupportedTensorError
from .functions import accelerate, empty, engine_info, prefetch_to_host, profile, stats, to_numpy, to_numpy_async, trim
from .transfer import Transfer

__all__ = [
    "Bridge",
    "EngineUnavailableError",
    "SourceMutatedError",
    "Transfer",
    "UnsupportedTensorError",
    "__version__",
    "accelerate",
    "empty",
    "engine_info",
    "prefetch_to_host",
    "profile",
    "stats",
    "to_numpy",
    "to_numpy_async",
    "trim",
]
