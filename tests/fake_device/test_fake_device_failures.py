"""Every call of the driver can be made to fail, once or for good."""

import ctypes
from collections.abc import Callable, Iterator

import pytest
import torch

import fake_device

# These cannot throw: their failure shows in that the resource stays.
SILENT = {"device_free", "event_destroy"}
# These fail when a worker gets there, and then end the context.
ASYNCHRONOUS = {"copy_d2h_async", "copy_h2d_async", "launch_async"}
PAGE = 4096


def stream() -> torch.Stream:
    return torch.accelerator.current_stream()


class Uses:
    """One use of each call, by name. What a use needs is made here, before a failure is injected."""

    def __init__(self) -> None:
        self.x = torch.zeros(64, device="fake")
        self.y = torch.zeros(64, device="fake")
        self.tensors = [torch.zeros(64, device="fake") for _ in range(2)]
        self.event, self.end = (torch.Event("fake", enable_timing=True) for _ in range(2))
        self.event.record(stream())
        self.end.record(stream())
        self.events = [stream().record_event() for _ in range(2)]
        self.pages = torch.zeros(8 * PAGE, dtype=torch.uint8)
        self.locked, self.unlocked = self.pages.data_ptr(), self.pages.data_ptr() + 4 * PAGE
        fake_device.lock_pages(self.locked, PAGE)
        self.pinned_bytes = 1 << 20
        self.pinned = torch.empty(PAGE, dtype=torch.uint8).pin_memory()
        # Where a capture that could not be ended disturbs nobody.
        self.side = torch.Stream("fake:1")
        self.capture: fake_device.Capture | None = None
        torch.accelerator.synchronize()

    def end_capture(self) -> None:
        self.capture = self.capture or fake_device.capture(self.side, mode="relaxed")
        self.capture.end()
        self.capture = None

    def close(self) -> None:
        if self.capture is not None:
            self.end_capture()
        library = ctypes.CDLL(str(fake_device.library_path()))
        for address in (self.locked, self.unlocked):
            library.fake_unlock_pages(ctypes.c_void_p(address), PAGE)
        fake_device.last_error()

    def pin(self) -> None:
        self.pinned_bytes *= 2
        fake_device.empty_host_cache()
        torch.empty(self.pinned_bytes, dtype=torch.uint8).pin_memory()

    def free_pinned(self) -> None:
        torch.empty(self.pinned_bytes, dtype=torch.uint8).pin_memory()
        fake_device.empty_host_cache()

    def ask_for_address(self) -> None:
        library, address = ctypes.CDLL(str(fake_device.library_path())), ctypes.c_void_p()
        status = library.fake_device_address(ctypes.c_void_p(self.pinned.data_ptr()), 0, ctypes.byref(address))
        if status != 0:
            raise RuntimeError(f"fake_device_address answered {status}")

    def launch_and_wait(self) -> None:
        self.x.add_(1)
        torch.accelerator.synchronize()

    def by_name(self) -> dict[str, Callable[[], object]]:
        return {
            "device_alloc": lambda: torch.empty(100, device="fake"),
            "device_free": self.tensors.pop,
            "host_alloc": self.pin,
            "host_free": self.free_pinned,
            "lock_pages": lambda: fake_device.lock_pages(self.unlocked, PAGE),
            "unlock_pages": lambda: fake_device.unlock_pages(self.locked, PAGE),
            "device_address": self.ask_for_address,
            "stream_get": lambda: torch.Stream("fake"),
            "stream_query": lambda: stream().query(),
            "stream_synchronize": lambda: stream().synchronize(),
            "device_synchronize": torch.accelerator.synchronize,
            "event_create": lambda: torch.Event("fake").record(stream()),
            "event_record": lambda: self.event.record(stream()),
            "event_block": lambda: stream().wait_event(self.event),
            "event_query": lambda: self.event.query(),
            "event_synchronize": lambda: self.event.synchronize(),
            "event_elapsed": lambda: self.event.elapsed_time(self.end),
            "event_destroy": self.events.pop,
            "copy_d2h": lambda: self.x.cpu(),
            "copy_h2d": lambda: self.x.copy_(torch.ones(64)),
            "copy_d2d": lambda: self.x.copy_(self.y),
            "copy_d2h_async": lambda: self.x.cpu(),
            "copy_h2d_async": lambda: self.x.copy_(torch.ones(64)),
            "launch": lambda: self.x.add_(1),
            "launch_async": self.launch_and_wait,
            "begin_capture": lambda: fake_device.capture(self.side).end(),
            "end_capture": self.end_capture,
            "exchange_capture_mode": fake_device.current_capture_mode,
            "stream_is_capturing": fake_device.capture_status,
        }


