"""Programs of users: compiled functions, data loaders, event loops, the second device of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import assert_silent, run_script

from torch_np_bridge.config import EngineChoice

PRELUDE = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
import numpy as np, torch, fake_device, torch_np_bridge as tnb
"""


@pytest.fixture(autouse=True)
def chosen(engine: EngineChoice, fake: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """The engine of every script here."""
    monkeypatch.setenv("TORCH_NP_BRIDGE_ENGINE", engine)
    return engine


@pytest.mark.parametrize("device", ["cpu", "fake"])
def test_a_call_in_a_compiled_function_is_a_graph_break_that_works(device: str) -> None:
    """As users of `torch.compile` ask of `.numpy()`: pytorch#149111, pytorch#124506."""
    body = f"""
warnings.simplefilter("ignore", UserWarning)  # torch says once that it does not look into C functions
def f(x):
    y = x * 2
    array = tnb.to_numpy(y)
    transfer = tnb.to_numpy_async({{"y": y + 1}})
    return y + 1, array, transfer.result()["y"]
compiled = torch.compile(f, backend="eager")
for value in range(3):
    y, array, later = compiled(torch.full((3,), float(value), device={device!r}))
    assert y.cpu().tolist() == later.tolist() == [2.0 * value + 1] * 3 and array.tolist() == [2.0 * value] * 3
"""
    assert_silent(run_script(PRELUDE + body))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_data_loader_with_workers(method: str, tmp_path: Path) -> None:
    """Its workers convert on the CPU while the parent uses the accelerator: pytorch#40403, dgl#4134."""
    program = f"""
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy as np, torch, torch.utils.data, torch_np_bridge as tnb

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        return tnb.to_numpy({{"row": torch.full((3,), float(index))}})["row"] + 1

if __name__ == "__main__":
    import fake_device
    kept = tnb.to_numpy(torch.ones(1000, device="fake"))
    for epoch in range(2):
        loader = torch.utils.data.DataLoader(
            Rows(), batch_size=4, num_workers=2, multiprocessing_context={method!r}
        )
        for batch, rows in enumerate(loader):
            arrays = tnb.to_numpy(rows.to("fake"))
            assert (arrays == np.arange(4 * batch + 1, 4 * batch + 5)[:, None]).all()
    assert (kept == 1).all()
"""
    # Spawned workers import the program again, so it has to be a file.
    path = str(tmp_path / "program.py")
    Path(path).write_text(program)
    assert_silent(
        run_script(f"import runpy, sys; sys.argv = [{path!r}]; runpy.run_path({path!r}, run_name='__main__')")
    )


def test_exit_with_a_live_event_loop(chosen: str) -> None:
    hold = "None" if chosen == "python" else "fake_device.hold()"
    body = f"""
import asyncio
x = torch.ones(100_000, device="fake")
kept = []
async def main():
    loop = asyncio.get_running_loop()
    kept.append(tnb.to_numpy_async(x))
    array = await loop.run_in_executor(None, kept[0].result)
    assert (array == 1).all()
    latch = {hold}
    kept.append(latch)
    kept.append(tnb.to_numpy_async(x))
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
kept.append(loop)
"""
    assert_silent(run_script("import warnings; warnings.simplefilter('ignore', ResourceWarning)\n" + PRELUDE + body))


def test_no_stray_context(chosen: str) -> None:
    """A call for the second device, from any thread, the worker included, never touches the first: pytorch#21081."""
    body = """
import gc, threading, fake_driver
fake_driver.register(own_pages=False)
x = torch.arange(3_000_000, dtype=torch.int32, device="fake:1")
with torch.accelerator.device_index(1):
    x.add_(0)
assert not fake_device.counters(0).contexts, "the program itself"
fake_device.reset_counters()
def convert():
    for limit in (None, "16MiB", 0):
        with tnb.Bridge(pinned_limit=limit) as bridge:
            assert bridge.to_numpy(x[::2])[1] == 2
            transfer = bridge.to_numpy_async([x, x[1::2]])
            while not transfer.done(): pass
            assert transfer.result()[1][1] == 3
            transfer = bridge.to_numpy_async(x, snapshot=True)
            transfer.block_stream()
            bridge.to_numpy_async(x, out=np.empty(3_000_000, np.int32)).result()
            bridge.to_numpy_async(x)
            bridge.trim()
convert()
thread = threading.Thread(target=convert)
thread.start()
thread.join()
gc.collect()
tnb.trim()
assert (fake_device.counters(0).contexts, fake_device.counters(0).device_sets) == (0, 0)
"""
    assert_silent(run_script(PRELUDE + body))
