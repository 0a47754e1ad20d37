"""What a call costs where there is nothing to copy: `to_numpy` of 8 elements on the CPU."""

from __future__ import annotations

import torch

from ....functions import to_numpy
from ..baselines import BRIDGE, CPU_NUMPY, NUMPY
from ..results import Bar, Measured
from ..setting import Setting
from ..timing import beside_all, calls_a_run, compared, ratio, runs_of

SHARE = 0.12  # of .detach().cpu().numpy()
CASE = "8 float32 on the CPU"


def measure(setting: Setting) -> Measured:
    """Beside torch's own ways."""
    tensor = torch.arange(8.0)
    ways = {
        BRIDGE: lambda: to_numpy(tensor),
        CPU_NUMPY: lambda: tensor.detach().cpu().numpy(),
        NUMPY: lambda: tensor.numpy(),
    }
    setting.say(CASE)
    calls = 50 if setting.quick else calls_a_run(ways)
    seconds = compared(ways, tensor.numpy(), setting.plan(least=30), calls=calls)
    share = ratio(CASE, seconds, BRIDGE, CPU_NUMPY, "time")
    notes = [f"{runs_of(seconds)} runs of each way in turns, {calls} calls a run."]
    bar = Bar.of(f"N10, beside {CPU_NUMPY}", share, "at most", SHARE)
    return Measured(beside_all(CASE, seconds, "time", "µs"), [bar], notes)
