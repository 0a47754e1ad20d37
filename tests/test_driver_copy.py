"""A driver's own function that starts a copy: every contract holds with it as with torch's `copy_` in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType

import fake_driver
import numpy as np
import pytest
import torch
from helpers import assert_same_array, assert_silent, run_script, torchs_answer

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

MIB = 1 << 20
RING = 16 * MIB


def numbers(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.int32, device="fake")


# With the copies that each takes: a gather has one for each slab of 8 MiB, a staged leaf one for each chunk of 4 MiB.
LEAVES: dict[str, tuple[Callable[[], torch.Tensor], int, int]] = {
    "dense": (lambda: numbers(1000), 1, 1),
    "at an offset": (lambda: numbers(1000)[7:], 1, 1),
    "permuted": (lambda: numbers(1000).view(10, 4, 25).permute(2, 0, 1), 1, 1),
    "narrow": (lambda: numbers(1000).to(torch.bfloat16)[1:], 1, 1),
    "several chunks": (lambda: numbers(2_500_000), 1, 3),
    "gathered": (lambda: numbers(1000).view(10, 100)[:, ::2], 1, 1),
    "gathered in slabs": (lambda: numbers(5_000_000).view(-1, 2)[:, 1], 2, 3),
    "negated": (lambda: torch._neg_view(numbers(1000)), 1, 1),
}


@pytest.fixture(params=["pooled", "staged"])
def route(request: pytest.FixtureRequest, copied_by: str, native: EngineChoice) -> Iterator[tuple[str, tnb.Bridge]]:
    """Where the arrays lie, and a Bridge that puts them there."""
    with tnb.Bridge(engine=native, pinned_limit="64MiB" if request.param == "pooled" else 2 * RING) as bridge:
        wall = bridge.to_numpy(torch.zeros(RING, dtype=torch.uint8, device="fake")) if request.param == "staged" else 0
        yield request.param, bridge
        del wall


def copies(route: str, leaf: str) -> int:
    """How many copies of dense bytes the leaf takes."""
    _, pooled, staged = LEAVES[leaf]
    return pooled if route == "pooled" else staged


@pytest.mark.parametrize("leaf", LEAVES)
def test_the_bytes_arrive_behind_the_producer(route: tuple[str, tnb.Bridge], fake: ModuleType, leaf: str) -> None:
    where, bridge = route
    source = LEAVES[leaf][0]()
    torch.accelerator.synchronize()
    fake.reset_counters()
    with fake.hold():
        source.add_(1)
        transfer = bridge.to_numpy_async(source)
        assert not transfer.done()
    array = transfer.result()
    counted = fake.counters()
    assert_same_array(array, torchs_answer(source))
    assert (counted.copies_d2h, counted.copies_synchronous) == (copies(where, leaf), 0)
    assert counted.bytes_d2h == array.nbytes


@pytest.mark.usefixtures("copied_by")
def test_a_gather_runs_on_the_copy_stream(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """So it reads what the producer's stream, which goes on, has written meanwhile."""
    base = numbers(4096).view(64, 64)
    native_bridge.to_numpy(base)
    torch.accelerator.synchronize()
    pool = [torch.Stream("fake") for _ in range(4)]
    with contextlib.ExitStack() as held:
        for stream in pool:
            held.enter_context(fake.hold(stream))
        transfer = native_bridge.to_numpy_async(base[:, ::2])
        base.add_(1)
        torch.accelerator.current_stream().synchronize()
    assert np.array_equal(transfer.result().ravel(), np.arange(1, 4097, 2))


@pytest.mark.parametrize("leaf", LEAVES)
def test_every_copy_may_fail(route: tuple[str, tnb.Bridge], copied_by: str, fake: ModuleType, leaf: str) -> None:
    """Who waits for it is told what failed, no error is left for the next call, and that one is right."""
    where, bridge = route
    source = LEAVES[leaf][0]()
    torch.accelerator.synchronize()
    for step in range(copies(where, leaf)):
        with fake.fail("copy_d2h", after=step) as failure:
            with pytest.raises(RuntimeError, match="copy_d2h failed: injected failure") as raised:
                bridge.to_numpy_async(source).result()
            assert failure.delivered == 1
        if copied_by == "driver":
            assert str(raised.value).startswith(
                "expected the driver to copy a tensor of fake:0 to the host, got status 1"
            )
        assert fake.last_error() is None
        assert_same_array(bridge.to_numpy_async(source).result(), torchs_answer(source))


def test_a_driver_without_words_for_its_errors(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    fake_driver.register(own_pages=False, without=frozenset({"describe_error", "clear_error"}))
    with (
        fake.fail("copy_d2h"),
        pytest.raises(RuntimeError, match=r"copy a tensor of fake:0 to the host, got status 1$"),
    ):
        native_bridge.to_numpy_async(numbers(5))
    assert "injected failure" in fake.last_error()


def test_torch_is_asked_only_where_the_driver_has_no_function(
    native_bridge: tnb.Bridge, fake: ModuleType, copied_by: str
) -> None:
    source = numbers(1000)
    native_bridge.to_numpy(source)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        assert np.array_equal(native_bridge.to_numpy(source), range(1000))
    operations = [event.name for event in profile.events() if event.name.startswith("aten::")]
    assert ("aten::copy_" in operations) == (copied_by == "torch")
    assert operations == [] or copied_by == "torch"


def test_streams_that_no_driver_knows(native: EngineChoice, fake: ModuleType) -> None:
    """A device type whose streams have no handle: torch makes the copies."""
    assert_silent(
        run_script(f"""
import torch, fake_device, fake_driver, torch_np_bridge as tnb
fake_driver.register(own_pages=False)
with fake_device.without("stream_handles"), tnb.Bridge(engine={native!r}) as bridge:
    assert bridge.to_numpy(torch.arange(5.0, device="fake")).tolist() == [0, 1, 2, 3, 4]
    assert bridge.stats().transfers == 1
""")
    )
