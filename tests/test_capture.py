"""Contracts 10 and 13: a graph that is being captured is neither joined nor ended by us, on whatever thread we work."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import fake_driver
import numpy as np
import pytest
import torch
from helpers import Call, copy_stream, side_stream, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

MIB = 1 << 20
RING = 16 * MIB
Work = Callable[[tnb.Bridge, torch.Tensor], Any]


@pytest.fixture
def x(fake: ModuleType) -> torch.Tensor:
    tensor = torch.arange(10_000.0, device="fake").view(100, 100)
    torch.accelerator.synchronize()
    return tensor


@pytest.fixture
def stream(fake: ModuleType, native_bridge: tnb.Bridge, x: torch.Tensor) -> torch.Stream:
    """A stream to capture that is not the one of our copies."""
    return side_stream(native_bridge, x)


def transfer(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    return bridge.to_numpy_async(x).result()


def poll(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    started = bridge.to_numpy_async(x)
    wait_until(started.done)
    return started.result()


def gather(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    return bridge.to_numpy([x.t()[::2], x[:, ::2]])


def trim(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    """With something to give back, and something that torch's own cache holds."""
    array = bridge.to_numpy(x)
    del array
    bridge.trim()
    assert bridge.stats().held_bytes == 0
    return bridge.to_numpy(x)


def close(bridge: tnb.Bridge, x: torch.Tensor) -> Any:
    bridge.to_numpy_async(x)
    bridge.close()


