"""What this machine is, as far as figures and diagnoses depend on it. Whatever cannot be found out is ``None``."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from ..functions import engine_info
from .target import Target

_GPU_CLOCKS = "clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,clocks_throttle_reasons.active,power.draw"
PACKAGE = Path(__file__).resolve().parent.parent


def describe(target: Target) -> dict[str, Any]:
    """What belongs beside every figure."""
    info = engine_info()
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "clocks": clocks(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": str(target.device),
        "device_name": device_name(target.device),
        "simulated": target.simulated,
        "driver": nvidia_driver(),
        "engine": info.engine,
        "engine_reason": info.reason,
        "kernels": info.kernels,
        "pinned_limit_bytes": info.limit,
        "versions": info.versions,
        "commit": commit(),
    }


def cpu_model() -> str:
    """The processor's own name where the system tells it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.processor() or platform.machine()


def clocks() -> dict[str, Any]:
    """Of the processor now, in MHz, slowest and fastest thread, with who governs them; what ``nvidia-smi`` says."""
    try:
        found = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = []
    mhz = sorted(float(value) for value in found)
    return {
        "cpu_mhz": [mhz[0], mhz[-1]] if mhz else None,
        "cpu_governor": _text_of(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        "gpu": _answer("nvidia-smi", f"--query-gpu={_GPU_CLOCKS}", "--format=csv"),
    }


def real_time_priority() -> bool:
    """Whether this process goes before all that have no such priority, so that their load hardly shows."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)


def device_name(device: torch.device) -> str | None:
    """The hardware's name for ``device``, where its type has one."""
    if device.type == "cpu":
        return cpu_model()
    try:
        return str(torch.get_device_module(device).get_device_name(device))
    except (AttributeError, RuntimeError):
        return None


def nvidia_driver() -> str | None:
    """The version of the NVIDIA driver that is loaded."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        text = _answer("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or ""
    found = re.search(r"\b\d{3,}\.\d+(\.\d+)?\b", text)
    return found.group() if found else None


def cuda_toolkit() -> dict[str, str] | None:
    """The CUDA toolkit that a build would find: ``CUDA_HOME`` decides, else the nvcc on the PATH."""
    home = os.environ.get("CUDA_HOME")
    nvcc = os.path.join(home, "bin", "nvcc") if home else shutil.which("nvcc")
    release = re.search(r"release (\d+\.\d+)", _answer(nvcc, "--version") or "") if nvcc else None
    if nvcc is None or release is None:
        return None
    return {"version": release.group(1), "nvcc": nvcc, "found_by": "CUDA_HOME" if home else "nvcc on the PATH"}


def rlimit_memlock() -> int | None:
    """``RLIMIT_MEMLOCK`` in bytes; ``None`` for no limit. It binds ``mlock``, not the page-locking of CUDA's driver."""
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def commit() -> str | None:
    """The commit that this package is of, with ``+changes`` where files differ; ``None`` outside a checkout of it."""
    if _answer("git", "-C", str(PACKAGE), "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    name = _answer("git", "-C", str(PACKAGE), "rev-parse", "--short=12", "HEAD")
    changes = _answer("git", "-C", str(PACKAGE), "status", "--porcelain", "--untracked-files=no")
    return f"{name}+changes" if name and changes else name


def _text_of(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None


def _answer(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
