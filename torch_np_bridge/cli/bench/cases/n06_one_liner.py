"""Beside the strongest line that people write, at any size and any count."""

from __future__ import annotations

from ....functions import to_numpy
from ..baselines import BRIDGE, ONE_LINER, SideStream, in_dict
from ..results import MIB, NOISE, Bar, Figure, Measured
from ..setting import Setting
from ..timing import beside_all, compared
from .single import label
from .trees import make_tree

COUNTS = (1, 10, 100, 1000)
SIZES = (64, 16 << 10, MIB, 64 * MIB)
MOST_BYTES = 256 * MIB


def measure(setting: Setting) -> Measured:
    """All trees that are not too large."""
    figures: list[Figure] = []
    bars: list[Bar] = []
    most = MIB if setting.quick else MOST_BYTES if setting.hardware else MOST_BYTES // 4
    for size in SIZES:
        for count in COUNTS[:3] if setting.quick else COUNTS:
            if count * size <= most:
                found = _compare(setting, count, size)
                figures += found
                if setting.hardware:
                    bars.append(Bar.of(f"N6, {found[0].case}", found[0], "at most", 1 + NOISE))
    notes = [f"Trees of at most {label(most)}."]
    if not setting.hardware:
        notes.append("The bar of N6, never slower, is of hardware: a simulated accelerator takes the host's time too.")
    return Measured(figures, bars, notes)


def _compare(setting: Setting, count: int, size: int) -> list[Figure]:
    case = f"{count} × {label(size)}"
    setting.say(case)
    tree = make_tree(count, (size // 4,), setting.device)
    tensors = list(tree.values())
    side_stream = SideStream(setting.device)
    expected = {name: tensor.cpu().numpy() for name, tensor in tree.items()}
    ways = {BRIDGE: lambda: to_numpy(tree), ONE_LINER: in_dict(lambda: side_stream(tensors), tree)}
    return beside_all(case, compared(ways, expected, setting.plan(seconds=2.0)), "time", "µs")
