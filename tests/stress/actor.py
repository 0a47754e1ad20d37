"""One thread of a round: what it converts, how, and what becomes of the results, all by its own dice."""

from __future__ import annotations

import ctypes
import gc
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import torch_np_bridge as tnb

from .sources import Expected, Source
from .world import Item, World

WAYS = {"blocking": 6, "in flight": 8, "snapshot": 3, "guarded": 3, "changed": 2}
FATES = {"result": 6, "flying": 8, "dropped": 3, "in a cycle": 1, "mailed": 2}
BRIDGES = {"roomy": 8, "ring": 4, "tight": 3, "none": 1}
FLYING, KEPT = 8, 24


@dataclass(frozen=True)
class Leaf:
    """A tensor to convert; `base` where it may be overwritten, being nobody else's."""

    tensor: torch.Tensor
    expected: Expected
    of_snapshot: Expected
    base: torch.Tensor | None = None
    whole: bool = False


def pick(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]


class Actor:
    """Makes transfers until it has made so many."""

    def __init__(self, world: World, seed: str, may_inject: bool) -> None:
        self._world = world
        self._dice = random.Random(seed)
        self._may_inject = may_inject
        self._outcomes: Counter[str] = Counter()
        self._flying: list[Item] = []
        self._kept: list[tuple[np.ndarray[Any, Any], Expected]] = []
        self._since_caught_up = 0

    def run(self, transfers: int) -> None:
        try:
            for _ in range(transfers):
                if self._world.stop.is_set():
                    break
                self._survive_injected_failures(self._turn)
            while self._flying or self._kept:
                self._survive_injected_failures(self._let_go)
        except BaseException:
            self._world.stop.set()
            raise
        finally:
            self._world.total(self._outcomes)

    def _survive_injected_failures(self, step: Any) -> None:
        try:
            step()
        except RuntimeError as error:
            if "injected failure" not in str(error):
                raise
            self._outcomes["injected failures met"] += 1

    def _turn(self) -> None:
        self._outcomes["transfers"] += 1
        self._disturb()
        if self._since_caught_up >= FLYING:
            self._catch_up()
        self._since_caught_up += 1
        with ExitStack() as held:
            # What waits would wait for this thread: under a latch everything is asynchronous.
            latched = self._dice.random() < 0.05
            if latched:
                held.enter_context(self._world.device.hold(torch.accelerator.current_stream()))
            self._convert(latched)

    def _disturb(self) -> None:
        """What a process does beside converting."""
        dice, world = self._dice, self._world
        chance = dice.random()
        if dice.random() < 0.2:
            device = dice.randrange(len(world.device.names))
            torch.accelerator.set_device_index(device)
            torch.accelerator.set_stream(dice.choice(world.streams[device]))
        if chance < 0.004:
            dice.choice(list(world.bridges.values())).trim()
        elif chance < 0.008:
            gc.collect(dice.choices((0, 1, 2), (6, 3, 1))[0])
        elif chance < 0.04 and self._may_inject:
            world.device.disturb(dice)
        elif chance < 0.05:
            world.device.slow_down(dice)
        elif chance < 0.12:
            self._check_limits()
        if world.mailbox and dice.random() < 0.2:
            try:
                item = world.mailbox.popleft()
            except IndexError:  # another thread was faster
                return
            self._finish(item)
        if len(self._kept) > dice.randrange(KEPT):
            self._let_go()

    def _check_limits(self) -> None:
        for name, bridge in self._world.bridges.items():
            stats = bridge.stats()
            if not stats.leased_bytes <= stats.held_bytes <= stats.limit_held_bytes <= stats.limit_bytes:
                self._world.complain(f"bridge {name}: expected leased ≤ held ≤ the limit, got {stats}")

    def _convert(self, latched: bool) -> None:
        dice = self._dice
        bridge = self._bridge()
        way = "in flight" if latched else pick(dice, WAYS)
        leaves = [self._leaf() for _ in range(dice.choices((1, 2, 4, 12), (8, 4, 2, 1))[0])]
        if way == "changed":
            leaves = [leaf for leaf in leaves if leaf.whole or leaf.base is None]
        self._outcomes[way] += 1
        tree = [leaf.tensor for leaf in leaves]
        expected = [leaf.of_snapshot if way == "snapshot" else leaf.expected for leaf in leaves]
        if way == "blocking":
            self._check(bridge.to_numpy(tree), expected, way)
            return
        transfer = bridge.to_numpy_async(tree, snapshot=way == "snapshot")
        del tree
        if way == "guarded":
            transfer.block_stream()
        if way in ("snapshot", "guarded", "changed"):
            for leaf in leaves:
                if leaf.base is not None:
                    # Torch moves the counter after the write. A thread that sees the copy's end in between cannot know
                    # of it (tests/test_change_in_progress.py); here it has moved before, so a torn array is a fault.
                    torch.autograd.graph.increment_version(leaf.base)
                    leaf.base.view(torch.uint8).fill_(dice.randrange(2))
        del leaves
        self._decide(Item(transfer, expected, way), pick(dice, FATES), latched)

    def _decide(self, item: Item, fate: str, latched: bool) -> None:
        if fate == "result" and latched:
            fate = "flying"
        self._outcomes[fate] += 1
        if fate == "result":
            self._finish(item)
        elif fate == "flying":
            self._flying.append(item)
        elif fate == "in a cycle":
            cycle: list[Any] = [item]
            cycle.append(cycle)
        elif fate == "mailed":
            self._world.mailbox.append(item)

    def _bridge(self) -> tnb.Bridge:
        if self._dice.random() < 0.01:
            self._outcomes["short-lived bridges"] += 1
            return tnb.Bridge(engine="native", pinned_limit=self._dice.choice((0, "1MiB", "40MiB")))
        return self._world.bridges[pick(self._dice, BRIDGES)]

    def _leaf(self) -> Leaf:
        dice, world = self._dice, self._world
        sources = dice.choices((world.sources, world.large, world.huge), (1000, 12, 1))[0]
        source = dice.choice(sources)
        kind = dice.random()
        if kind < 0.1:
            return Leaf(source.view(source.bases["cpu"]), source.on_cpu, source.on_device)
        device = dice.choice(world.device.names)
        if kind < 0.5:
            return Leaf(source.view(source.bases[device]), source.on_device, source.on_device)
        return self._fresh(source, device)

    def _fresh(self, source: Source, device: str) -> Leaf:
        """Memory of this turn, allocated on the current stream."""
        inference = self._dice.random() < 0.1
        with torch.inference_mode(inference):
            base = source.bases[device].clone()
            tensor = source.view(base)
        return Leaf(tensor, source.on_device, source.on_device, None if inference else base, source.whole)

    def _finish(self, item: Item) -> None:
        if not isinstance(item.result, tnb.Transfer):
            self._check(item.result, item.expected, item.way)
            return
        try:
            arrays = item.result.result()
        except tnb.SourceMutatedError as error:
            self._outcomes["changes told of"] += 1
            if item.way != "changed":
                self._world.complain(f"nothing was changed, yet: {error}")
            return
        self._check(arrays, item.expected, item.way)

    def _check(self, arrays: list[Any], expected: list[Expected], way: str) -> None:
        self._outcomes["results checked"] += 1
        right = [self._compare(array, wanted, way) for array, wanted in zip(arrays, expected, strict=True)]
        if all(right) and len(self._kept) < KEPT and sum(len(each.content) for each in expected) < 1 << 20:
            self._keep(arrays, expected)

    def _compare(self, array: object, wanted: Expected, way: str) -> bool:
        complaint = wanted.complaint(array)
        if complaint is not None:
            self._world.complain(f"{way}: {complaint[0]}", complaint[1])
        return complaint is None

    def _keep(self, arrays: list[Any], expected: list[Expected]) -> None:
        """Some live on here or with another thread; part of them are written to, which no other array may show."""
        chance = self._dice.random()
        if chance < 0.1:
            self._world.mailbox.append(Item(arrays, expected, "kept"))
        elif chance < 0.5:
            for array, wanted in zip(arrays, expected, strict=True):
                if not wanted.shared and array.size and self._dice.random() < 0.5:
                    mark = self._dice.randrange(256)
                    ctypes.memset(array.ctypes.data, mark, array.nbytes)
                    wanted = replace(wanted, source=f"written: {wanted.source}", content=bytes([mark]) * array.nbytes)
                self._kept.append((array, wanted))

    def _let_go(self) -> None:
        """Of one thing that is kept or flying, once it has been looked at."""
        held = self._kept or self._flying
        item = held.pop(self._dice.randrange(len(held)))
        if isinstance(item, Item):
            self._finish(item)
        else:
            self._compare(*item, "kept")

    def _catch_up(self) -> None:
        """Wait for all of this thread's copies, the dropped ones too: so many events are in use, and no more."""
        self._since_caught_up = 0
        while self._flying:
            self._finish(self._flying.pop(self._dice.randrange(len(self._flying))))
        self._check_nothing_is_behind()

    def _check_nothing_is_behind(self) -> None:
        small = [self._world.sources[0].bases[device] for device in self._world.device.names]
        self._world.bridges["roomy"].to_numpy(small)
