"""What every test of the fake accelerator leaves behind: no injected failure, no modelled cost, default memory."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fake_device

Script = Callable[[str], "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    yield
    fake_device.clear_failures()
    fake_device.set_copy_cost()
    fake_device.set_host_memory()
    fake_device.set_queue_limit()


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
            timeout=120,
            check=False,
        )

    return run
