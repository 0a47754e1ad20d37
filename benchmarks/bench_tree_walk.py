"""What it costs to take a dict of 1000 tensors apart and to make it again, and a leaf of smaller and larger ones.

Beside it optree and torch.utils._pytree, which do the same to the same dict. Nothing is copied here: the places of the
tensors are filled with other objects.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

import harness
import optree
import torch
import torch.utils._pytree as torch_pytree

import torch_np_bridge as tnb
from torch_np_bridge import trees
from torch_np_bridge.cli.bench.results import Bar, Figure, Measured
from torch_np_bridge.cli.bench.timing import beside_all, turns
from torch_np_bridge.cli.target import Target

TARGET = Target(torch.device("cpu"), None)
WALK, OPTREE, TORCH = "torch_np_bridge", "optree", "torch.utils._pytree"
COUNT, LIMIT = 1000, 60.0
FEW, MANY = 100, 10_000
FILL = object()  # in the place of each array
Tree = dict[str, torch.Tensor]
Remake = Callable[[Tree], Tree]


def main() -> int:
    """Measure, print, and judge."""
    return harness.run(__file__, __doc__ or "", lambda: TARGET, measure)


def measure(quick: bool) -> Measured:
    """The three ways for the judged dict; what a leaf takes in small and large ones."""
    plan, calls = harness.plan(quick, 60), 3 if quick else 50
    with tnb.Bridge(engine="native") as bridge:
        ways: dict[str, Remake] = {WALK: by_walk(bridge), OPTREE: by_optree, TORCH: by_torch}
    case = f"a dict of {COUNT} tensors"
    tree = make_tree(COUNT)
    seconds = turns({name: timed(way, tree, calls) for name, way in ways.items()}, plan)
    figures = beside_all(case, seconds, "time", "µs")
    least = min(seconds[WALK]) * 1e6
    bars = [Bar(f"{case}, taken apart and made again, the best run", least, "at most", LIMIT, "µs")]
    few, many = make_tree(FEW), make_tree(COUNT if quick else MANY)
    sizes = {str(FEW): timed(ways[WALK], few, calls * 10), str(MANY): timed(ways[WALK], many, max(1, calls // 10))}
    best = {int(count): min(found) for count, found in turns(sizes, plan).items()}
    share = best[MANY] / len(many) / (best[FEW] / FEW)
    figures += [Figure(f"{MANY:,} tensors beside {FEW}", "time a leaf, the best runs", share, "×")]
    notes = [f"{plan.most} runs of each way in turns, {calls} calls a run."]
    return Measured(figures, bars, notes)


def make_tree(count: int) -> Tree:
    """So many tensors by name."""
    return {f"tensor {index}": torch.zeros(1) for index in range(count)}


def by_walk(bridge: tnb.Bridge) -> Remake:
    """As a Bridge of the native engine does it."""
    walk = bridge._selection.walk

    def remake(tree: Tree) -> Tree:
        tensors, structure = trees.flatten(tree, walk)
        made: Tree = structure.rebuild([FILL] * len(tensors))
        return made

    return remake


def by_optree(tree: Any) -> Tree:
    """By optree, which the Python engine uses for all containers and the native one for other than exact ones."""
    leaves, spec = optree.tree_flatten(tree)
    made: Any = optree.tree_unflatten(spec, [FILL] * len(leaves))
    return made  # type: ignore[no-any-return]


def by_torch(tree: Tree) -> Tree:
    """By torch's own pytree, in Python."""
    leaves, spec = torch_pytree.tree_flatten(tree)
    made: Tree = torch_pytree.tree_unflatten([FILL] * len(leaves), spec)
    return made


def timed(remake: Remake, tree: Tree, calls: int) -> Callable[[], float]:
    """Seconds a call; what the last call gives is compared."""

    def run() -> float:
        start = perf_counter()
        for _ in range(calls):
            got = remake(tree)
        seconds = perf_counter() - start
        if got.keys() != tree.keys() or any(value is not FILL for value in got.values()):
            raise AssertionError("expected the keys of the tree with other values, got others")
        return seconds / calls

    return run


if __name__ == "__main__":
    sys.exit(main())
