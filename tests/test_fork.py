"""Contract 12: an array that a forked child inherits stays what it was while the parent goes on."""

from __future__ import annotations

import pytest
from helpers import assert_silent, run_script

PRELUDE = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
import numpy as np, torch, fake_device, torch_np_bridge as tnb

if os.environ["HOST_PAGES"] != "torch's":
    import fake_driver
    fake_driver.register(own_pages=os.environ["HOST_PAGES"] == "own")

def fill(value, count=100_000):
    return torch.full((count,), float(value), device="fake")

class Child:
    # Made by a fork; runs `function` when it is told to, and its assertions are the parent's.
    def __init__(self, function):
        reads, self.go = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.read(reads, 1)
                function()
                status = 0
            finally:
                os._exit(status)

    def run(self):
        os.write(self.go, b"1")
        assert os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]) == 0
"""


@pytest.fixture(autouse=True, params=["python", "native allocated", "native own"])
def chosen(request: pytest.FixtureRequest, fake: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of every script here; of the native one both kinds of page-locked memory."""
    engine, _, pages = request.param.partition(" ")
    if pages:
        request.getfixturevalue("native")
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", engine)
    monkeypatch.setenv("HOST_PAGES", pages or "torch's")
    return str(request.param)


# The Python engine is synchronous and holds no memory, and a child has its own copy of pages that are locked in place:
# what is about the one or the other is not asked of the rest.
native = pytest.mark.parametrize("chosen", ["native allocated", "native own"], indirect=True)
allocated = pytest.mark.parametrize("chosen", ["native allocated"], indirect=True)
own = pytest.mark.parametrize("chosen", ["native own"], indirect=True)


@pytest.mark.parametrize("shared", [True, False])
def test_the_parent_drops_its_array_and_goes_on(shared: bool) -> None:
    """Both kinds of host memory: shared with a child, as a driver's is, and private."""
    body = f"""
fake_device.set_host_memory(shared_with_children={shared})
array = tnb.to_numpy(fill(1))
def inherited():
    assert (array == 1).all(), array
child = Child(inherited)
del array
for value in range(2, 30):
    assert (tnb.to_numpy(fill(value)) == value).all()
child.run()
"""
    assert_silent(run_script(PRELUDE + body))


@native
def test_a_copy_in_flight_at_the_fork() -> None:
    """The child inherits the block before the parent has its array."""
    body = """
latch = fake_device.hold()
transfer = tnb.to_numpy_async(fill(1))
latch.release()
child = Child(lambda: None)
array = transfer.result()
address = array.ctypes.data
del array, transfer
again = [tnb.to_numpy(fill(2)) for _ in range(5)]
assert (address in [one.ctypes.data for one in again]) == (os.environ["HOST_PAGES"] == "own")
child.run()
"""
    assert_silent(run_script(PRELUDE + body))


@allocated
def test_inherited_memory_is_counted_and_freed() -> None:
    body = """
array = tnb.to_numpy(fill(1))
def inherited():
    assert (array == 1).all()
child = Child(inherited)
assert tnb.stats().inherited_bytes >= array.nbytes
del array
assert tnb.stats().leased_bytes == 0 and tnb.stats().held_bytes > 0
tnb.trim()
assert (tnb.stats().inherited_bytes, tnb.stats().held_bytes) == (0, 0)
# What was freed lies in no cache from which it could come back.
kept = [tnb.to_numpy(fill(2)) for _ in range(5)]
child.run()
"""
    assert_silent(run_script(PRELUDE + body))


@native
def test_what_lies_in_the_cache_of_the_allocator_is_not_taken_by_another_bridge() -> None:
    """A busy copy stream keeps freed memory there."""
    body = """
first, second = tnb.Bridge(pinned_limit="2MiB"), tnb.Bridge(pinned_limit="64MiB")
second.to_numpy(fill(0))
array = first.empty(200_000, np.float32)
array[:] = 1
def inherited():
    assert (array == 1).all()
child = Child(inherited)
address = array.ctypes.data
del array
large = fill(2, 400_000)
with fake_device.hold() as latch:
    pending = [second.to_numpy_async(fill(2))]
    pending.append(first.to_numpy_async(large))  # there is room for it only without the first slab
    kept = [second.empty(250_000, np.float32) for _ in range(8)]  # slabs of the size of the first one
    assert address not in [one.ctypes.data for one in kept]
    for one in kept: one[:] = 2
    latch.release()
assert all((transfer.result() == 2).all() for transfer in pending)
child.run()
"""
    assert_silent(run_script(PRELUDE + body))


@native
def test_a_fork_in_every_epoch_with_live_arrays_does_not_end_up_staged() -> None:
    """As a DataLoader does it. Each epoch drops the arrays of the last one; the limit has room for a few epochs."""
    body = """
bridge = tnb.Bridge(pinned_limit="40MiB")
kept = None
for epoch in range(20):
    fresh = [bridge.to_numpy(fill(epoch)) for _ in range(8)]
    kept = fresh
    expected = float(epoch)
    def inherited():
        assert all((array == expected).all() for array in kept)
    Child(inherited).run()
# At the limit a busy device may be late to let go of a slab; without that the limit ends it after a few epochs.
assert bridge.stats().unpooled_leaves <= 16 < bridge.stats().transfers, bridge.stats()
"""
    assert_silent(run_script(PRELUDE + body))


