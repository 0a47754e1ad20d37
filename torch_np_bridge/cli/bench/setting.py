"""What a measurement is given: the device, what can be done to it, and how long it may take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from ..target import Target
from .controls import Controls
from .timing import QUICK, Plan


@dataclass(frozen=True)
class Setting:
    """The circumstances of a measurement.

    Attributes:
        quick: only whether everything runs is of interest, so that sizes and numbers are tiny.
        say: is told what is measured next, never while anything is timed.
    """

    target: Target
    controls: Controls
    quick: bool
    say: Callable[[str], None] = field(default=lambda text: None)

    @property
    def device(self) -> torch.device:
        """The device that is measured."""
        return self.target.device

    @property
    def hardware(self) -> bool:
        """Whether times that are meant of hardware can be judged."""
        return not self.target.simulated and not self.target.is_cpu

    def plan(self, *, least: int = 10, most: int = 1000, seconds: float = 4.0) -> Plan:
        """How long to go on."""
        return QUICK if self.quick else Plan(least=least, most=most, seconds=seconds)
