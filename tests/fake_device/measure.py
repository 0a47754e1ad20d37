"""What the fake accelerator counted."""

from dataclasses import dataclass

import torch

from .native import device_index, fake


@dataclass(frozen=True)
class Counters:
    """Activity since `reset_counters()`, and what is alive now.

    Bytes live and locked are what exists now; a peak is the highest number since the reset. Everything about host
    memory belongs to the process, not to a device.
    """

    device_requests: int  # allocations asked of the caching allocator
    device_allocations: int  # those that it could not serve from its cache
    device_bytes_live: int
    device_bytes_peak: int
    host_allocations: int  # by the driver: what torch's host allocator caches is not asked again
    host_frees: int
    host_bytes_live: int
    locked_pages_bytes: int
    event_creates: int
    event_destroys: int
    event_records: int
    event_waits: int  # a stream's waits for an event
    event_queries: int
    event_synchronizes: int
    stream_queries: int
    stream_synchronizes: int
    device_synchronizes: int
    copies_d2h: int
    copies_h2d: int
    copies_d2d: int
    bytes_d2h: int
    bytes_h2d: int
    bytes_d2d: int
    copies_synchronous: int  # copies that the host waited for
    launches: int
    device_sets: int  # how often a device was made current by a plain set, which guards do on entering only
    queue_waits: int  # submissions that had to wait, because the stream had as many operations as it takes
    host_memory_waits: int  # allocations, frees, locks and unlocks of host memory that waited for all streams
    fallback_operations: int  # operators that had to wait and compute on the host; their copies are not counted
    contexts: int  # devices that were used, or made current by a plain set, since the start of the process


def counters(device: torch.device | str | int | None = None) -> Counters:
    """The counters of one device, or of all together."""
    numbers = dict(fake.counts(-1 if device is None else device_index(device)))
    contexts = fake.context_count() if device is None else int(fake.has_context(device_index(device)))
    return Counters(**numbers, contexts=contexts)


def reset_counters() -> None:
    """Starts counting anew. What is alive stays counted."""
    fake.reset_counts()
