"""What a dict of tensors costs, from the call to the arrays.

Beside it each tensor by torch, `t.to("cpu", non_blocking=True).numpy()`, on a side stream with one event. On the
simulated accelerator, at no cost per copy, so what is compared is the work of the host: its calls, its allocations, its
waits. With a packer the simulated device copies all small tensors by one launch; without one each is a copy of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench.baselines import ONE_LINER, SideStream, in_dict
from torch_np_bridge.cli.bench.results import MIB, Bar, Figure, Measured
from torch_np_bridge.cli.bench.timing import QUICK, Plan, equals, ratio, times, turns
from torch_np_bridge.cli.bench.timing import timed as timed_calls

PACKED, ONE_BY_ONE = "to_numpy, packed", "to_numpy, one by one"
COUNTS = (1, 10, 100, 1000, 10_000)
SIZES = {"64 B": 64, "16 KiB": 16 << 10, "1 MiB": MIB}
MOST = 128 * MIB  # of one tree
JUDGED, LIMIT = (1000, 256), 0.25
SHARING = 64  # leaves that share a block, and the sizes up to that of the largest which do
SHARED = tuple(size << 10 for size in (1, 4, 16, 64))
Tree = dict[str, torch.Tensor]
Convert = Callable[[Tree], Any]


def main() -> int:
    """Measure, print, and judge."""
    _, target = harness.simulated_accelerator()
    return harness.run(__file__, __doc__ or "", lambda: target, lambda quick: measure(target.device, quick))


def measure(device: torch.device, quick: bool) -> Measured:
    """The judged tree, then all sizes and counts."""
    count, size = JUDGED
    plan, short = harness.plan(quick, 40), harness.plan(quick, 10)
    figures = compare(f"{count} tensors of {size // 4} float32", make_tree(count, size, device), plan)
    bars = [Bar.of(f"a dict of {count} tensors of {size // 4} float32", figures[0], "at most", LIMIT)]
    for label, size in SIZES.items():
        for count in COUNTS[:3] if quick else COUNTS:
            if count * size <= (MIB if quick else MOST):
                figures += compare(f"{count:,} × {label}", make_tree(count, size, device), short)
    for size in SHARED[:1] if quick else SHARED:
        figures += own_blocks(make_tree(SHARING, size, device), size, plan)
    notes = [
        f"Trees of at most {MOST // MIB} MiB; {plan.most} runs in turns of the judged one, {short.most} of the others."
    ]
    return Measured(figures, bars, notes)


def make_tree(count: int, size: int, device: torch.device) -> Tree:
    """So many tensors of so many bytes, no two of the same values."""
    return {
        f"tensor {index}": torch.arange(index, index + size // 4, dtype=torch.float32).to(device)
        for index in range(count)
    }


def compare(case: str, tree: Tree, plan: Plan) -> list[Figure]:
    """The three ways, in turns; the ratio that may be judged is the first figure."""
    calls = max(1, (20 if plan == QUICK else 2000) // len(tree))
    side_stream = SideStream(next(iter(tree.values())).device)
    one_liner = in_dict(lambda: side_stream(list(tree.values())), tree)
    ways = {
        PACKED: timed(tnb.to_numpy, tree, calls, packer=True),
        ONE_BY_ONE: timed(tnb.to_numpy, tree, calls, packer=False),
        ONE_LINER: timed(lambda _: one_liner(), tree, calls, packer=False),
    }
    seconds = turns(ways, plan)
    shares = [ratio(case, seconds, mine, ONE_LINER, "time") for mine in (PACKED, ONE_BY_ONE)]
    return [*shares, *times(case, seconds, "time", "µs")]


def own_blocks(tree: Tree, size: int, plan: Plan) -> list[Figure]:
    """What a leaf costs in a block of its own, which `copy=True` gives it, and in one that is shared."""
    calls = max(1, 20_000 // SHARING // (size >> 10))
    ways = {
        "shared": timed(tnb.to_numpy, tree, calls, packer=False),
        "of its own": timed(partial(tnb.to_numpy, copy=True), tree, calls, packer=False),
    }
    seconds = turns(ways, plan)
    case = f"{SHARING} × {size >> 10} KiB"
    shared, own = (min(seconds[way]) / SHARING * 1e6 for way in ways)
    return [
        Figure(case, "time a leaf, in a block that is shared, the best run", shared, "µs"),
        Figure(case, "time a leaf, in a block of its own, the best run", own, "µs"),
    ]


def timed(convert: Convert, tree: Tree, calls: int, *, packer: bool) -> Callable[[], float]:
    """Seconds a call, on a device type with or without a packer; what the last call gives is compared."""
    run = timed_calls(
        partial(convert, tree), equals({name: tensor.cpu().numpy() for name, tensor in tree.items()}, "a way"), calls
    )

    def with_packer_or_without() -> float:
        harness.set_packer(packer)
        return run()

    return with_packer_or_without


if __name__ == "__main__":
    sys.exit(main())
