"""What only a process of its own can show: forbidden reads, forks, exits, builds."""

import signal
import subprocess
from collections.abc import Callable

import pytest

Script = Callable[[str], "subprocess.CompletedProcess[str]"]


def ran(result: "subprocess.CompletedProcess[str]") -> str:
    """Its output, after a silent and successful end."""
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


@pytest.mark.parametrize("access", ["ctypes.string_at(x.data_ptr(), 1)", "ctypes.memset(x.data_ptr(), 0, 1)"])
def test_the_host_cannot_touch_device_memory(script: Script, access: str) -> None:
    result = script(f"import ctypes; x = torch.zeros(4, device='fake'); x.cpu(); print('made', flush=True); {access}")
    assert (result.stdout.strip(), result.returncode) == ("made", -signal.SIGSEGV)


BUSY = {
    "idle": "x.add_(1)",
    "held": "latch = fake_device.hold(); x.add_(1); torch.zeros(3).pin_memory().copy_(x, non_blocking=True)",
    "copies held": "latch = fake_device.hold_copies(); h = torch.zeros(3).pin_memory(); h.copy_(x, non_blocking=True)",
    "busy": "[fake_device.compute(x, 0.001) for _ in range(100000)]",
    "large operators": "y = torch.zeros(1 << 20, device='fake'); [y.mul_(2) for _ in range(2000)]",
    "slow copy": "fake_device.set_copy_cost(latency=3600); torch.zeros(3).pin_memory().copy_(x, non_blocking=True)",
    "waiting thread": "import threading; latch = fake_device.hold(); x.add_(1)\n"
    "threading.Thread(target=torch.accelerator.synchronize, daemon=True).start()",
    "kept events": "latch = fake_device.hold(); sys.kept = (x, torch.accelerator.current_stream().record_event())",
}


@pytest.mark.parametrize("state", BUSY)
def test_the_exit_is_silent_and_does_not_hang(script: Script, state: str) -> None:
    assert ran(script(f"x = torch.zeros(3, device='fake')\n{BUSY[state]}\nprint('end')")) == "end"


@pytest.mark.parametrize("wait", ["torch.accelerator.synchronize()", "s.synchronize()", "e.synchronize()", "x.cpu()"])
def test_a_wait_releases_the_gil(script: Script, wait: str) -> None:
    source = f"""
import threading
x = torch.zeros(3, device='fake')
latch = fake_device.hold()
s = torch.accelerator.current_stream()
e = s.record_event()
thread = threading.Thread(target=latch.release)
sys.setswitchinterval(3600)
thread.start()
{wait}
print('waited')
"""
    assert ran(script(source)) == "waited"


FORK = """
child = os.fork()
if child == 0:
    {child}
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
{parent}
"""


def test_a_forked_child_gets_an_error_and_can_still_use_the_cpu(script: Script) -> None:
    child = """
    try:
        x + 1
    except RuntimeError as error:
        print('child:', error, flush=True)
    print(torch.ones(2).add(1).tolist(), torch.fake._is_in_bad_fork(), flush=True)
    del x
    """
    parent = "print(x.add(1).cpu().tolist())"
    source = "x = torch.zeros(3, device='fake'); x.cpu()" + FORK.format(child=child, parent=parent)
    lines = ran(script(source)).splitlines()
    assert "was in use when this process was forked" in lines[0]
    assert lines[1:] == ["[2.0, 2.0] True", "[1.0, 1.0, 1.0]"]


def test_a_child_forked_before_the_first_use_has_a_device(script: Script) -> None:
    child = "print(torch.ones(2, device='fake').cpu().tolist(), flush=True)"
    assert ran(script(FORK.format(child=child, parent=""))) == "[1.0, 1.0]"


def test_pinned_memory_is_shared_with_a_child_and_locked_pages_are_not(script: Script) -> None:
    source = """
driver = torch.zeros(4096, dtype=torch.uint8).pin_memory()
fake_device.set_host_memory(shared_with_children=False)
private = torch.zeros(8192, dtype=torch.uint8).pin_memory()
own = torch.zeros(4096, dtype=torch.uint8)
fake_device.lock_pages(own.data_ptr(), 4096)
""" + FORK.format(
        child="[t.fill_(7) for t in (driver, private, own)]",
        parent="print([int(t[0]) for t in (driver, private, own)])",
    )
    assert ran(script(source)) == "[7, 0, 0]"


def test_asking_for_an_address_does_not_fix_the_number_of_devices(script: Script) -> None:
    """Memory is reserved for as many as there are at the first use, not for those at an earlier question."""
    ask = """
import ctypes
worker_address = ctypes.CDLL(str(fake_device.library_path())).fake_worker_address
worker_address.argtypes, worker_address.restype = [ctypes.c_void_p], ctypes.c_void_p
word = ctypes.create_string_buffer(8)
assert worker_address(ctypes.addressof(word)) is None
fake_device.configure(devices=8)
print(torch.full((3,), 7, device="fake:7").cpu().tolist())
"""
    assert ran(script(ask)) == "[7, 7, 7]"


def test_the_number_of_devices_is_set_before_the_first_use(script: Script) -> None:
    source = """
fake_device.configure(devices=8)
print(torch.accelerator.device_count(), torch.ones(1, device='fake:7').device)
try:
    fake_device.configure(devices=1)
except RuntimeError as error:
    print(error)
"""
    first, second = ran(script(source)).splitlines()
    assert first == "8 fake:7"
    assert "before their first use" in second


def test_two_processes_may_build_at_once(tmp_path: object, script: Script) -> None:
    source = f"""
import pathlib, threading
from fake_device import build
build._BUILD = pathlib.Path({str(tmp_path)!r})
compiled = []
def compile(folder, target):
    compiled.append(target)
    target.write_bytes(b'')
build._compile = compile
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        build.library_path()
        os._exit(10 + len(compiled))
    children.append(child)
print(sum(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) - 10 for child in children))
"""
    assert ran(script(source)) == "1"
