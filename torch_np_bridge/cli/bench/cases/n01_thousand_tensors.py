"""A dict of 1000 tensors of 64×64 float32, from the call to the arrays in hand."""

from __future__ import annotations

from ..results import Measured
from ..setting import Setting
from .trees import measure_tree

MILLISECONDS = 0.8


def measure(setting: Setting) -> Measured:
    """Beside all ways."""
    return measure_tree(setting, "N1", 1000, (64, 64), MILLISECONDS)
