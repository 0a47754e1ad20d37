"""Contract 12: what a forked child refuses, what it converts, and how it ends."""

from __future__ import annotations

from types import ModuleType

import pytest
from helpers import assert_silent, run_script
from test_exit import PRELUDE

from torch_np_bridge.config import EngineChoice

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
