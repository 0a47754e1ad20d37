"""Device types that lack what an asynchronous copy needs: the same answers, copied synchronously."""

from __future__ import annotations

import pytest
from helpers import assert_silent, run_script

from torch_np_bridge.config import EngineChoice

# A process of its own: that a device type has everything is remembered.
BODY = """
import torch, fake_device, torch_np_bridge as tnb
tensor = torch.complex(torch.arange(12.0), torch.ones(12)).view(3, 4).to("fake")
tree = {"dense": tensor, "cut": tensor[:, ::2], "conj": tensor.conj(), "none": tensor[:0], "cpu": torch.ones(2)}
expected = {name: leaf.cpu().resolve_conj().numpy() for name, leaf in tree.items()}

def check():
    snapshot = tnb.to_numpy_async(tree, snapshot=True)
    tnb.to_numpy_async(tensor).block_stream()
    for arrays in (tnb.to_numpy(tree), tnb.to_numpy_async(tree).result(), snapshot.result()):
        for name, array in arrays.items():
            assert (array == expected[name]).all() and array.strides == expected[name].strides, name
    tnb.trim()

words = "; fake is copied synchronously: an asynchronous copy needs"
with fake_device.without(MISSING):
    check()
    assert tnb.stats().transfers == tnb.stats().held_bytes == 0
    assert words in tnb.engine_info().reason
check()
assert words not in tnb.engine_info().reason
assert tnb.stats().transfers == 4
"""


@pytest.mark.parametrize("missing", ["host_allocator", "pool_streams", "events"])
def test_what_is_missing_makes_copies_synchronous(native: EngineChoice, fake: object, missing: str) -> None:
    assert_silent(run_script(BODY.replace("MISSING", repr(missing)), TORCH_NP_BRIDGE_ENGINE=native))
