"""Calls that block: submitting to a full stream, and host memory that waits for all streams."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

import fake_device

PAGE = 4096


class Call:
    """A call on a thread of its own, which has either ended or is seen to block."""

    def __init__(self, call: Callable[[], object], counter: str) -> None:
        self._counter = counter
        self._before = self._blocked()
        self._thread = threading.Thread(target=call)
        self._thread.start()

    def _blocked(self) -> int:
        return int(getattr(fake_device.counters(), self._counter))

    def blocks(self) -> bool:
        """Waits until one or the other shows. A call that counts its wait and then does not wait has time to end."""
        while self._thread.is_alive() and self._blocked() == self._before:
            time.sleep(0)
        self._thread.join(0.05)
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


def current() -> torch.Stream:
    return torch.accelerator.current_stream()


def test_a_full_stream_blocks_the_submitter_until_one_has_begun() -> None:
    x = torch.zeros(1, dtype=torch.int64, device="fake")
    torch.accelerator.synchronize()
    fake_device.set_queue_limit(2)
    with fake_device.hold():
        x.fill_(1)
        behind = current().record_event()
        further = Call(lambda: x.add_(1), "queue_waits")
        assert further.blocks()
        assert not behind.query()
    further.join()
    assert x.item() == 2


OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Event], object]] = {
    "operator": lambda x, host, event: x.add_(1),
    "copy to the host": lambda x, host, event: host.copy_(x, non_blocking=True),
    "copy to the device": lambda x, host, event: x.copy_(host, non_blocking=True),
    "copy on the device": lambda x, host, event: x[:4].copy_(x[4:]),
    "record": lambda x, host, event: current().record_event(event),
    "wait": lambda x, host, event: current().wait_event(event),
    "compute": lambda x, host, event: fake_device.compute(x),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_takes_a_place(operation: str) -> None:
    x, y, host = torch.zeros(8, device="fake"), torch.zeros(8, device="fake"), torch.zeros(8).pin_memory()
    event = torch.Stream("fake").record_event()
    torch.accelerator.synchronize()
    fake_device.set_queue_limit(1)
    with fake_device.hold():
        OPERATIONS[operation](x, host, event)
        # An operator: torch's bindings of events keep the GIL, and would block with it.
        further = Call(lambda: y.add_(1), "queue_waits")
        assert further.blocks()
    further.join()
    torch.accelerator.synchronize()


def test_what_is_no_operation_never_blocks_on_a_full_stream() -> None:
    x, y = torch.zeros(8, device="fake"), torch.zeros(8, device="fake")
    side = torch.Stream("fake")
    event = torch.Event("fake")
    torch.accelerator.synchronize()
    before = fake_device.counters().queue_waits
    fake_device.set_queue_limit(1)
    with fake_device.hold(), fake_device.hold():
        event.record(current())
        assert not event.query()
        assert not current().query()
        with side:
            event.record(side)
        y.record_stream(side)
        del x, y
    torch.accelerator.synchronize()
    assert fake_device.counters().queue_waits == before


def test_a_full_stream_blocks_no_other_one() -> None:
    x = torch.zeros(8, device="fake")
    side = torch.Stream("fake")
    torch.accelerator.synchronize()
    fake_device.set_queue_limit(1)
    with fake_device.hold():
        current().record_event()
        with side:
            assert x.cpu().eq(0).all()


def test_lifting_the_limit_lets_the_submitter_go_on() -> None:
    x = torch.zeros(8, device="fake")
    torch.accelerator.synchronize()
    fake_device.set_queue_limit(1)
    with fake_device.hold():
        x.fill_(1)
        further = Call(lambda: x.add_(1), "queue_waits")
        assert further.blocks()
        fake_device.set_queue_limit(None)
        further.join()
    assert x.cpu().eq(2).all()


def test_an_unsensible_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="expected at least one operation"):
        fake_device.set_queue_limit(0)


class HostMemory:
    """One use of each call that allocates, frees, locks or unlocks host memory."""

    def __init__(self) -> None:
        self.pages = torch.zeros(8 * PAGE, dtype=torch.uint8)
        self.locked = False

    def allocate(self) -> None:
        torch.empty(3 << 20, dtype=torch.uint8).pin_memory()

    def free(self) -> None:
        fake_device.empty_host_cache()

    def lock(self) -> None:
        fake_device.lock_pages(self.pages.data_ptr(), PAGE)
        self.locked = True

    def unlock(self) -> None:
        fake_device.unlock_pages(self.pages.data_ptr(), PAGE)
        self.locked = False


@pytest.mark.parametrize("call", ["allocate", "free", "lock", "unlock"])
@pytest.mark.parametrize("waits", [True, False])
def test_host_memory_waits_for_every_stream_where_that_is_switched_on(call: str, waits: bool) -> None:
    memory = HostMemory()
    fake_device.empty_host_cache()
    if call == "free":
        memory.allocate()
    if call == "unlock":
        memory.lock()
    stream = torch.Stream("fake:1")
    torch.accelerator.synchronize(1)
    fake_device.set_host_memory(waits_for_streams=waits)
    seen: list[bool] = []
    with fake_device.hold(stream):
        held = stream.record_event()

        def run() -> None:
            getattr(memory, call)()
            seen.append(held.query())

        blocking = Call(run, "host_memory_waits")
        assert blocking.blocks() == waits
    blocking.join()
    assert seen == [waits]
    fake_device.set_host_memory()
    if memory.locked:
        memory.unlock()


def test_cached_page_locked_memory_is_reused_without_a_wait() -> None:
    torch.empty(5 << 20, dtype=torch.uint8).pin_memory()
    fake_device.set_host_memory(waits_for_streams=True)
    before = fake_device.counters().host_memory_waits
    with fake_device.hold():
        torch.empty(5 << 20, dtype=torch.uint8).pin_memory()
    assert fake_device.counters().host_memory_waits == before
