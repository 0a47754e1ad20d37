"""What the tests of the commands share: running one as a user does, and facts to show it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any, Literal

from helpers import ROOT

from torch_np_bridge import engine_info
from torch_np_bridge.engine import EngineInfo


def run_python(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, in a process of its own that finds the package and the fake accelerator."""
    folders = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, *arguments],
        env={
            **os.environ,
            "COLUMNS": "120",
            "CUDA_MODULE_LOADING": "LAZY",  # the tests' own process alone has to have its kernels from the start
            "PYTHONPATH": os.pathsep.join(filter(None, folders)),
            **environ,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def run_command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`python -m torch_np_bridge` with these arguments."""
    return run_python("-m", "torch_np_bridge", *arguments, **environ)


def info_of(engine: Literal["native", "python"], **changes: Any) -> EngineInfo:
    """What `engine_info()` says of an engine on one CUDA device, with changes."""
    return replace(engine_info(), **{"engine": engine, "devices": ("cuda:0",), "kernels": "none: not built", **changes})


def simulated_module() -> ModuleType:
    """A module that says that its device is simulated."""
    module = ModuleType("simulated")
    module.SIMULATED = True  # type: ignore[attr-defined]
    return module
