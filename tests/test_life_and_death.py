"""Contract 12: the end of the process, and its children."""

from __future__ import annotations

from types import ModuleType

import pytest
from helpers import assert_silent, run_script

from torch_np_bridge.config import EngineChoice

PRELUDE = """
import gc, os, sys, threading, torch, fake_device, torch_np_bridge as tnb
x = torch.ones(100_000, device="fake")
warm = tnb.to_numpy(x)
"""
# A child ends with the status of its assertions; the parent waits for it, and no test hangs on it.
FORK = """
def in_child(function):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
FORKING = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"  # Python 3.12: threads and fork


@pytest.fixture(autouse=True)
def chosen(engine: EngineChoice, fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of every script here."""
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", engine)
    return engine


EXITS = {
    "with a copy in flight": "latch = fake_device.hold(); transfer = tnb.to_numpy_async(x)",
    "with dropped copies in flight": """
latch = fake_device.hold()
for _ in range(100):
    tnb.to_numpy_async([x, x[::2]])
""",
    "with arrays alive": "arrays = [tnb.to_numpy(x) for _ in range(10)]; sys.arrays = arrays",
    "with a cycle": """
class Cycle: pass
cycle = Cycle(); cycle.me = cycle; cycle.bridge = tnb.Bridge(); cycle.transfer = cycle.bridge.to_numpy_async(x)
gc.disable(); del cycle
""",
    "with slow copies": "fake_device.set_copy_cost(latency=0.2); kept = [tnb.to_numpy_async(x) for _ in range(3)]",
    "on a lost device": """
transfer = tnb.to_numpy_async(x)
fake_device.fail("event_record", sticky=True)
try: tnb.to_numpy(x)
except RuntimeError: pass
""",
    "with transfers in atexit": "import atexit; atexit.register(lambda: tnb.to_numpy_async(x).result())",
}


WAITING = """
started = threading.Event()
def wait():
    started.set()
    transfer.result()
threading.Thread(target=wait, daemon=True).start()
started.wait()
"""
# Under the Python engine such a thread is in the middle of a call of torch, whose affair that is.
EXITS_WITH_THREADS = {
    "with a thread that waits": f"""
latch = fake_device.hold()
transfer = tnb.to_numpy_async(x)
{WAITING}""",
    "with a thread that converts": """
started = threading.Event()
part = x[::2]  # slicing and flattening give the GIL away in other libraries, which end as they can
def convert():
    while True:
        tnb.to_numpy(part)
        started.set()
threading.Thread(target=convert, daemon=True).start()
started.wait()
""",
    "with a thread that converts trees": """
started = threading.Event()
part, deep = x[::2], [x[:7]]
for _ in range(100): deep = [x, {"in": (deep,)}]
tree = {"a": x, "b": [part, (x, None, {"c": part})], 3: [part] * 100, "deep": deep, None: {}}
def convert():
    while True:
        tnb.to_numpy(tree)
        started.set()
threading.Thread(target=convert, daemon=True).start()
started.wait()
""",
    "with a thread that waits for ordinary memory": f"""
latch = fake_device.hold_copies()
staged = tnb.Bridge(pinned_limit=0)
transfer = staged.to_numpy_async(x)
{WAITING}""",
    "with a thread whose storage Python knows": """
started = threading.Event()
part = x[::2]
storage = part.untyped_storage()
def convert():
    while True:
        tnb.to_numpy_async(part).done()
        started.set()
threading.Thread(target=convert, daemon=True).start()
started.wait()
""",
}


@pytest.mark.parametrize("exit_", EXITS)
def test_exit_is_silent(chosen: str, exit_: str) -> None:
    source = EXITS[exit_]
    if chosen == "python":
        # A synchronous call under a latch would be the test's own deadlock.
        source = source.replace("fake_device.hold()", "None")
    assert_silent(run_script(PRELUDE + source))


# Registered before the package is imported, so run when its workers have stopped already.
LATE: dict[str, str] = {
    "a conversion": "assert bridge.to_numpy(x)[-1] == bridge.to_numpy_async(x).result()[0] == 1",
    "a stream that is blocked": "transfer.block_stream(); bridge.to_numpy_async(x).block_stream()",
    "a result that never comes": """
try: transfer.result()
except RuntimeError as error: assert "got one that exits; wait for result() before the end" in str(error), error
else: raise AssertionError("garbage was handed out")""",
    "the end of a Bridge": "bridge.close()",
}


# By one synchronous copy, or through a ring, for arrays of the caller's.
STAGED = {"plainly": ("pinned_limit=0", ""), "by a ring": ("", ", out=numpy.empty(x.shape, numpy.float32)")}


