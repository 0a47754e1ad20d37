"""Random layouts, under ASan and UBSan: ten thousand here, a hundred thousand by `make kernels`."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from helpers import ROOT

from .build import compiler, sanitized_environment

LAYOUTS = 10_000


def test_random_layouts_are_copied_as_torch_copies_them() -> None:
    if sanitized_environment() is None:
        pytest.skip(f"expected a C++ compiler and a system that have ASan and UBSan, got {compiler()} without")
    command = [sys.executable, "-m", "kernel_on_cpu", str(LAYOUTS), "--sanitized"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout)  # the seed
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "under ASan and UBSan" in done.stdout
    assert done.stderr == ""
