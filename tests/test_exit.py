"""Contract 12: the end of the process is silent, whatever is in flight."""

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


FAILING: dict[str, str] = {
    "in flight": "latch = fake_device.hold(); transfer = tnb.to_numpy_async([x, x[::2]])",
    "in flight to ordinary memory": """
latch = fake_device.hold_copies(); bridge = tnb.Bridge(pinned_limit=0); transfer = bridge.to_numpy_async(x)""",
    "in the middle of a pipeline": "pipeline = tnb.prefetch_to_host(x for _ in range(9)); array = next(pipeline)",
    "inside of a Bridge": "entered = tnb.Bridge(); stack.enter_context(entered); transfer = entered.to_numpy_async(x)",
}


@pytest.mark.parametrize("where", FAILING)
def test_exit_after_an_unhandled_exception(chosen: str, where: str) -> None:
    """Its traceback, and nothing of ours after it; what is in flight is kept by the frames that it names."""
    made = FAILING[where]
    if chosen == "python":
        made = made.replace("fake_device.hold()", "None").replace("fake_device.hold_copies()", "None")
    finished = run_script(
        PRELUDE + f"import contextlib\ndef main(stack):\n    exec({made!r})\n    raise LookupError('of the program')\n"
        "with contextlib.ExitStack() as stack:\n    main(stack)"
    )
    first, *frames, last = finished.stderr.splitlines()
    assert finished.returncode == 1
    assert (first, last) == ("Traceback (most recent call last):", "LookupError: of the program")
    assert all(frame.startswith("  ") for frame in frames), finished.stderr


@pytest.mark.parametrize("exit_", EXITS_WITH_THREADS)
@pytest.mark.parametrize("engine", ["native"], indirect=True)
def test_exit_of_threads_is_silent(chosen: str, exit_: str) -> None:
    assert_silent(run_script(PRELUDE + EXITS_WITH_THREADS[exit_]))