# What is converted late is pooled beside a ring, and would wait for the latch.
@pytest.mark.parametrize(
    ("late", "staged"), [*((late, "plainly") for late in LATE), ("a result that never comes", "by a ring")]
)
@pytest.mark.parametrize("engine", ["native"], indirect=True)
def test_what_is_done_late_at_exit_does_not_hang(chosen: str, late: str, staged: str) -> None:
    """Staged copies need a worker."""
    limit, out = STAGED[staged]
    assert_silent(
        run_script(
            f"import atexit\n@atexit.register\ndef late():\n    exec({LATE[late]!r}, globals())\n"
            + PRELUDE
            + f"""
import numpy
x = torch.ones(3_000_000, device="fake")
bridge = tnb.Bridge({limit})
torch.accelerator.synchronize()
side = torch.Stream("fake")
with side:
    latch = fake_device.hold(side)
    transfer, following = bridge.to_numpy_async(x{out}), bridge.to_numpy_async(x{out})
"""
        )
    )


@pytest.mark.parametrize("exit_", EXITS_WITH_THREADS)
@pytest.mark.parametrize("engine", ["native"], indirect=True)
def test_exit_of_threads_is_silent(chosen: str, exit_: str) -> None:
    assert_silent(run_script(PRELUDE + EXITS_WITH_THREADS[exit_]))


def test_a_child_refuses_accelerators_and_converts_the_rest(chosen: str) -> None:
    assert_silent(
        run_script(
            FORKING
            + PRELUDE
            + FORK
            + """
empty = torch.empty(0, device="fake")
def child():
    assert (warm == 1).all()
    for tree in (x, [torch.ones(2), x[::2]]):
        for function in (tnb.to_numpy, tnb.to_numpy_async, tnb.Bridge().to_numpy):
            try:
                result = function(tree)
                if isinstance(result, tnb.Transfer):
                    result.result()
            except RuntimeError as error:
                assert "'spawn'" in str(error), error
                assert tnb.engine_info().engine == "python" or "torch_np_bridge" in str(error), error
            else:
                raise AssertionError("an accelerator worked in a forked child")
    part = torch.arange(6.0).view(2, 3).t()
    for function in (tnb.to_numpy, tnb.Bridge().to_numpy):
        assert function(part).tolist() == [[0, 3], [1, 4], [2, 5]]
        assert function({"a": part.to(torch.complex64).conj()})["a"].shape == (3, 2)
        assert function(part, copy=True).strides == part.numpy().strides
in_child(child)
assert tnb.to_numpy(x)[0] == 1
"""
        )
    )


@pytest.mark.parametrize("limit", ["1GiB", "0"], ids=["page-locked", "staged"])
def test_a_child_made_in_flight(chosen: str, limit: str) -> None:
    """The child may drop what it inherits, and asking for it ends with an error instead of a hang."""
    hold = "None" if chosen == "python" else "fake_device.hold()"
    assert_silent(
        run_script(
            FORKING
            + PRELUDE
            + FORK
            + f"""
bridge = tnb.Bridge(pinned_limit={limit!r})
latch = {hold}
transfer = bridge.to_numpy_async(x)
ended = transfer.done()
def child():
    global transfer, bridge
    if ended:
        assert (transfer.result() == 1).all()
    else:
        for call in ("result(timeout=30)", "block_stream()"):
            try:
                eval(f"transfer.{{call}}")
            except RuntimeError as error:
                assert "got a fork" in str(error) and "spawn" in str(error), error
            else:
                raise AssertionError("garbage was handed out")
    assert tnb.to_numpy(torch.ones(3)).tolist() == [1, 1, 1]
    del transfer
    bridge.close()
    assert len(os.listdir("/proc/self/task")) == 1  # no worker was started
    del bridge
    gc.collect()
in_child(child)
if latch: latch.release()
assert (transfer.result() == 1).all()
"""
        )
    )


def test_a_child_that_exits_like_any_process(chosen: str) -> None:
    assert_silent(
        run_script(
            FORKING
            + PRELUDE
            + """
transfer = tnb.to_numpy_async(x)
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (transfer.result() == 1).all()
"""
        )
    )


def test_a_child_of_a_thread_that_held_every_lock(chosen: str) -> None:
    """The thread is not there in the child to let go of them."""
    assert_silent(
        run_script(
            FORKING
            + PRELUDE
            + FORK
            + """
import collections, signal
from torch_np_bridge import _classes, transfer
held, done = threading.Event(), threading.Event()
def hold():
    with _classes._lock, transfer._storing:
        held.set()
        done.wait()
holder = threading.Thread(target=hold, daemon=True)
holder.start()
held.wait()
class Unseen(collections.UserDict): pass
def child():
    signal.alarm(30)  # else it would wait for good, for what nobody holds
    print(tnb.to_numpy_async(Unseen(a=torch.ones(3))).result()["a"].sum())
in_child(child)
done.set()
holder.join()
""",
        ),
        output="3.0\n",
    )
