"""Decides what is built, and why: the switches, and what the machine lacks."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from .cuda_toolkit import Toolkit, ToolkitError, find_toolkit

OLDEST_TORCH = (2, 11)


@dataclass(frozen=True)
class Plan:
    """What is built and why; ``torch`` is None where that is pure Python."""

    torch: str | None
    native_reason: str
    toolkit: Toolkit | None
    kernels_reason: str
    variant: str
    kernels_required: bool = False

    def without_kernels(self, obstacle: ToolkitError) -> Plan:
        """The same for a toolkit that turns out to be of no use; that ends a build which is asked for kernels."""
        if self.kernels_required:
            raise _kernels_missing(obstacle)
        return replace(self, toolkit=None, kernels_reason=f"none: {obstacle}", variant=_variant(self.torch, None))


def read_switch(name: str) -> str:
    """The value of one switch; unknown values end the build."""
    value = os.environ.get(name, "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{name}: expected auto, 0 or 1, got {value!r}")
    return value


def native_obstacle() -> str | None:
    """Why the extension cannot be built here; None where it can."""
    if sys.platform != "linux":
        return f"the native engine is built on Linux only, this is {sys.platform}"
    for needed in ("torch", "numpy"):
        try:
            version = import_module(needed).__version__
        except (ImportError, OSError) as error:
            return f"no {needed} in the build environment ({error})"
        if needed == "torch" and tuple(map(int, version.split(".")[:2])) < OLDEST_TORCH:
            return f"expected torch {'.'.join(map(str, OLDEST_TORCH))} or newer, got {version}"
    compiler = os.environ.get("CXX", "c++").split()[0]
    if shutil.which(compiler) is None:
        return f"no C++ compiler: {compiler!r} is not on the PATH (Debian: apt-get install g++)"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "no Python headers: Python.h is missing (Debian: apt-get install python3-dev)"
    return None


def make_plan() -> Plan:
    """What the switches ask for and this machine can give; what ``1`` asks for in vain ends the build."""
    if not os.environ.get("CXX", "c++").strip():
        del os.environ["CXX"]  # set to nothing is as good as not set; torch and setuptools would run it
    native, cuda = read_switch("TORCH_NP_BRIDGE_NATIVE"), read_switch("TORCH_NP_BRIDGE_CUDA")
    obstacle = "TORCH_NP_BRIDGE_NATIVE=0" if native == "0" else native_obstacle()
    if obstacle is not None:
        if "1" in (native, cuda):
            switch = "TORCH_NP_BRIDGE_NATIVE=1" if native == "1" else "TORCH_NP_BRIDGE_CUDA=1"
            raise SystemExit(f"{switch}: expected to build the extension, but: {obstacle}")
        reason = f"built without the extension: {obstacle}"
        return Plan(None, reason, None, "none: no extension", "python")
    toolkit = None
    try:
        if cuda == "0":
            raise ToolkitError("TORCH_NP_BRIDGE_CUDA=0")
        toolkit = find_toolkit()
        kernels_reason = f"CUDA {toolkit.version}, found by {toolkit.found_by}, for {' '.join(toolkit.archs)}"
    except ToolkitError as error:
        if cuda == "1":
            raise _kernels_missing(error) from error
        kernels_reason = f"none: {error}"
    torch = import_module("torch").__version__
    variant = _variant(torch, toolkit)
    return Plan(torch, f"built for torch {torch}", toolkit, kernels_reason, variant, kernels_required=cuda == "1")


def _kernels_missing(obstacle: ToolkitError) -> SystemExit:
    return SystemExit(f"TORCH_NP_BRIDGE_CUDA=1: expected to build the kernels, but: {obstacle}")


def _variant(torch: str | None, toolkit: Toolkit | None) -> str:
    """What objects of one folder have in common."""
    cuda = f"cuda{toolkit.version}" if toolkit else "nocuda"
    return f"{sysconfig.get_config_var('SOABI')}-torch{torch}-numpy{import_module('numpy').__version__}-{cuda}"
