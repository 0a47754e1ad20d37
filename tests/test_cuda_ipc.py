"""Contract 4 across processes: memory that another process has sent is copied, and given back to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing
from helpers import PATIENCE, wait_until

import torch_np_bridge as tnb

pytestmark = pytest.mark.usefixtures("gpu")
SIZE = 1_000_000


def produce(tensors: Any, asked: Any, answers: Any) -> None:
    """In the other process: sends a tensor, and says at each question how much memory it has given out."""
    x = torch.arange(SIZE, dtype=torch.float32, device="cuda")
    tensors.put(x)
    del x
    while asked.get(timeout=PATIENCE):
        torch.cuda.ipc_collect()
        answers.put(torch.cuda.memory_allocated())


@pytest.mark.parametrize("kept", [True, False], ids=["transfer kept", "transfer dropped"])
def test_a_tensor_of_another_process(native_bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch, *, kept: bool) -> None:
    monkeypatch.setenv("CUDA_MODULE_LOADING", "LAZY")  # of the other process: this one has its kernels
    spawning = torch.multiprocessing.get_context("spawn")
    tensors, asked, answers = (spawning.Queue() for _ in range(3))
    producer = spawning.Process(target=produce, args=(tensors, asked, answers), daemon=True)
    producer.start()

    def given_out() -> int:
        asked.put(True)
        answer: int = answers.get(timeout=PATIENCE)
        return answer

    try:
        x = tensors.get(timeout=PATIENCE)
        assert given_out() >= 4 * SIZE
        transfer = native_bridge.to_numpy_async([x, x[:5], x.view(1000, 1000)[:, ::2]])
        if not kept:
            out = [native_bridge.empty(SIZE, np.float32)]
            native_bridge.to_numpy_async([x], out=out)
        del x
        arrays = transfer.result()
        assert (arrays[0] == np.arange(SIZE)).all()
        assert (arrays[1] == range(5)).all()
        assert (arrays[2].ravel() == np.arange(0, SIZE, 2)).all()
        if not kept:
            del transfer
        # The transfer and the arrays are alive, and hold nothing of the other process.
        wait_until(lambda: given_out() < 4 * SIZE)
        if not kept:
            assert (out[0] == np.arange(SIZE)).all()
        asked.put(False)
        producer.join(PATIENCE)
        assert producer.exitcode == 0
    finally:
        producer.kill()
