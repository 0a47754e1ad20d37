"""Look at this installation, test it, and say what is missing and what to do about it."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict
from typing import Any

import torch

from ..engine import REBUILD, EngineInfo, extension
from ..functions import engine_info
from ..memory_limit import cgroup_limit
from . import machine, selftest
from .target import add_load_argument, load_module

# The oldest driver that runs programs of a CUDA 13 toolkit.
DRIVER_FOR_CUDA_13 = 580


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``doctor``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_load_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Print the report; 0 if every self-test passed, else 1."""
    module = load_module(options.load)
    report = examine(simulated=bool(getattr(module, "SIMULATED", False)))
    print(json.dumps(report, indent=2) if options.json else _render(report))
    return 0 if report["passed"] else 1


def examine(*, simulated: bool = False) -> dict[str, Any]:
    """The whole report, of plain values; whether its accelerator is ``simulated`` is for the caller to know."""
    info = engine_info()
    driver, toolkit = machine.nvidia_driver(), machine.cuda_toolkit()
    checks = selftest.run_all(info)
    return {
        "passed": not any(check.problem for check in checks),
        "versions": {**info.versions, "torch_cuda": torch.version.cuda, "torch_hip": torch.version.hip},
        "engine": {
            "name": info.engine,
            "reason": info.reason,
            "built_for": info.built_for,
            "kernels": info.kernels,
        },
        "devices": [
            {"name": name, "model": "simulated" if simulated else machine.device_name(torch.device(name))}
            for name in info.devices
        ],
        "driver": driver,
        "toolkit": toolkit,
        "limits": {
            "pinned_bytes": info.limit,
            "rlimit_memlock_bytes": machine.rlimit_memlock(),
            "cgroup_memory_bytes": cgroup_limit(),
        },
        "selftests": [asdict(check) for check in checks],
        "advice": advise(info, driver, toolkit),
    }


def advise(info: EngineInfo, driver: str | None, toolkit: dict[str, str] | None) -> list[str]:
    """One line for each thing that is missing: what it is, and what to do."""
    lines = []
    problem = extension().problem
    if problem:
        lines.append(f"no native engine: {problem}")
    elif info.engine == "python":
        lines.append(f"the native engine is there and not used: {info.reason}; unset it to use the native engine")
    if not info.devices:
        lines.append(_advise_on_accelerator(driver))
    if not problem and info.kernels.startswith("none"):
        lines.append(_advise_on_kernels(info.kernels, toolkit))
    built_with = {"torch": torch.version.cuda, "the kernels": _toolkit_of(info.kernels)}
    newest = [name for name, version in built_with.items() if version and int(version.split(".")[0]) >= 13]
    if newest and driver is not None and int(driver.split(".")[0]) < DRIVER_FOR_CUDA_13:
        lines.append(
            f"the driver is too old: {' and '.join(newest)} built with CUDA 13 need {DRIVER_FOR_CUDA_13} or newer, "
            f"this is {driver}; update the driver, or install builds for CUDA 12"
        )
    return lines


def _advise_on_accelerator(driver: str | None) -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"no accelerator: torch {torch.__version__} sees none and is no build for CUDA or ROCm; "
            "if this machine has a GPU, install the build of torch for it (see pytorch.org)"
        )
    built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {torch.version.hip}"
    seen = f"NVIDIA driver {driver} is loaded" if driver else "no NVIDIA driver was found"
    return (
        f"no accelerator: torch is built for {built_for} and sees no GPU; {seen}; check that the driver is installed "
        "and that the GPU is visible to this process (CUDA_VISIBLE_DEVICES, container options)"
    )


def _advise_on_kernels(kernels: str, toolkit: dict[str, str] | None) -> str:
    found = f"CUDA {toolkit['version']} is installed here" if toolkit else "install a CUDA toolkit or set CUDA_HOME"
    return (
        f"no CUDA kernels ({kernels.removeprefix('none: ')}): only of use with an NVIDIA GPU, and every route works "
        f"without them; to have them: {found}; run: TORCH_NP_BRIDGE_CUDA=1 {REBUILD}"
    )


def _toolkit_of(kernels: str) -> str | None:
    found = re.search(r"\(CUDA (\d+\.\d+)\)", kernels)
    return found.group(1) if found else None


def _render(report: dict[str, Any]) -> str:
    engine, toolkit, bounds = report["engine"], report["toolkit"], report["limits"]
    lines = ["Versions"]
    lines += _rows((name, version or "-") for name, version in report["versions"].items())
    lines += ["", "Engine"]
    lines += _rows(
        [
            ("engine", f"{engine['name']}: {engine['reason']}"),
            ("built for", f"torch {engine['built_for']}" if engine["built_for"] else "-"),
            ("kernels", engine["kernels"]),
        ]
    )
    lines += ["", "Machine"]
    lines += _rows((device["name"], device["model"] or "-") for device in report["devices"] or [_NO_DEVICE])
    lines += _rows(
        [
            ("NVIDIA driver", report["driver"] or "none found"),
            ("CUDA toolkit", "{version}, {nvcc} (found by {found_by})".format(**toolkit) if toolkit else "none found"),
            ("page-locked", f"{_bytes(bounds['pinned_bytes'])} at most (TORCH_NP_BRIDGE_PINNED_LIMIT)"),
            ("RLIMIT_MEMLOCK", f"{_bytes(bounds['rlimit_memlock_bytes'])} (does not bind CUDA's page-locking)"),
            ("cgroup memory", _bytes(bounds["cgroup_memory_bytes"])),
        ]
    )
    lines += ["", "Self-test"]
    lines += _rows(
        (check["device"], f"{check['what']}: {'FAILED: ' + check['problem'] if check['problem'] else 'passed'}")
        for check in report["selftests"]
    )
    if report["advice"]:
        lines += ["", "What to do", *(f"  - {line}" for line in report["advice"])]
    return "\n".join(lines)


_NO_DEVICE = {"name": "accelerator", "model": "none"}


def _rows(pairs: Any) -> list[str]:
    return [f"  {name:<16} {value}" for name, value in pairs]


def _bytes(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit / 2**20:,.2f} MiB"
