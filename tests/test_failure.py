"""Contract 10: a failed submit owns nothing, errors of the copy raise at result(), and the next transfer is right."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import fake_driver
import pytest
import torch
from helpers import assert_silent, run_script, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

# What the native engine calls while it submits, each with a tree that makes it do so. Only `launch` is a packer's.
SUBMIT: dict[str, Callable[[torch.Tensor], Any]] = {
    "event_record": lambda x: x,
    "event_block": lambda x: x,
    "copy_d2h": lambda x: [x, x],
    "device_alloc": lambda x: [x, x.view(60, 50)[:, ::2]],
    "copy_d2d": lambda x: [x, x.view(60, 50)[:, ::2]],
    "launch": lambda x: [x, x.view(60, 50)[:, ::2], x],
}
REASON = "injected failure|expected the driver to pack 3 tensors of fake:0 for the host, got status 1"


@pytest.fixture
def source(fake: ModuleType, native_bridge: tnb.Bridge) -> torch.Tensor:
    """A tensor whose transfer finds everything prepared."""
    tensor = torch.arange(3000.0, device="fake")
    for _ in range(2):
        native_bridge.to_numpy([tensor, tensor, tensor.view(60, 50)[:, ::2]])
    torch.accelerator.empty_cache()  # so that memory for a gather has to be allocated
    torch.accelerator.synchronize()
    return tensor


def live(fake: ModuleType, bridge: tnb.Bridge) -> tuple[int, int, int, int]:
    """What a failed call must leave as it was: bytes on the device, page-locked, leased, and events."""
    counted = fake.counters()
    events = counted.event_creates - counted.event_destroys
    host = counted.host_bytes_live + counted.locked_pages_bytes
    return counted.device_bytes_live, host, bridge.stats().leased_bytes, events


def assert_right(bridge: tnb.Bridge, source: torch.Tensor) -> None:
    """Two transfers: the first also sweeps what the failed one left in flight."""
    torch.accelerator.synchronize()
    for _ in range(2):
        assert (bridge.to_numpy([source, source])[1] == range(3000)).all()


# The second record is that of the completion, the second copy is enqueued behind the first.
@pytest.mark.usefixtures("copied_by")
@pytest.mark.parametrize(("call", "after"), [*((call, 0) for call in SUBMIT), ("event_record", 1), ("copy_d2h", 1)])
def test_a_submit_that_fails_once(
    native_bridge: tnb.Bridge, fake: ModuleType, source: torch.Tensor, call: str, after: int
) -> None:
    fake_driver.register(packer=call == "launch")
    before = live(fake, native_bridge)
    with fake.fail(call, after=after) as failure, pytest.raises(RuntimeError, match=REASON):
        native_bridge.to_numpy_async(SUBMIT[call](source))
    assert failure.delivered == 1
    assert fake.last_error() is None
    assert_right(native_bridge, source)
    assert live(fake, native_bridge) == before


@pytest.mark.usefixtures("copied_by")
@pytest.mark.parametrize("call", SUBMIT)
def test_a_submit_on_a_device_that_is_lost(
    native_bridge: tnb.Bridge, fake: ModuleType, source: torch.Tensor, call: str
) -> None:
    fake_driver.register(packer=call == "launch")
    before = live(fake, native_bridge)
    tree = SUBMIT[call](source)
    with fake.fail(call, sticky=True) as failure:
        for _ in range(3):
            with pytest.raises(RuntimeError, match=f"fake device|{REASON}"):
                native_bridge.to_numpy(tree)
        assert failure.delivered >= 1
    del tree
    assert_right(native_bridge, source)
    # Device memory that a lost device refuses to free is lost with it.
    assert live(fake, native_bridge)[1] == before[1]


@pytest.mark.parametrize("sticky", [False, True])
def test_events_that_cannot_be_made(native_bridge: tnb.Bridge, fake: ModuleType, *, sticky: bool) -> None:
    x = torch.ones(100, device="fake")
    native_bridge.to_numpy(x)
    flying: list[tnb.Transfer] = []
    with fake.hold(), fake.fail("event_create", sticky=sticky) as failure:
        with pytest.raises(RuntimeError, match="event_create failed"):  # noqa: PT012
            # Each keeps an event: sooner or later there is none to use again, however many earlier tests have left.
            while len(flying) < 50_000:
                flying.append(native_bridge.to_numpy_async(x))
        assert failure.delivered >= 1
    for transfer in flying:
        error = transfer.exception()
        # A device that is lost may be lost to those in flight too, if somebody asked it about them meanwhile.
        assert (transfer.result() == 1).all() if error is None else sticky and "event_create" in str(error)
    assert (native_bridge.to_numpy(x) == 1).all()


@pytest.mark.parametrize("call", ["stream_get", "event_create"])
def test_a_first_use_that_fails(native: EngineChoice, fake: ModuleType, call: str) -> None:
    """A device whose stream could not be had is copied synchronously, and nothing of it is remembered."""
    assert_silent(
        run_script(
            f"call = {call!r}"
            """
import torch, fake_device, torch_np_bridge as tnb
bridge = tnb.Bridge(engine="native")
x = torch.ones(5, device="fake")
with fake_device.fail(call) as failure:
    assert bridge.to_numpy(x).tolist() == [1] * 5
    assert failure.delivered == 1
transfers = bridge.stats().transfers
assert bridge.to_numpy(x).tolist() == [1] * 5
assert bridge.stats().transfers == transfers + 1
bridge = tnb.Bridge(engine="native")
x = torch.ones(1_000_000, device="fake")  # of a size that torch's own cache does not have
with fake_device.fail("host_alloc") as failure:
    assert bridge.to_numpy(x).tolist() == [1] * 1_000_000
    assert failure.delivered == 1