def large(work: Work) -> Work:
    """The same for more than a ring of staging chunks holds."""
    return lambda bridge, x: work(bridge, x.view(-1)[:1].expand(RING // 4 + 1))


WORK: dict[str, tuple[Work, int | None]] = {
    "blocking": (lambda bridge, x: bridge.to_numpy(x), None),
    "asynchronous": (transfer, None),
    "polled": (poll, None),
    "gathered": (gather, None),
    "snapshot": (lambda bridge, x: bridge.to_numpy_async(x, snapshot=True).result(), None),
    "trimmed": (trim, None),
    "closed": (close, None),
    "staged by a ring": (large(transfer), RING),
    "staged plainly": (large(transfer), 0),
    "copied by torch": (lambda bridge, x: bridge.to_numpy(x), 0),
}


@pytest.mark.parametrize("work", WORK)
@pytest.mark.usefixtures("host_pages")
def test_a_capture_on_another_thread_goes_on(
    native: EngineChoice, fake: ModuleType, stream: torch.Stream, x: torch.Tensor, work: str
) -> None:
    """Whatever has to be allocated for the first time, too: what pinning asks of the driver ends captures, as in
    pytorch#146924 and pytorch#161583."""
    function, limit = WORK[work]
    torch.accelerator.synchronize()
    gc.collect()
    torch.accelerator.empty_cache()
    fake.empty_host_cache()
    bridge = tnb.Bridge(engine=native, pinned_limit=limit)
    captured = fake.capture(stream)
    Call(lambda: function(bridge, x)).result()
    assert fake.capture_status(stream) == "active"
    captured.end()
    bridge.close()


def test_the_worker_looks_at_what_was_dropped(
    native_bridge: tnb.Bridge, fake: ModuleType, stream: torch.Stream, x: torch.Tensor
) -> None:
    native_bridge.to_numpy(x)
    torch.accelerator.synchronize()
    source = x.clone()
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
    latch = fake.hold()
    dropped = native_bridge.to_numpy_async(source)
    captured = fake.capture(stream)
    del dropped, source
    latch.release()
    wait_until(lambda: fake.counters().device_bytes_live < before)
    assert fake.capture_status(stream) == "active"
    captured.end()


def test_what_was_started_before_ends_in_ones_own_capture(
    native_bridge: tnb.Bridge, fake: ModuleType, stream: torch.Stream, x: torch.Tensor
) -> None:
    started = native_bridge.to_numpy_async(x)
    with fake.capture(stream):
        wait_until(started.done)
        assert (started.result().ravel() == np.arange(10_000)).all()
        assert (native_bridge.to_numpy(torch.ones(3)) == 1).all()
    assert fake.current_capture_mode() == "global"


@pytest.fixture(params=["driver", "guard"])
def asked(request: pytest.FixtureRequest, fake: ModuleType) -> Iterator[str]:
    """Who knows of captures: the driver's interface, or torch's guard."""
    if request.param == "guard":
        if not hasattr(torch.Stream, "is_capturing"):
            pytest.skip("expected torch 2.13 or newer, which asks guards")
        fake_driver.register(without=frozenset({"stream_is_capturing"}))
    yield request.param
    fake_driver.register()


SUBMITS: dict[str, Work] = {
    "to_numpy": lambda bridge, x: bridge.to_numpy({"host": torch.ones(2), "device": x}),
    "to_numpy_async": lambda bridge, x: bridge.to_numpy_async(x),
    "snapshot": lambda bridge, x: bridge.to_numpy_async(x, snapshot=True),
    "gather": lambda bridge, x: bridge.to_numpy_async(x.t()[::2]),
}


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("submit", SUBMITS)
@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_a_call_on_a_captured_stream_is_refused(
    native_bridge: tnb.Bridge,
    fake: ModuleType,
    stream: torch.Stream,
    x: torch.Tensor,
    mode: str,
    submit: str,
) -> None:
    native_bridge.to_numpy([x, x.t()[::2]])
    torch.accelerator.synchronize()
    fake.reset_counters()
    before = native_bridge.stats(), fake.counters()
    with fake.capture(stream, mode=mode) as captured:
        with pytest.raises(
            tnb.UnsupportedTensorError, match=r"expected a stream of fake:0 .* got one that is captured"
        ):
            SUBMITS[submit](native_bridge, x)
        assert (native_bridge.stats(), fake.counters()) == before
        x.add_(1)
    first = float(native_bridge.to_numpy(x)[0, 0])
    captured.launch()
    assert native_bridge.to_numpy(x)[0, 0] == first + 1


@pytest.mark.skipif(not hasattr(torch.Stream, "is_capturing"), reason="expected torch 2.13 or newer")
@pytest.mark.parametrize("submit", SUBMITS)
def test_the_python_engine_refuses_too(fake: ModuleType, stream: torch.Stream, x: torch.Tensor, submit: str) -> None:
    with tnb.Bridge(engine="python") as bridge:
        bridge.to_numpy([x, x.t()[::2]])
        before = bridge.stats(), fake.counters()
        with fake.capture(stream) as captured:
            with pytest.raises(
                tnb.UnsupportedTensorError, match=r"expected a stream of fake:0 .* got one that is captured"
            ):
                SUBMITS[submit](bridge, x)
            assert (bridge.stats(), fake.counters()) == before
            assert fake.capture_status(captured.stream) == "active"
        assert SUBMITS[submit](bridge, x) is not None


@pytest.mark.usefixtures("asked")
def test_the_copy_stream_may_be_the_one_that_is_captured(
    native_bridge: tnb.Bridge, fake: ModuleType, x: torch.Tensor
) -> None:
    """Torch's pool gives its streams out again and again."""
    ours = copy_stream(native_bridge, x)
    captured = fake.capture(ours)
    for call in (native_bridge.to_numpy, lambda tree: native_bridge.to_numpy_async(tree, snapshot=True)):
        with pytest.raises(
            tnb.UnsupportedTensorError, match=r"the stream of fake:0 that torch_np_bridge copies on.*another"
        ):
            call(x)
    assert (native_bridge.to_numpy(torch.ones(1, device="cpu")) == 1).all()
    captured.end()
    assert (native_bridge.to_numpy(x).ravel() == np.arange(10_000)).all()


@pytest.mark.usefixtures("host_pages")
def test_nothing_is_given_back_while_the_copy_stream_is_captured(
    native: EngineChoice, fake: ModuleType, x: torch.Tensor
) -> None:
    """Whether it has come past a point could only be asked by an event in the graph."""
    with tnb.Bridge(engine=native) as bridge:
        ours = copy_stream(bridge, x)
        held = bridge.stats().held_bytes
        captured = fake.capture(ours)
        bridge.trim()
        assert bridge.stats().held_bytes == held > 0
        captured.end()
        bridge.trim()
        assert bridge.stats().held_bytes == 0


def test_a_captured_stream_cannot_wait_for_a_copy(
    native_bridge: tnb.Bridge, fake: ModuleType, stream: torch.Stream, x: torch.Tensor
) -> None:
    with fake.hold():
        started = native_bridge.to_numpy_async(x)
        with fake.capture(stream) as captured:
            for target in (None, stream):
                with pytest.raises(RuntimeError, match="got one that is captured into a graph"):
                    started.block_stream(target)
            assert fake.capture_status(captured.stream) == "active"
    assert (started.result().ravel() == np.arange(10_000)).all()


def test_a_static_output_is_taken_between_two_replays(
    native_bridge: tnb.Bridge, fake: ModuleType, stream: torch.Stream
) -> None:
    """As docs/supported.md has it."""
    static = torch.zeros(5000, device="fake")
    torch.accelerator.synchronize()
    with fake.capture(stream) as captured:
        static.add_(1)
    with fake.hold_copies():
        captured.launch()
        first = native_bridge.to_numpy_async(static, snapshot=True)
        captured.launch()
    assert (first.result() == 1).all()
    assert (native_bridge.to_numpy(static) == 2).all()


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
def test_the_threads_own_mode_comes_back(native_bridge: tnb.Bridge, fake: ModuleType, mode: str) -> None:
    tree = [torch.ones(3, device=f"fake:{index}") for index in (0, 1, 0)]
    with fake.capture_mode(mode):
        transfer = native_bridge.to_numpy_async(tree)
        assert fake.current_capture_mode() == mode
        assert len(transfer.result()) == 3
        native_bridge.trim()
        assert fake.current_capture_mode() == mode


@pytest.mark.parametrize("call", ["exchange_capture_mode", "stream_is_capturing"])
def test_a_driver_that_does_not_answer_leaves_no_error(
    native_bridge: tnb.Bridge, fake: ModuleType, x: torch.Tensor, call: str
) -> None:
    with fake.fail(call) as failure:
        assert native_bridge.to_numpy(x).size == 10_000
        assert failure.delivered == 1
    assert fake.last_error() is None
