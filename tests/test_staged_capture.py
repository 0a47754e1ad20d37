"""A staged copy that finds its stream being captured: torch's pool has given that to the user too, after the call.

The call was right, so it is the result that tells of it. The capture goes on without our work, and what the copy has
enqueued before is kept until the device has done it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import assert_silent, copy_stream, run_script, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

RING = 16 << 20
LARGE = RING // 4 + 1  # one more than a ring of chunks takes of int32
WORDS = "that torch_np_bridge copies on to run, got it captured into a graph"


@pytest.fixture(params=["ring", "plain"])
def full(request: pytest.FixtureRequest, native: EngineChoice, fake: ModuleType) -> Iterator[tnb.Bridge]:
    """A Bridge with room for the ring only, or for nothing."""
    with tnb.Bridge(engine=native, pinned_limit=RING if request.param == "ring" else 0) as bridge:
        bridge.to_numpy_async(torch.arange(LARGE, dtype=torch.int32, device="fake")).result()
        yield bridge


@pytest.fixture
def ours(full: tnb.Bridge) -> torch.Stream:
    """The stream of the copies."""
    return copy_stream(full, torch.ones(1, device="fake"))


def source(layout: str) -> torch.Tensor:
    """So many elements that the copy has to wait for the device before it has enqueued all."""
    values = torch.arange(2 * LARGE, dtype=torch.int32, device="fake")
    return values[:LARGE] if layout == "dense" else values.view(LARGE, 2)[:, 0]


def expected(layout: str) -> np.ndarray:
    return np.arange(LARGE) if layout == "dense" else np.arange(0, 2 * LARGE, 2)


def waits(fake: ModuleType) -> bool:
    """Whether the worker waits for the device: it asks for the first event of a ring, or copies plainly."""
    return bool(fake.counters().event_queries or fake.counters().copies_synchronous)


@contextmanager
def captured(fake: ModuleType, stream: torch.Stream) -> Iterator[None]:
    """Within the block the stream is captured, by a graph that gets no operation and is not ended by anybody else."""
    copies = fake.counters().copies_d2d
    capture = fake.capture(stream)
    try:
        yield
        assert fake.capture_status(stream) == "active"
        assert fake.counters().copies_d2d == copies
    finally:
        capture.end()


@pytest.mark.parametrize("layout", ["dense", "strided"])
def test_a_copy_that_has_not_begun(full: tnb.Bridge, fake: ModuleType, ours: torch.Stream, layout: str) -> None:
    leaf = source(layout)
    torch.accelerator.synchronize()
    live = fake.counters().device_bytes_live
    fake.reset_counters()
    latch = fake.hold_copies()
    first = full.to_numpy_async(torch.zeros(1, device="fake"))
    wait_until(lambda: waits(fake))
    second = full.to_numpy_async(leaf)
    with captured(fake, ours):
        latch.release()
        assert first.result().tolist() == [0]
        with pytest.raises(RuntimeError, match=WORDS):
            second.result()
        assert fake.counters().copies_d2h == 1
    assert np.array_equal(full.to_numpy_async(leaf).result(), expected(layout))
    wait_until(lambda: fake.counters().device_bytes_live <= live)
    assert full.stats().held_bytes == full.stats().limit_bytes


@pytest.mark.parametrize("layout", ["dense", "strided"])
def test_a_copy_that_is_under_way(full: tnb.Bridge, fake: ModuleType, ours: torch.Stream, layout: str) -> None:
    leaf = source(layout)
    torch.accelerator.synchronize()
    live = fake.counters().device_bytes_live
    fake.reset_counters()
    latch = fake.hold_copies()
    transfer = full.to_numpy_async(leaf)
    wait_until(lambda: waits(fake))
    copies = fake.counters().copies_d2h
    with captured(fake, ours):
        latch.release()
        if copies == 1 and layout == "dense":
            assert np.array_equal(transfer.result(), expected(layout))  # all of it was enqueued
        else:
            with pytest.raises(RuntimeError, match=WORDS):
                transfer.result()
        assert fake.counters().copies_d2h == copies
    assert np.array_equal(full.to_numpy_async(leaf).result(), expected(layout))
    del leaf
    wait_until(lambda: fake.counters().device_bytes_live < live)
    assert full.stats().held_bytes == full.stats().limit_bytes


def test_to_numpy_does_not_begin_again(native: EngineChoice, fake: ModuleType) -> None:
    """The extension leaves a capture that is in a call's way to Python; one that a copy meets later is not that."""
    done = run_script(
        f"""if True:
        import torch, fake_device, fake_driver
        import torch_np_bridge as tnb
        from helpers import Call, copy_stream, wait_until

        fake_driver.register()
        leaf = torch.arange({LARGE}, dtype=torch.int32, device="fake")
        tnb.to_numpy(leaf)
        ours = copy_stream(tnb, torch.ones(1, device="fake"))
        latch = fake_device.hold_copies()
        first = tnb.to_numpy_async(torch.zeros(1, device="fake"))
        wait_until(lambda: fake_device.counters().copies_synchronous > 0)
        before = tnb.stats().transfers
        call = Call(lambda: tnb.to_numpy(leaf))
        wait_until(lambda: tnb.stats().transfers > before)
        capture = fake_device.capture(ours)
        latch.release()
        first.result()
        try:
            call.result()
        except RuntimeError as error:
            assert "{WORDS}" in str(error) and not isinstance(error, TypeError), error
        else:
            raise AssertionError("expected the capture to be in the way, got an array")
        capture.end()
        assert tnb.stats().transfers == before + 1, tnb.stats()
        """,
        TORCH_NP_BRIDGE_ENGINE=native,
        TORCH_NP_BRIDGE_PINNED_LIMIT="0",
    )
    assert_silent(done)
