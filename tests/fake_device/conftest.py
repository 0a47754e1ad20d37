"""What every test of the fake accelerator leaves behind, which is nothing, and a process of its own for some."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import fake_device

Script = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    fake_device.restore_defaults()


@pytest.fixture
def idle() -> Iterator[None]:
    """A device that was used and has nothing to do, before and after."""
    torch.zeros(1, device="fake").cpu()
    torch.accelerator.synchronize()
    yield
    torch.accelerator.synchronize()


@pytest.fixture
def script() -> Script:
    """Runs Python source in a fresh process with the fake accelerator imported."""

    def run(source: str) -> "subprocess.CompletedProcess[str]":
        preamble = "import os, sys, signal, torch, fake_device\n"
        return subprocess.run(
            [sys.executable, "-c", preamble + source],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return run
