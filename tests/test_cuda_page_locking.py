"""Contracts 8 and 10 on CUDA: page-locked memory that is at its limit, or that CUDA does not give."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import assert_same_array, assert_silent, run_script, torchs_answer

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

pytestmark = pytest.mark.usefixtures("gpu")
MIB = 1 << 20
RING = 16 * MIB
LIMITS = {
    "none": 0,
    "less than a ring": MIB,
    "a ring": RING,
    "a ring and little": RING + 2 * MIB,
    "two rings": 2 * RING,
}


def tree_on(device: str) -> dict[str, Any]:
    """Leaves of all routes, some larger than a chunk, a ring and all limits."""
    x = torch.arange(12.0 * MIB, device=device)
    return {
        "more than a ring": x,
        "gathered in slabs": x.view(-1, 4096)[:, 1::2],
        "transposed": x[: 2 * MIB].view(1024, -1).t(),
        "bfloat16": x.to(torch.bfloat16)[1:],
        "conjugated": torch.complex(x[:MIB], -x[:MIB]).conj(),
        "small": [x[index : index + 100] for index in range(50)],
        "on the CPU": torch.ones(3),
    }


def leaves(tree: dict[str, Any]) -> list[Any]:
    return [leaf for value in tree.values() for leaf in (value if isinstance(value, list) else [value])]


@pytest.fixture
def tree(gpu: str) -> dict[str, Any]:
    return tree_on(gpu)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_is_reached(native: EngineChoice, tree: dict[str, Any], limit: str) -> None:
    """Every byte is right, and no more is page-locked than was allowed, while arrays are kept."""
    expected = [torchs_answer(leaf) for leaf in leaves(tree)]
    kept: list[Any] = []
    with tnb.Bridge(engine=native, pinned_limit=LIMITS[limit]) as bridge:
        for _ in range(3):
            transfer = bridge.to_numpy_async(tree)
            for arrays in (bridge.to_numpy(tree), transfer.result()):
                for got, right in zip(leaves(arrays), expected, strict=True):
                    assert_same_array(got, right)
                kept += leaves(arrays)[::2]
            stats = bridge.stats()
            assert stats.leased_bytes <= stats.held_bytes <= stats.limit_held_bytes <= stats.limit_bytes
            assert stats.limit_bytes == LIMITS[limit]
        assert bridge.stats().unpooled_leaves > 0
        bridge.trim()
        assert bridge.stats().limit_held_bytes <= LIMITS[limit]


REFUSED = """
import ctypes, numpy as np, torch, torch_np_bridge as tnb
from torch_np_bridge.engine import extension
from test_cuda_page_locking import leaves, tree_on
DEVICE = "cuda"
NOT_SUPPORTED = 801
refused = []

@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
def refuse(address, size):
    refused.append(size)
    return NOT_SUPPORTED

# Torch's host allocator is what is left, beside the generic ways of everything.
address = ctypes.cast(refuse, ctypes.c_void_p).value
extension().module.register_device(DEVICE, {"lock_pages": address, "unlock_pages": address, "allocate_pages": address,
                                            "free_pages": address})
tree = tree_on(DEVICE)
with tnb.Bridge(engine="native", pinned_limit="1GiB") as bridge:
    for _ in range(2):
        for arrays in (bridge.to_numpy(tree), bridge.to_numpy_async(tree).result()):
            for got, leaf in zip(leaves(arrays), leaves(tree), strict=True):
                right = leaf.cpu().resolve_conj()
                right = right.view(torch.int16).numpy() if leaf.dtype == torch.bfloat16 else right.numpy()
                assert np.array_equal(got.view(right.dtype), right)
            del arrays, got
    assert bridge.stats().unpooled_leaves == 0
    assert refused
"""


def test_pages_that_cuda_does_not_lock_come_from_torchs_host_allocator(native: EngineChoice, gpu: str) -> None:
    """Nothing is CUDA's own then, the kernel and the copies of bytes neither: the generic way, on hardware."""
    assert_silent(run_script(REFUSED))
