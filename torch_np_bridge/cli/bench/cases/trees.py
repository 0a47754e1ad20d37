"""What the cases of whole trees share: a dict of tensors, from the call to the arrays in hand."""

from __future__ import annotations

import torch

from ....functions import to_numpy
from .. import others
from ..baselines import BRIDGE, by_hand, in_dict
from ..results import Bar, Figure, Measured
from ..setting import Setting
from ..timing import Plan, Seconds, beside_all, compared, runs_of, summarize

Tree = dict[str, torch.Tensor]


def make_tree(count: int, shape: tuple[int, ...], device: torch.device) -> Tree:
    """So many float32 tensors of a shape, no two of the same values."""
    size = torch.Size(shape).numel()
    return {
        f"tensor {index}": torch.arange(index, index + size, dtype=torch.float32).view(shape).to(device)
        for index in range(count)
    }


def time_tree(tree: Tree, plan: Plan) -> Seconds:
    """The times of all ways, the bridge's first."""
    expected = {name: tensor.cpu().numpy() for name, tensor in tree.items()}
    ways = {
        BRIDGE: lambda: to_numpy(tree),
        **{name: in_dict(way, tree) for name, way in by_hand(list(tree.values())).items()},
        **others.ways(tree),
    }
    return compared(ways, expected, plan)


def measure_tree(setting: Setting, name: str, count: int, shape: tuple[int, ...], milliseconds: float) -> Measured:
    """One tree; on hardware the bridge has to take no longer than so many milliseconds."""
    count = min(count, 20) if setting.quick else count
    case = f"{count} of {'×'.join(map(str, shape))} float32"
    setting.say(case)
    seconds = time_tree(make_tree(count, shape, setting.device), setting.plan())
    figures = beside_all(case, seconds, "time", "ms")
    notes = [f"{runs_of(seconds)} runs of each way in turns."]
    if not setting.hardware:
        notes.append(f"The bar of {name}, {milliseconds} ms, is of hardware.")
        return Measured(figures, [], notes)
    mine = summarize(seconds[BRIDGE])
    time = Figure(case, f"time, {BRIDGE}", mine.median * 1e3, "ms", mine.iqr * 1e3)
    return Measured(figures, [Bar.of(f"{name}, {case}", time, "at most", milliseconds)], notes)