@pytest.fixture
def uses() -> Iterator[dict[str, Callable[[], object]]]:
    made = Uses()
    yield made.by_name()
    fake_device.clear_failures()
    made.close()


def test_every_call_has_a_use(uses: dict[str, Callable[[], object]]) -> None:
    assert sorted(uses) == sorted(fake_device.call_names())


@pytest.mark.parametrize("call", fake_device.call_names())
def test_a_failure_surfaces_once(call: str, uses: dict[str, Callable[[], object]]) -> None:
    with fake_device.fail(call) as failure:
        if call in SILENT:
            uses[call]()
        else:
            with pytest.raises(RuntimeError):
                uses[call]()
        assert failure.delivered == 1
        if call not in ASYNCHRONOUS:
            fake_device.last_error()
            uses[call]()
            assert failure.delivered == 1


@pytest.mark.parametrize("call", fake_device.call_names())
def test_a_sticky_failure_ends_the_context(call: str, uses: dict[str, Callable[[], object]]) -> None:
    with fake_device.fail(call, sticky=True):
        if call in SILENT:
            uses[call]()
        else:
            with pytest.raises(RuntimeError):
                uses[call]()
        for other in uses.keys() - SILENT:
            with pytest.raises(RuntimeError):
                uses[other]()
    fake_device.last_error()
    torch.accelerator.synchronize()


@pytest.mark.parametrize("call", sorted(ASYNCHRONOUS))
def test_an_asynchronous_failure_surfaces_at_the_event(call: str) -> None:
    x = torch.zeros(64, device="fake")
    host = torch.zeros(64).pin_memory()
    with fake_device.fail(call):
        with fake_device.hold():
            host.copy_(x, non_blocking=True)
            x.copy_(host, non_blocking=True)
            x.add_(1)
            done = stream().record_event()
            assert not done.query()
        with pytest.raises(RuntimeError, match=f"ended by {call}"):
            done.synchronize()
        with pytest.raises(RuntimeError, match=f"ended by {call}"):
            torch.empty(3, device="fake")


@pytest.mark.parametrize("call", sorted(SILENT))
def test_a_silent_failure_leaves_the_resource(call: str) -> None:
    before = fake_device.counters()
    x, event = torch.zeros(64, device="fake"), stream().record_event()
    with fake_device.fail(call):
        del x, event
    after = fake_device.counters()
    left = {
        "device_free": after.device_bytes_live - before.device_bytes_live,
        "event_destroy": (after.event_creates - after.event_destroys) - (before.event_creates - before.event_destroys),
    }
    assert left[call] > 0
    assert [kind for kind, amount in left.items() if amount > 0] == [call]


def test_calls_may_pass_before_the_failure() -> None:
    x = torch.zeros(64, device="fake")
    with fake_device.fail("copy_d2h", after=2) as failure:
        x.cpu()
        x.cpu()
        assert failure.delivered == 0
        with pytest.raises(RuntimeError, match="copy_d2h failed: injected failure"):
            x.cpu()


def test_an_error_of_earlier_work_surfaces_at_another_call() -> None:
    x = torch.zeros(64, device="fake")
    with fake_device.hold(), fake_device.fail("launch_async"):
        x.add_(1)
        event = stream().record_event()
    with pytest.raises(RuntimeError, match="ended by launch_async"):
        event.synchronize()
    with pytest.raises(RuntimeError, match="ended by launch_async"):
        event.query()


def test_unknown_calls_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected the name of a call.*got 'cudaMalloc'"):
        fake_device.fail("cudaMalloc")
    with pytest.raises(ValueError, match="after=-1"):
        fake_device.fail("launch", after=-1)
