"""What breaks a capture: calls that may be unsafe, by CUDA's modes, and waits for what is captured."""

import ctypes
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import torch

import fake_device

from .calling import Runner, elsewhere, here, on
from .graph_capture import Mode
from .handles import stream_handle

pytestmark = pytest.mark.usefixtures("idle")

PAGE = 4096
Uses = dict[str, Callable[[], object]]


class Calls:
    """One use of each call that may be unsafe, on things that no capture knows."""

    def __init__(self) -> None:
        self.other = torch.Stream("fake:0")
        self.event = self.other.record_event()
        self.x = torch.zeros(4, device="fake")
        self.pages = torch.zeros(4 * PAGE, dtype=torch.uint8)
        self.unlocked, self.locked = self.pages.data_ptr(), self.pages.data_ptr() + 2 * PAGE
        fake_device.lock_pages(self.locked, PAGE)
        torch.accelerator.synchronize()
        fake_device.empty_host_cache()
        torch.empty(PAGE, dtype=torch.uint8).pin_memory()

    def close(self) -> None:
        library = ctypes.CDLL(str(fake_device.library_path()))
        for address in (self.locked, self.unlocked):
            library.fake_unlock_pages(ctypes.c_void_p(address), PAGE)
        fake_device.last_error()

    def by_name(self) -> dict[str, Callable[[], object]]:
        return {
            "event_query": self.event.query,
            "event_synchronize": self.event.synchronize,
            "stream_query": self.other.query,
            "stream_synchronize": self.other.synchronize,
            "host_free": fake_device.empty_host_cache,
            "host_alloc": lambda: torch.empty(3 << 20, dtype=torch.uint8).pin_memory(),
            "lock_pages": lambda: fake_device.lock_pages(self.unlocked, PAGE),
            "unlock_pages": lambda: fake_device.unlock_pages(self.locked, PAGE),
            "copy_d2h": self.x.cpu,
            "copy_h2d": lambda: self.x.copy_(torch.ones(4)),
        }


UNSAFE = [
    *("event_query", "event_synchronize", "stream_query", "stream_synchronize", "host_free", "host_alloc"),
    *("lock_pages", "unlock_pages", "copy_d2h", "copy_h2d"),
]


@pytest.fixture
def unsafe() -> Iterator[dict[str, Callable[[], object]]]:
    calls = Calls()
    yield calls.by_name()
    calls.close()


@pytest.mark.parametrize("thread", [here, elsewhere])
@pytest.mark.parametrize("call", UNSAFE)
def test_an_unsafe_call_breaks_a_global_capture(call: str, thread: Runner, unsafe: Uses) -> None:
    captured = fake_device.capture()
    assert thread(unsafe[call]) is not None
    assert fake_device.capture_status(captured.stream) == "invalidated"
    with pytest.raises(RuntimeError, match=f"was invalidated: {call} may be unsafe"):
        captured.end()
    assert fake_device.capture_status(captured.stream) == "none"
    assert thread(unsafe[call]) is None
    fake_device.last_error()


@pytest.mark.parametrize("mode", ["global", "thread_local", "relaxed"])
@pytest.mark.parametrize("own_mode", ["global", "thread_local", "relaxed"])
@pytest.mark.parametrize("thread", [here, elsewhere])
def test_who_may_call_what_during_a_capture(thread: Runner, own_mode: Mode, mode: Mode, unsafe: Uses) -> None:
    """`mode` is the capture's, `own_mode` the calling thread's."""

    def work() -> None:
        with fake_device.capture_mode(own_mode):
            for use in unsafe.values():
                use()

    captured = fake_device.capture(mode=mode)
    allowed = own_mode == "relaxed" or mode == "relaxed" or (thread is elsewhere and "thread_local" in (own_mode, mode))
    assert (thread(work) is None) == allowed
    assert fake_device.capture_status(captured.stream) == ("active" if allowed else "invalidated")
    assert (here(captured.end) is None) == allowed
    assert fake_device.current_capture_mode() == "global"


def test_what_does_not_wait_is_safe_on_another_thread() -> None:
    def work() -> None:
        side = torch.Stream("fake")
        event = torch.Event("fake")
        event.record(side)
        torch.accelerator.current_stream().wait_event(event)
        torch.zeros(4, device="fake").add_(1)
        fake_device.capture_status(side)

    with fake_device.capture():
        assert elsewhere(work) is None


@pytest.mark.parametrize("mode", ["global", "relaxed"])
@pytest.mark.parametrize("call", ["query", "synchronize", "record_query", "record_synchronize", "device", "item"])
def test_what_is_captured_cannot_be_waited_for_in_any_mode(call: str, mode: Mode) -> None:
    x = torch.zeros(1, device="fake")
    torch.accelerator.synchronize()
    captured = fake_device.capture(mode=mode)
    event = captured.stream.record_event()
    uses: dict[str, Callable[[], object]] = {
        "query": captured.stream.query,
        "synchronize": captured.stream.synchronize,
        "record_query": event.query,
        "record_synchronize": event.synchronize,
        "device": torch.accelerator.synchronize,
        "item": lambda: on(captured.stream, x.item),
    }
    assert here(uses[call]) is not None
    assert fake_device.capture_status(captured.stream) == "invalidated"
    assert here(captured.end) is not None


def test_the_c_interface_asks_and_exchanges() -> None:
    library = ctypes.CDLL(str(fake_device.library_path()))
    captured = fake_device.capture()
    status, mode = ctypes.c_int(), ctypes.c_int(2)
    assert library.fake_stream_is_capturing(stream_handle(captured.stream), ctypes.byref(status)) == 0
    assert status.value == 1
    assert library.fake_exchange_capture_mode(ctypes.byref(mode)) == 0
    assert (mode.value, fake_device.current_capture_mode()) == (0, "relaxed")
    assert library.fake_exchange_capture_mode(ctypes.byref(mode)) == 0
    assert (mode.value, fake_device.current_capture_mode()) == (2, "global")
    assert library.fake_exchange_capture_mode(ctypes.byref(ctypes.c_int(3))) == 1
    assert "expected a capture mode" in str(fake_device.last_error())
    assert here(torch.accelerator.synchronize) is not None
    assert library.fake_stream_is_capturing(stream_handle(captured.stream), ctypes.byref(status)) == 0
    assert status.value == 2
    assert here(captured.end) is not None
    assert library.fake_stream_is_capturing(stream_handle(captured.stream), ctypes.byref(status)) == 0
    assert status.value == 0


@pytest.mark.skipif(
    not hasattr(torch.Stream, "is_capturing"),
    reason=f"expected torch 2.13 or newer, which asks guards; got {torch.__version__}",
)
def test_torch_asks_the_guard_whether_a_stream_is_captured() -> None:
    stream = torch.Stream("fake")
    asked = cast("Any", stream)
    assert not asked.is_capturing()
    captured = fake_device.capture(stream)
    assert asked.is_capturing()
    captured.end()
    assert not asked.is_capturing()
    with fake_device.fail("stream_is_capturing"), pytest.raises(RuntimeError, match="stream_is_capturing failed"):
        asked.is_capturing()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected a capture mode.*got 'all'"):
        fake_device.capture(mode=cast("Mode", "all"))
