"""`TORCH_NP_BRIDGE_DEBUG=1`: poison, and the lines of code behind what went wrong. Read once, so in processes."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import require
from helpers import ROOT, run_script

from torch_np_bridge._debug import line_of_user
from torch_np_bridge.config import EngineChoice, read_settings

PRELUDE = """
import fake_device, fake_driver, torch
fake_driver.register()
import numpy as np
import torch_np_bridge as tnb
def ones(count): return torch.ones(count, device="fake")
"""


def said(script: str, debug: str = "1", **environ: str) -> str:
    """What a script says on standard error; its first line is number 8."""
    require("native")
    require("fake")
    finished = run_script(PRELUDE + script, TORCH_NP_BRIDGE_DEBUG=debug, TORCH_NP_BRIDGE_ENGINE="native", **environ)
    assert finished.returncode == 0, finished.stderr
    return finished.stderr


POISON = """
array = tnb.to_numpy(ones(1000))
import ctypes
kept = (ctypes.c_uint8 * 4000).from_address(array.ctypes.data)
before = bytes(kept)
del array
tnb.stats()
assert before == np.ones(1000, np.float32).tobytes()
print(*sorted(set(kept)))
"""


@pytest.mark.parametrize(("debug", "found"), [("1", "213"), ("0", "0 63 128")])
def test_memory_that_came_back_is_poisoned(debug: str, found: str) -> None:
    require("native")
    require("fake")
    finished = run_script(PRELUDE + POISON, TORCH_NP_BRIDGE_DEBUG=debug, TORCH_NP_BRIDGE_ENGINE="native")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"{found}\n"


def test_what_a_child_has_inherited_is_not_poisoned() -> None:
    """The memory is shared, and its array is to stay what it was."""
    script = """
import os
array = tnb.to_numpy(ones(1000))
ready, go = os.pipe()
child = os.fork()
if child == 0:
    os.read(ready, 1)
    os._exit(0 if (array == 1).all() else 1)
del array
tnb.stats()
os.write(go, b"x")
assert os.waitpid(child, 0)[1] == 0
"""
    said(script)


def test_a_transfer_that_is_dropped() -> None:
    script = """
tnb.to_numpy_async(ones(3))
tnb.to_numpy_async(ones(3)).result()
tnb.to_numpy_async(ones(3)).add_done_callback(print)
tnb.to_numpy_async(ones(3)).block_stream()
tnb.to_numpy(ones(3))
bridge = tnb.Bridge()
bridge.to_numpy_async(ones(3))
tnb.stats()
transfer = tnb.to_numpy_async(ones(3), out=np.empty(3, np.float32))
while not transfer.done(): pass
del transfer
"""
    assert said(script).splitlines() == [
        f"<string>:{line}: expected somebody to wait for the Transfer, and it was dropped; keep it" for line in (8, 14)
    ]
    assert said(script, debug="0") == ""


def test_code_beside_the_package_is_the_users() -> None:
    """A file of theirs may lie beside it, and begin with its name."""
    path = str(ROOT / "torch_np_bridge_of_mine.py")
    names: dict[str, Any] = {"line_of_user": line_of_user}
    exec(compile("line = line_of_user()", path, "exec"), names)
    assert names["line"] == f"{path}:1"


def test_a_source_that_was_changed() -> None:
    script = """
source = ones(3)
with fake_device.hold():
    transfer = tnb.to_numpy_async(
        source)
    source.add_(1)
try:
    transfer.result()
except tnb.SourceMutatedError as error:
    assert str(error).startswith("tree: expected a source that stays as it is")
    assert str(error).endswith("it was submitted at <string>:10"), error
else:
    raise AssertionError
"""
    assert said(script) == ""


def test_a_larger_tensor_that_was_changed() -> None:
    """It proves nothing, so nothing is raised; a line is named once, and no change after the end or behind a wait."""
    script = """
buffer = torch.zeros(4, 3, device="fake")
for _ in range(2):
    with fake_device.hold():
        changed = tnb.to_numpy_async({"row": buffer[1]})
        buffer[2].add_(1)
    assert changed.result()["row"].sum() == 0
with fake_device.hold():
    copied = tnb.to_numpy_async(buffer[1], snapshot=True)
    buffer[2].add_(1)
copied.result()
with fake_device.hold():
    blocked = tnb.to_numpy_async(buffer[1])
    blocked.block_stream()
    buffer[2].add_(1)
blocked.result()
ended = tnb.to_numpy_async(buffer[1])
while not ended.done(): pass
buffer[2].add_(1)
ended.result()
"""
    assert said(script).splitlines() == [
        "<string>:11: tree['row']: expected a part of a larger tensor that stays as it is until its copy was seen to "
        "have ended, and the larger one was changed; if it was this part, call result() first or pass snapshot=True"
    ]
    assert said(script, debug="0") == ""


def test_what_the_engine_watches_is_no_part() -> None:
    """A source with gaps may be all of its storage, an expanded one a part of it; one without items cannot change."""
    script = """
buffer, gaps = ones(2), torch.empty_strided((3,), (2,), device="fake")
with fake_device.hold():
    torn = tnb.to_numpy_async(gaps)
    empty = tnb.to_numpy_async(buffer[:0])
    part = tnb.to_numpy_async(buffer[:1].expand(4))
    gaps.add_(1)
    buffer.add_(1)
try:
    torn.result()
except tnb.SourceMutatedError:
    empty.result(), part.result()
"""
    [line] = said(script).splitlines()
    assert line.startswith("<string>:12: tree: expected a part of a larger tensor")


def test_the_python_engine_has_nothing_in_flight() -> None:
    require("fake")
    script = """
buffer = torch.zeros(4, 3, device="fake")
transfer = tnb.to_numpy_async(buffer[1])
buffer.add_(1)
assert transfer.result().sum() == 0
"""
    finished = run_script(PRELUDE + script, TORCH_NP_BRIDGE_DEBUG="1", TORCH_NP_BRIDGE_ENGINE="python")
    assert (finished.returncode, finished.stderr) == (0, "")


def test_arrays_at_the_limit() -> None:
    script = """
kept = [tnb.to_numpy(ones(1 << 18)) for _ in range(3)]
views = tnb.to_numpy(torch.ones(5))
gone = tnb.to_numpy(ones(1 << 18))
del gone
for _ in range(2):
    kept.append(tnb.to_numpy([ones(1 << 20)] * 4))
"""
    text = said(script, TORCH_NP_BRIDGE_PINNED_LIMIT="8MiB")
    first, *rows = text.splitlines()
    assert first.startswith("<string>:13: expected page-locked memory, got the limit of it")
    assert rows == ["  3 arrays, 3145728 bytes, from <string>:8"]


@pytest.mark.parametrize("value", ["", "2", "yes", "true"])
def test_other_values(value: str) -> None:
    with pytest.raises(ValueError, match="TORCH_NP_BRIDGE_DEBUG: expected 0 or 1"):
        read_settings({"TORCH_NP_BRIDGE_DEBUG": value})


def test_the_python_engine(engine: EngineChoice) -> None:
    """Without an accelerator, and without the extension."""
    script = """
import torch, torch_np_bridge as tnb
assert tnb.to_numpy({"a": torch.ones(3)})["a"].sum() == 3
assert tnb.to_numpy_async(torch.ones(3)).result().sum() == 3
"""
    finished = run_script(script, TORCH_NP_BRIDGE_DEBUG="1", TORCH_NP_BRIDGE_ENGINE=engine)
    assert (finished.returncode, finished.stderr) == (0, "")
