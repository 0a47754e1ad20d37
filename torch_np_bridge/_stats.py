"""Counters of the page-locked memory and of the transfers, as :func:`torch_np_bridge.stats` returns them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What a Bridge holds and has done; all sizes in bytes. The Python engine holds nothing and counts transfers only.

    Attributes:
        limit_bytes: the most that may be page-locked.
        limit_held_bytes: what is page-locked under that limit now, by all Bridges that share it.
        held_bytes: what this Bridge has page-locked, rounding and idle memory included.
        leased_bytes: the part of it that arrays or copies in flight use.
        retained_bytes: the part of ``leased_bytes`` that no array and no copy uses any more. An array beside it keeps
            it: small tensors of a tree share memory, those of ``to_numpy(copy=True)`` do not.
        inherited_bytes: the part of ``held_bytes`` that a forked child of the process may see. It is never used again:
            ``trim()`` frees it once its arrays are gone, and so does the limit.
        slabs: the pieces in which it was allocated.
        allocations: how many slabs were ever allocated; a steady loop adds none.
        transfers: submissions that copied from an accelerator.
        copied_bytes: bytes that were copied to page-locked memory.
        unpooled_leaves: tensors that went to ordinary memory, and arrays of ``empty()`` that are in it, since the limit
            was reached or nothing could be locked.
    """

    limit_bytes: int = 0
    limit_held_bytes: int = 0
    held_bytes: int = 0
    leased_bytes: int = 0
    retained_bytes: int = 0
    inherited_bytes: int = 0
    slabs: int = 0
    allocations: int = 0
    transfers: int = 0
    copied_bytes: int = 0
    unpooled_leaves: int = 0