def test_a_fork_while_other_threads_convert(chosen: str) -> None:
    """No lock of the pool is held for good in the child, and no child sees a value change."""
    body = """
import threading
going = True
def convert():
    value = 0
    while going:
        value += 1
        tnb.to_numpy(fill(value, 1000))
threads = [threading.Thread(target=convert) for _ in range(3)]
for thread in threads: thread.start()
for turn in range(30):
    array = tnb.to_numpy(fill(turn, 1000))
    def inherited():
        assert (array == turn).all()
        tnb.stats()
        tnb.trim()
        assert tnb.to_numpy(torch.ones(3)).tolist() == [1, 1, 1]
    child = Child(inherited)
    current, array = array, None
    del current
    array = None
    child.run()
going = False
for thread in threads: thread.join()
"""
    assert_silent(run_script(PRELUDE + body))


@allocated
def test_a_fork_while_other_threads_ask_what_has_ended() -> None:
    """They take a lock to do so, of one device's copies after the other's, and the child is not to wait for any."""
    body = """
import signal, threading
leaves = [torch.ones(3, device=f"fake:{index}") for index in range(torch.accelerator.device_count())]
transfer = tnb.to_numpy_async(leaves)
transfer.result()
going = True
def ask():
    while going:
        transfer.done()
threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
for thread in threads: thread.start()
def ended():
    signal.alarm(30)  # else it would wait for good
    assert transfer.done()
for _ in range(60):
    Child(ended).run()
going = False
for thread in threads: thread.join()
"""
    assert_silent(run_script(PRELUDE + body, FAKE_DEVICES="8"))


@allocated
def test_a_profile_of_the_parent_does_not_see_the_child() -> None:
    """Another thread may have had one of its locks at the fork; the child may have one of its own."""
    body = """
with tnb.profile() as profile:
    transfer = tnb.to_numpy_async(fill(1))
    while not transfer.done(): pass
    def convert():
        assert (transfer.result() == 1).all()
        tnb.to_numpy(torch.ones(3))
        [call] = profile.calls
        assert call.waits == (), call
        with tnb.profile() as own:
            tnb.to_numpy(torch.ones(3))
        assert len(own.calls) == 1, own.calls
    Child(convert).run()
    tnb.to_numpy(torch.ones(3))
assert len(profile.calls) == 2, profile.calls
"""
    assert_silent(run_script(PRELUDE + body))


def test_a_child_of_a_profiled_python_engine_has_a_profile_of_its_own() -> None:
    body = """
bridge = tnb.Bridge(engine="python")
with bridge.profile() as profile:
    bridge.to_numpy(torch.ones(3))
    def convert():
        bridge.to_numpy(torch.ones(3))
        [call] = profile.calls
        with bridge.profile() as own:
            bridge.to_numpy(torch.ones(3))
        assert len(own.calls) == 1, own.calls
    Child(convert).run()
assert len(profile.calls) == 1, profile.calls
"""
    assert_silent(run_script(PRELUDE + body))


@own
def test_of_pages_of_our_own_only_what_is_in_use_is_inherited() -> None:
    """Idle slabs would be copied for each child, page by page. The next child finds what was idle at the first fork."""
    body = """
big, small = 1_000_000, 1000
kept, idle = tnb.to_numpy(fill(1, small)), tnb.to_numpy(fill(2, big))
address = idle.ctypes.data
del idle
def mapped():
    with open("/proc/self/maps") as maps:
        ranges = [[int(end, 16) for end in line.split()[0].split("-")] for line in maps]
    return any(begin <= address < end for begin, end in ranges)
def first():
    assert not mapped()
    assert (kept == 1).all()
    grandchild = Child(lambda: None)  # what lies there now is not touched when the child forks in its turn
    grandchild.run()
Child(first).run()
assert mapped()
again = tnb.to_numpy(fill(3, big))
assert again.ctypes.data == address
def second():
    assert (kept == 1).all() and (again == 3).all()
child = Child(second)
again[:] = 4
del again
assert tnb.to_numpy(fill(5, big)).ctypes.data == address
child.run()
assert tnb.stats().inherited_bytes == 0
"""
    assert_silent(run_script(PRELUDE + body))


@own
def test_a_child_of_a_child_inherits_what_lies_where_idle_memory_was() -> None:
    body = """
import ctypes, mmap
idle = tnb.to_numpy(fill(2, 1_000_000))
page = idle.ctypes.data & -mmap.PAGESIZE
del idle
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
def child():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100000  # MAP_FIXED_NOREPLACE
    assert libc.mmap(page, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) == page
    ctypes.memset(page, 7, 1)
    def grandchild():
        assert ctypes.string_at(page, 1) == bytes([7])
    Child(grandchild).run()
Child(child).run()
"""
    assert_silent(run_script(PRELUDE + body))
