"""The program that runs under callgrind: each case some times, then twice as often.

What is counted is the work of this thread, from the call to its return. No copy is in flight when a call begins, and
those that it submits wait behind a latch on the producer's stream: else it would be an accident which thread drops what
last. What a case prepares and cleans up is not counted. Waiting is no case: valgrind runs one thread at a time, so how
long one waits for the simulated accelerator's is an accident of its schedule.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import harness
import torch

import torch_np_bridge as tnb
from torch_np_bridge import trees
from torch_np_bridge._walk import Walk
from torch_np_bridge.cli.bench.baselines import HandMadeCopier

TURNS, SINGLE = 3, "single"
NOTHING, VIEW, ONE = "nothing", "to_numpy, on the CPU", "to_numpy_async, one tensor"
BY_HAND = "one tensor, torch in Python"
READY, GIVE_BACK, GIVE_BACK_TREE = "result(), of a copy that has ended", "give back one array", "give back 1,000 arrays"
WALKS = {count: f"walk of {count:,} tensors" for count in (100, 1000, 10_000)}
TREES = {count: f"to_numpy_async, {count:,} tensors" for count in (10, 100, 1000, 10_000)}
ONE_BY_ONE = "to_numpy_async, 1,000 tensors, no packer"
STAGED = "to_numpy_async, 64 tensors of 16 KiB, packed on the device"
FILL = object()  # in the place of each array


@dataclass(frozen=True)
class Case:
    """``call`` is counted, with what ``prepare`` gives; ``finish`` gets both that and what it returns."""

    name: str
    calls: int
    call: Callable[[Any], Any]
    prepare: Callable[[], Any] = lambda: None
    finish: Callable[[Any, Any], Any] = lambda given, made: None
    driver: Callable[[], None] = lambda: harness.set_packer(False)

    def run(self, calls: int, begin: Callable[[], object], end: Callable[[], object]) -> None:
        """So many calls, with something before and behind each."""
        for _ in range(calls):
            given = self.prepare()
            begin()
            made = self.call(given)
            end()
            self.finish(given, made)
            del given, made


def cases(fake: ModuleType, device: torch.device) -> list[Case]:
    """All of them; the first one is what the counting itself takes."""
    on_cpu, one = torch.ones(8), torch.ones(16, device=device)
    copier = HandMadeCopier(device)
    packer = partial(harness.set_packer, True)
    with tnb.Bridge(engine="native") as bridge:
        walk = bridge._selection.walk
    return [
        Case(NOTHING, 100, lambda given: None),
        Case(VIEW, 100, lambda given: tnb.to_numpy(on_cpu)),
        Case(ONE, 50, lambda latch: tnb.to_numpy_async(one), fake.hold, arrived),
        Case(BY_HAND, 50, lambda latch: copier.submit(one), fake.hold, arrived_by_hand),
        Case(READY, 50, lambda transfer: transfer.result(), partial(ended, one)),
        Case(GIVE_BACK, 50, lambda arrays: arrays.clear(), lambda: [tnb.to_numpy(one)]),
        Case(GIVE_BACK_TREE, 5, lambda arrays: arrays.clear(), partial(tnb.to_numpy, [one] * 1000), driver=packer),
        *(walk_case(name, count, walk) for count, name in WALKS.items()),
        *(tree_case(name, make_tree(count, device), fake, packer) for count, name in TREES.items()),
        tree_case(ONE_BY_ONE, make_tree(1000, device), fake, partial(harness.set_packer, False)),
        tree_case(STAGED, make_tree(64, device, 4096), fake, harness.set_kernel),
    ]


def walk_case(name: str, count: int, walk: Walk) -> Case:
    """A dict of so many tensors is taken apart and made again; nothing is converted."""
    tree = make_tree(count, None)

    def remade(given: object) -> Any:
        tensors, structure = trees.flatten(tree, walk)
        return structure.rebuild([FILL] * len(tensors))

    return Case(name, max(1, 1000 // count), remade)


def tree_case(name: str, tree: dict[str, torch.Tensor], fake: ModuleType, driver: Callable[[], None]) -> Case:
    """The submission of a dict of small tensors."""
    calls = min(20, max(1, 2000 // len(tree)))
    return Case(name, calls, lambda latch: tnb.to_numpy_async(tree), fake.hold, arrived, driver)


def make_tree(count: int, device: torch.device | None, elements: int = 64) -> dict[str, torch.Tensor]:
    """So many tensors of 256 bytes, or of so many elements, by name."""
    return {f"tensor {index}": torch.zeros(elements, device=device) for index in range(count)}


def ended(tensor: torch.Tensor) -> tnb.Transfer:
    """A copy that has ended, and was not asked yet."""
    transfer = tnb.to_numpy_async(tensor)
    torch.accelerator.synchronize()
    return transfer


def arrived(latch: Any, transfer: tnb.Transfer) -> None:
    """Nothing is in flight any more, and everything is given back."""
    latch.release()
    torch.accelerator.synchronize()
    transfer.result()


def arrived_by_hand(latch: Any, transfer: Any) -> None:
    """The same of the copy made by hand."""
    latch.release()
    transfer.result()
    transfer.release()


def main() -> None:
    """Run all cases; ``sys.argv[1]`` is the library that talks to callgrind."""
    callgrind = ctypes.PyDLL(sys.argv[1])  # it does not let the GIL go: other threads would run meanwhile
    fake, target = harness.simulated_accelerator()
    made = cases(fake, target.device)
    gc.collect()
    gc.disable()
    for case in made:
        case.driver()
        case.run(3 * case.calls, callgrind.toggle, callgrind.toggle)
    callgrind.start()
    for case in made:
        case.driver()
        count(case, callgrind)
    callgrind.stop()


def count(case: Case, callgrind: ctypes.PyDLL) -> None:
    """So many calls and twice as many; then single ones, for how often functions were called.

    That is known of all that happened since the last dump which had a cost of them, counted or not. So everything is
    counted there, and dumped before a call too.
    """
    case.run(case.calls, callgrind.toggle, callgrind.toggle)
    for _ in range(TURNS):
        for calls in (case.calls, 2 * case.calls):
            callgrind.zero()
            case.run(calls, callgrind.toggle, callgrind.toggle)
            callgrind.dump(f"{case.name}|{calls}".encode())
    callgrind.toggle()
    case.run(TURNS, partial(callgrind.dump, b""), partial(callgrind.dump, f"{case.name}|{SINGLE}".encode()))
    callgrind.toggle()


if __name__ == "__main__":
    main()
