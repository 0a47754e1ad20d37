"""Contexts and current devices: made by a plain set and by use, never by a guard that restores."""

import ctypes
import threading
from collections.abc import Callable

import pytest
import torch

import fake_device

from .conftest import Script


def in_a_fresh_thread(work: Callable[[], None]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


CLEAN = {
    "module guard": "with torch.fake.device(1): pass",
    "torch guard": "with torch.accelerator.device_index(1): torch.zeros(3, device='fake')",
    "operator": "torch.zeros(3, device='fake:1').add_(1).cpu()",
    "query": "s = torch.Stream('fake:1'); s.query(); s.synchronize()",
    "page-locked memory": "torch.zeros(3, device='fake:1').cpu(); torch.zeros(3).pin_memory()",
}
STRAY = {
    "plain set": "torch.fake.set_device(1); torch.fake.set_device(0)",
    "record outside a guard": "torch.Event('fake').record(torch.accelerator.current_stream(1))",
    "page-locked memory first": "torch.zeros(3).pin_memory(); torch.zeros(3, device='fake:1')",
}


@pytest.mark.parametrize("case", CLEAN | STRAY)
def test_a_stray_context_of_a_fresh_thread_is_counted(script: Script, case: str) -> None:
    source = f"""
import threading
def work():
    {(CLEAN | STRAY)[case]}
thread = threading.Thread(target=work)
thread.start()
thread.join()
print([fake_device.counters(i).contexts for i in (0, 1)])
"""
    result = script(source)
    assert (result.stdout.strip(), result.stderr) == ("[0, 1]" if case in CLEAN else "[1, 1]", "")


def test_plain_sets_are_counted_where_both_contexts_exist_already() -> None:
    stream = torch.Stream("fake:1")
    event = torch.Event("fake")
    torch.zeros(3, device="fake:0").cpu()

    def record_within_a_guard() -> None:
        with torch.fake.device(1):  # type: ignore[attr-defined]
            event.record(stream)

    fake_device.reset_counters()
    in_a_fresh_thread(record_within_a_guard)
    assert (fake_device.counters(0).device_sets, fake_device.counters(1).device_sets) == (0, 3)
    in_a_fresh_thread(lambda: event.record(stream))
    assert fake_device.counters(0).device_sets == 1


def test_each_thread_has_a_current_device_of_its_own() -> None:
    seen = []

    def look() -> None:
        seen.append(torch.accelerator.current_device_index())

    with torch.fake.device(1):  # type: ignore[attr-defined]
        in_a_fresh_thread(look)
        look()
    look()
    assert seen == [0, 1, 0]


def test_after_a_lazy_restore_the_driver_is_still_where_it_was_set(script: Script) -> None:
    source = """
import ctypes
library = ctypes.CDLL(str(fake_device.library_path()))
with torch.fake.device(1):
    stream = ctypes.c_void_p(torch.accelerator.current_stream(1).native_handle)
event = ctypes.c_void_p()
print(torch.accelerator.current_device_index(), library.fake_event_create(ctypes.byref(event)))
print(library.fake_event_record(event, stream), fake_device.last_error())
with torch.fake.device(1):
    print(library.fake_event_record(event, stream))
print([fake_device.counters(i).contexts for i in (0, 1)])
with torch.fake.device(0):
    print(library.fake_event_create(ctypes.byref(event)), [fake_device.counters(i).contexts for i in (0, 1)])
"""
    result = script(source)
    assert result.stderr == ""
    first, second, *others = result.stdout.splitlines()
    assert first == "0 0"
    assert second.startswith("1 expected fake:1, the event's device, to be the current one, got fake:0")
    assert others == ["0", "[0, 1]", "0 [1, 1]"]


def test_the_last_error_is_the_threads_own() -> None:
    library = ctypes.CDLL(str(fake_device.library_path()))
    seen = []

    def fail_here() -> None:
        library.fake_unlock_pages(ctypes.c_void_p(12345), 1)
        seen.append(fake_device.last_error() is not None)
        library.fake_unlock_pages(ctypes.c_void_p(12345), 1)

    in_a_fresh_thread(fail_here)
    assert seen == [True]
    assert fake_device.last_error() is None
    torch.zeros(1, device="fake").add_(1)


def test_an_event_made_without_any_set_belongs_to_device_0(script: Script) -> None:
    source = """
import ctypes
event = ctypes.c_void_p()
print(ctypes.CDLL(str(fake_device.library_path())).fake_event_create(ctypes.byref(event)))
print([fake_device.counters(i).contexts for i in (0, 1)])
"""
    assert script(source).stdout.splitlines() == ["0", "[1, 0]"]
