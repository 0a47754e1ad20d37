"""Contract 10 where a copy fails and the event behind it cannot be recorded either.

What the device may still be using is kept then, and given back once something later on the same stream has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

SIZE = 3000
CALLS = [("copy_d2h", 0), ("event_record", 1)]  # of a transfer, and after how many; the first record is the producer's
LARGE = (16 << 20) // 4 + 1  # int32: more than fits beside a ring
NEXT: dict[str, Callable[[tnb.Bridge, torch.Tensor], Any]] = {
    "a transfer of the same bridge": lambda bridge, x: bridge.to_numpy_async(x).result(),
    "one in ordinary memory": lambda bridge, x: tnb.Bridge(engine="native", pinned_limit=0).to_numpy_async(x).result(),
}


def live(fake: ModuleType) -> int:
    counted: int = fake.counters().device_bytes_live
    return counted


def events(fake: ModuleType) -> int:
    counted: int = fake.counters().event_creates - fake.counters().event_destroys
    return counted


def fail_twice(fake: ModuleType, bridge: tnb.Bridge, times: int = 1) -> None:
    """Transfers of tensors of their own."""
    for _ in range(times):
        with ExitStack() as failing:
            failures = [failing.enter_context(fake.fail(call, after=after)) for call, after in CALLS]
            with pytest.raises(RuntimeError, match="injected failure"):
                bridge.to_numpy_async(torch.zeros(SIZE, device="fake")).result()
            # The worker tells of the first, then tries to find out when the device will have done with the copy.
            wait_until(lambda: all(failure.delivered == 1 for failure in failures))  # noqa: B023


@pytest.fixture(params=["pooled", "ring", "plain"])
def settled(request: pytest.FixtureRequest, native: EngineChoice, fake: ModuleType) -> Any:
    """A Bridge of each route, with everything prepared."""
    limits: dict[str, int | str] = {"pooled": "64MiB", "ring": 16 << 20, "plain": 0}
    with tnb.Bridge(engine=native, pinned_limit=limits[request.param]) as bridge:
        if request.param == "ring":
            bridge.to_numpy_async(torch.zeros(LARGE, dtype=torch.int32, device="fake")).result()
        x = torch.ones(SIZE, device="fake")
        for _ in range(2):
            assert (bridge.to_numpy_async(x).result() == 1).all()
        torch.accelerator.synchronize()
        wait_until(lambda: bridge.stats().leased_bytes in (0, 16 << 20))
        yield bridge


@pytest.mark.parametrize("later", NEXT)
def test_it_is_given_back_behind_the_next(fake: ModuleType, settled: tnb.Bridge, later: str) -> None:
    x = torch.ones(SIZE, device="fake")
    NEXT[later](settled, x)
    before, leased, made = live(fake), settled.stats().leased_bytes, events(fake)
    fail_twice(fake, settled, 3)
    torch.accelerator.synchronize()
    assert live(fake) >= before + 3 * 4 * SIZE  # nobody knows whether the device has done with it
    # A worker may take a moment to leave what it used, and the first transfer may have begun before.
    wait_until(lambda: (NEXT[later](settled, x) == 1).all() and live(fake) == before)
    wait_until(lambda: settled.stats().leased_bytes <= leased)  # of a ring that is made anew when it is needed
    assert events(fake) == made


def test_not_before_the_next_has_ended(fake: ModuleType, settled: tnb.Bridge) -> None:
    """Nor behind one that came before."""
    x = torch.ones(SIZE, device="fake")
    before = live(fake)
    other = tnb.Bridge(engine="native")
    with fake.hold():
        earlier = other.to_numpy_async(x)
        fail_twice(fake, settled)
    assert (earlier.result() == 1).all()
    torch.accelerator.synchronize()
    assert live(fake) >= before + 4 * SIZE
    with fake.hold_copies():
        later = settled.to_numpy_async(x)
        assert live(fake) >= before + 4 * SIZE
    assert (later.result() == 1).all()
    wait_until(lambda: live(fake) == before)
