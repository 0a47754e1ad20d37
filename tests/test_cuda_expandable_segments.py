"""Contract 4 where torch maps the device's memory in pieces: what is freed may be unmapped at once."""

from __future__ import annotations

import pytest
from helpers import assert_silent, run_script

pytestmark = pytest.mark.usefixtures("gpu", "native")

SCRIPT = """
import numpy as np, torch, torch_np_bridge as tnb
from cuda_tools import copy_stream, delay
SIZES = (10, 3000, 100_000, 700_000, 5_000_000)

def sources(value):
    tensors = [torch.full((size,), value, device="cuda") for size in SIZES]
    tensors += [tensors[0].clone() for _ in range(20)]
    return [*tensors, *(torch.full((1000, 2 * n), value, device="cuda")[:, ::2] for n in (5, 1000))]

def overwrite_what_was_freed():
    for _ in range(2):
        junk = sources(-1.0)
        torch.cuda.current_stream().synchronize()
        del junk
        torch.cuda.empty_cache()  # behind it, what is not in use is unmapped

with tnb.Bridge(engine="native") as pooled, tnb.Bridge(engine="native", pinned_limit="16MiB") as staged:
    for bridge in (pooled, staged):
        for _ in range(2):
            bridge.to_numpy_async(sources(0.0)).result()
    assert any(segment["is_expandable"] for segment in torch.cuda.memory_snapshot()), "expected expandable segments"
    ours = copy_stream(pooled, torch.zeros(1, device="cuda"))
    out = [np.zeros(1)]
    for turn in range(1, 5):
        for bridge in (pooled, staged):
            torch.cuda.synchronize()
            delay(100, ours)
            transfer = bridge.to_numpy_async(sources(float(turn)))  # nobody has them any more
            assert not transfer.done()
            overwrite_what_was_freed()
            assert all((array == turn).all() for array in transfer.result())
        out = [pooled.empty(size, np.float32) for size in SIZES]
        torch.cuda.synchronize()
        delay(100, ours)
        pooled.to_numpy_async(sources(float(turn))[: len(SIZES)], out=out)  # dropped
        overwrite_what_was_freed()
        pooled.to_numpy(torch.zeros(1, device="cuda"))  # behind it, on the same stream
        assert all((array == turn).all() for array in out)
"""


def test_sources_are_freed_at_once() -> None:
    assert_silent(run_script(SCRIPT, PYTORCH_ALLOC_CONF="expandable_segments:True"))
