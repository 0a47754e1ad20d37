"""Which device a command works on: ``--device`` and ``--load``."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType

import torch


class UsageError(Exception):
    """A command cannot run as it was asked to; the message says what was expected, what was got and what to do."""


@dataclass(frozen=True)
class Target:
    """The device of a command, and the module that brought it, if one was loaded."""

    device: torch.device
    module: ModuleType | None

    @property
    def is_cpu(self) -> bool:
        """Whether there is nothing to copy from."""
        return self.device.type == "cpu"

    @property
    def simulated(self) -> bool:
        """Whether the module says that its device is no hardware; its times mean nothing then."""
        return not self.is_cpu and bool(getattr(self.module, "SIMULATED", False))


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", metavar="NAME", help="the device (default: torch's accelerator, else cpu)")


def add_load_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--load``."""
    parser.add_argument("--load", metavar="MODULE", help="import this module first, one that registers a device type")


def load_module(name: str | None) -> ModuleType | None:
    """Import the module that ``--load`` names."""
    if name is None:
        return None
    try:
        return import_module(name)
    except ImportError as error:
        message = f"--load: expected a module that can be imported, got {name} ({error}); put its folder on PYTHONPATH"
        raise UsageError(message) from error
    except RuntimeError as error:  # it is there, and cannot serve: no compiler for it, another device type, …
        raise UsageError(f"--load: expected a module that registers a device type, got {name}: {error}") from error


def choose(options: argparse.Namespace) -> Target:
    """The target that ``--load`` and ``--device`` ask for."""
    module = load_module(options.load)
    return Target(_usable(options.device) if options.device else _default(), module)


def _default() -> torch.device:
    if not torch.accelerator.is_available():
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    return torch.device(accelerator.type, torch.accelerator.current_device_index())


def _usable(name: str) -> torch.device:
    usable = ["cpu"]
    if torch.accelerator.is_available():
        usable += [f"{_default().type}:{index}" for index in range(torch.accelerator.device_count())]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type == "cpu":
        return torch.device("cpu")
    if device.index is None and device.type == _default().type:
        return _default()
    if str(device) not in usable:
        raise UsageError(
            f"--device: expected one of {', '.join(usable)}, got {name}; "
            "--load MODULE imports a module that registers another device type"
        )
    return device
