"""Whether transfers and kernels work here: small ones of known values, compared byte for byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch

from ..bridge import Bridge
from ..engine import EngineInfo, extension

Array = np.ndarray[Any, Any]
TIMEOUT = 60.0


@dataclass(frozen=True)
class Check:
    """One self-test and what came of it; ``problem`` is empty where it passed."""

    device: str
    what: str
    problem: str


def run_all(info: EngineInfo) -> list[Check]:
    """A transfer from every device with every engine that there is, and the kernels where there are some."""
    engines: list[Any] = ["native", "python"] if extension().module is not None else ["python"]
    checks = [_transfer(device, engine) for device in ("cpu", *info.devices) for engine in engines]
    if torch.version.cuda is not None and not info.kernels.startswith("none"):
        checks += [_kernel(device) for device in info.devices if device.startswith("cuda:")]
    return checks


def _transfer(device: str, engine: Any) -> Check:
    what = f"transfer, {engine} engine"
    square = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    small = np.arange(256).astype(ml_dtypes.bfloat16)
    expected = {"dense": square, "transposed": square.T, "strided": square[:, ::2], "bfloat16": small}
    try:
        source = torch.from_numpy(square.copy()).to(device)
        tree = {
            "dense": source,
            "transposed": source.T,
            "strided": source[:, ::2],
            "bfloat16": torch.arange(256).to(torch.bfloat16).to(device),
        }
        with Bridge(engine=engine) as bridge:
            arrays = bridge.to_numpy_async(tree).result(timeout=TIMEOUT)
    except Exception as error:
        return Check(device, what, f"{type(error).__name__}: {error}")
    wrong = [name for name, array in expected.items() if not _same(arrays[name], array)]
    return Check(device, what, f"wrong values in: {', '.join(wrong)}" if wrong else "")


def _same(got: Array, expected: Array) -> bool:
    return got.dtype == expected.dtype and got.shape == expected.shape and got.tobytes() == expected.tobytes()


def _kernel(device: str) -> Check:
    module = extension().module
    assert module is not None
    try:
        problem = str(module.kernel_selftest(torch.device(device).index))
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    return Check(device, "CUDA kernel", problem)