assert bridge.to_numpy(x).tolist() == [1] * 1_000_000
"""
        )
    )


@pytest.mark.parametrize("operation", ["copy_d2h_async", "launch_async"])
def test_a_copy_that_fails_raises_at_the_result(
    native_bridge: tnb.Bridge, fake: ModuleType, source: torch.Tensor, operation: str
) -> None:
    fake_driver.register(packer=operation == "launch_async")
    before = live(fake, native_bridge)
    with fake.fail(operation):
        with fake.hold():  # a call that submits would be told of the error, too
            transfer = native_bridge.to_numpy_async([source, source])
        for _ in range(2):
            with pytest.raises(RuntimeError, match=f"context was ended by {operation}"):
                transfer.result()
        assert transfer.done()
    with pytest.raises(RuntimeError, match=f"context was ended by {operation}"):
        transfer.result()  # the device is well again, this transfer never
    del transfer
    assert_right(native_bridge, source)
    assert live(fake, native_bridge)[:2] == before[:2]


def test_an_event_that_cannot_be_asked(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    native_bridge.to_numpy(torch.ones(3000, device="fake"))
    torch.accelerator.synchronize()
    before = live(fake, native_bridge)
    with fake.hold():
        transfer = native_bridge.to_numpy_async(torch.ones(3000, device="fake"))
        with fake.fail("event_query"):
            assert transfer.done()
        with pytest.raises(RuntimeError, match="event_query failed"):
            transfer.result()
        # The copy is still to come: its source must not be freed, whoever asks or forgets.
        native_bridge.to_numpy_async(torch.ones(1, device="fake"))
        del transfer
        native_bridge.to_numpy_async(torch.ones(1, device="fake"))
        assert fake.counters().device_bytes_live >= before[0] + 3000 * 4
    torch.accelerator.synchronize()
    native_bridge.to_numpy(torch.ones(3000, device="fake"))
    assert live(fake, native_bridge)[0] == before[0]


@pytest.mark.parametrize("call", ["copy_d2h", "copy_d2h_async"])
def test_both_engines_raise(bridge: tnb.Bridge, fake: ModuleType, call: str) -> None:
    x = torch.ones(100, device="fake")
    bridge.to_numpy(x)
    with fake.fail(call), pytest.raises(RuntimeError, match="fake device"):
        bridge.to_numpy({"a": [x]})
    assert (bridge.to_numpy(x) == 1).all()


def test_the_other_device_of_a_failed_call(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The copies of the first device are under way when the second one fails."""
    first, second = (torch.full((5000,), 2.0, device=f"fake:{index}") for index in (0, 1))
    native_bridge.to_numpy([first, second])
    torch.accelerator.synchronize()
    before = live(fake, native_bridge)
    with fake.hold(), fake.fail("event_block", after=1):
        with pytest.raises(RuntimeError, match="event_block failed"):
            native_bridge.to_numpy([first, second])
        del first
        scratch: Any = [torch.zeros(5000, device="fake:0") for _ in range(10)]
    arrays = native_bridge.to_numpy([second, torch.full((5000,), 3.0, device="fake:0")])
    torch.accelerator.synchronize()
    assert [array[0] for array in arrays] == [2, 3]
    del scratch
    native_bridge.to_numpy([second, torch.zeros(1, device="fake:0")])
    assert live(fake, native_bridge)[0] <= before[0]


@pytest.mark.parametrize("limit", [None, 0])
def test_a_failed_submit_is_not_counted(native: EngineChoice, fake: ModuleType, limit: int | None) -> None:
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        tree = [torch.ones(1000, device=f"fake:{index}") for index in (0, 0, 1)]
        bridge.to_numpy(tree)
        torch.accelerator.synchronize()
        before = bridge.stats()
        for step in range(3):
            with fake.fail("copy_d2h", after=step), pytest.raises(RuntimeError, match="copy_d2h failed"):
                bridge.to_numpy(tree)
        after = bridge.stats()
        assert (after.transfers, after.copied_bytes, after.unpooled_leaves) == (
            before.transfers,
            before.copied_bytes,
            before.unpooled_leaves,
        )


def test_an_array_that_numpy_refuses(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The copies are under way by then: what they hold is let go of, in an idle program too."""
    torch.accelerator.synchronize()
    before = live(fake, native_bridge)[0]
    native_bridge.to_numpy(torch.ones(5000, device="fake"))
    with fake.hold(), pytest.raises(ValueError, match="array is too big"):
        native_bridge.to_numpy_async([torch.ones(5000, device="fake"), torch.empty(0, 2**62)])
    wait_until(lambda: live(fake, native_bridge)[0] == before)


@pytest.mark.parametrize("packing", ["one by one", "packed"], indirect=True)
def test_what_a_failed_submit_has_enqueued_keeps_its_blocks(
    native_bridge: tnb.Bridge, fake: ModuleType, packing: str
) -> None:
    """The first copies are under way when the last fails: nobody may have their block before they have written."""
    late, other = torch.full((5000,), 2.0, device="fake:0"), torch.full((5000,), 3.0, device="fake:1")
    large = torch.ones(300_000, device="fake:0")
    native_bridge.to_numpy([late, other])
    torch.accelerator.synchronize(1)
    with fake.hold():
        begun = 0 if packing == "packed" else 2
        with fake.fail("copy_d2h", after=begun), pytest.raises(RuntimeError, match="copy_d2h failed"):
            native_bridge.to_numpy([late, late, large])
        arrays = [native_bridge.to_numpy(other) for _ in range(3)]
    torch.accelerator.synchronize(0)
    assert all((array == 3).all() for array in arrays)
