"""Rounds of random transfers; between two of them nothing may be left over."""

from __future__ import annotations

import gc
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import torch
from helpers import PATIENCE

import torch_np_bridge as tnb

from .actor import FLYING, Actor
from .device import Device
from .resources import Heap, differences, resources
from .world import World, make_bridges, make_streams, make_world

THREADS = 4
# Events of all actors' copies at once, with room for those of rings, of short-lived bridges and of freed memory.
EVENTS = 64 + 2 * THREADS * FLYING


@dataclass(frozen=True)
class Summary:
    """What a run did and found; good where there are no complaints."""

    seed: int
    transfers: int
    rounds: int
    seconds: float
    wrong_bytes: int
    complaints: list[str]
    outcomes: dict[str, int]
    events_created: int  # after the warm-up
    before: dict[str, int]  # resources; events are those of the warm-up less
    after: dict[str, int]
    heaps: list[dict[str, int]]  # after the first round and after the last


def _start(device: Device, streams: dict[int, list[torch.Stream]]) -> None:
    for index, of_device in streams.items():
        for stream in of_device:
            with stream:
                torch.zeros(1, device=device.names[index])
        torch.accelerator.synchronize(index)


def _warm_up(device: Device, bridges: dict[str, tnb.Bridge]) -> None:
    """Start every worker, and have as many events as will ever be in use at once."""
    for name in device.names:
        source = torch.zeros(1, device=name)
        with device.hold(torch.accelerator.current_stream(name)):
            transfers = [bridges["roomy"].to_numpy_async(source) for _ in range(EVENTS)]
            for bridge in bridges.values():
                bridge.to_numpy_async(source)
        for transfer in transfers:
            transfer.result()


def _settled(device: Device, bridges: dict[str, tnb.Bridge], before: dict[str, int] | None) -> list[str]:
    """What is still held, or different from before, once everything had time to end."""
    device.calm()
    deadline = time.monotonic() + PATIENCE
    while True:
        gc.collect()
        for index in range(len(device.names)):
            torch.accelerator.synchronize(index)
        for bridge in bridges.values():
            bridge.trim()
        left = [f"bridge {name}: {bridge.stats()}" for name, bridge in bridges.items() if bridge.stats().held_bytes]
        if before is not None:
            left += differences(before, resources(device))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


def _grown(first: Heap, last: Heap, transfers: int) -> list[str]:
    """Whether the heap grew with the transfers: by a Python object in four of them, or by eight bytes in each."""
    grown = []
    if last.python_blocks - first.python_blocks > 1000 + transfers // 4:
        grown.append(f"expected as many Python objects as before, got {last} after {first}, {transfers} transfers ago")
    if last.malloc_bytes - first.malloc_bytes > (4 << 20) + 8 * transfers:
        grown.append(f"expected a heap as large as before, got {last} after {first}, {transfers} transfers ago")
    return grown


def _play(seed: str, world: World, transfers: int) -> None:
    actors = [Actor(world, f"{seed}/{index}", may_inject=index == 0) for index in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        shares = [transfers // THREADS + (index < transfers % THREADS) for index in range(THREADS)]
        for future in [pool.submit(actor.run, share) for actor, share in zip(actors, shares, strict=True)]:
            future.result()


def run(
    seed: int,
    device: Device,
    *,
    transfers: int,
    per_round: int,
    deadline: float = float("inf"),
    say: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Make random transfers, compare every array, and count after each round what is left.

    Args:
        seed: decides all choices of every thread, though not how the threads interleave.
        device: what they are made on.
        transfers: how many to make.
        per_round: how many of them between two counts.
        deadline: the `time.monotonic()` after which no round is begun.
        say: is told how each round went.
    """
    start = time.monotonic()
    streams = make_streams(device)
    _start(device, streams)
    before = resources(device)
    bridges = make_bridges()
    _warm_up(device, bridges)
    complaints = _settled(device, bridges, None)
    warm = resources(device)
    created = device.events_created()
    outcomes: Counter[str] = Counter()
    wrong_bytes = done = 0
    heaps: list[tuple[int, Heap]] = []
    while done < transfers and not complaints and time.monotonic() < deadline:
        world = make_world(random.Random(f"{seed}/{len(heaps)}"), device, bridges, streams)
        count = min(per_round, transfers - done)
        _play(f"{seed}/{len(heaps)}", world, count)
        done += count
        outcomes += world.outcomes
        wrong_bytes += world.wrong_bytes
        complaints += world.complaints
        del world
        complaints += [f"after round {len(heaps)}: {each}" for each in _settled(device, bridges, warm)]
        heaps.append((done, Heap.now()))
        say(f"{done} transfers, {time.monotonic() - start:.0f} s, {wrong_bytes} wrong bytes, {heaps[-1][1]}")
    for (first_done, first), (last_done, last) in itertools.pairwise([heaps[0], heaps[-1]]):
        complaints += _grown(first, last, last_done - first_done)
    for bridge in bridges.values():
        bridge.close()
    bridges.clear()
    del bridge
    created = device.events_created() - created
    if created:
        complaints.append(f"expected no event to be created once all are there, got {created}")
    # Events stay with the copy stream of their device, for good.
    kept = {kind: warm[kind] if kind == "events" else count for kind, count in before.items()}
    complaints += [f"at the end: {each}" for each in _settled(device, {}, kept)]
    return Summary(
        seed=seed,
        transfers=done,
        rounds=len(heaps),
        seconds=round(time.monotonic() - start, 1),
        wrong_bytes=wrong_bytes,
        complaints=complaints,
        outcomes=dict(sorted(outcomes.items())),
        events_created=created,
        before=before,
        after=resources(device),
        heaps=[asdict(heap) | {"transfers": at} for at, heap in (heaps[0], heaps[-1])],
    )
