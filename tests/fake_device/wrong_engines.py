"""Copy engines of a few lines: one that is right, and others that each leave out one thing.

An engine copies a tensor into a block of page-locked memory and gives a Transfer; `result` waits and hands the block
out. They look alike on purpose: what is missing is all that differs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

SIDE = [torch.Stream(f"fake:{index}") for index in range(2)]


@dataclass
class Transfer:
    """A copy on its way into a block."""

    block: torch.Tensor
    done: torch.Event
    kept: list[torch.Tensor] = field(default_factory=list)

    def result(self) -> torch.Tensor:
        """Waits for the copy."""
        self.done.synchronize()
        return self.block


Engine = Callable[[torch.Tensor, torch.Tensor], Transfer]


def right(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Waits for the producer, keeps the source, records where the copy was enqueued."""
    ready = torch.accelerator.current_stream(source.device).record_event()
    with SIDE[source.device.index] as side:
        side.wait_event(ready)
        block.copy_(source, non_blocking=True)
        return Transfer(block, side.record_event(), [source])


def without_producer_wait(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Does not wait for the work that makes the source."""
    with SIDE[source.device.index] as side:
        block.copy_(source, non_blocking=True)
        return Transfer(block, side.record_event(), [source])


def source_not_kept(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Lets the caller free the source while it is being copied."""
    ready = torch.accelerator.current_stream(source.device).record_event()
    with SIDE[source.device.index] as side:
        side.wait_event(ready)
        block.copy_(source, non_blocking=True)
        return Transfer(block, side.record_event())


def source_only_recorded(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Trusts record_stream, which does not know the memory of other allocators."""
    ready = torch.accelerator.current_stream(source.device).record_event()
    with SIDE[source.device.index] as side:
        side.wait_event(ready)
        block.copy_(source, non_blocking=True)
        source.record_stream(side)
        return Transfer(block, side.record_event())


def recorded_on_the_current_device(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Records its event on the current device's stream, not on the one that copies."""
    ready = torch.accelerator.current_stream(source.device).record_event()
    with SIDE[source.device.index] as side:
        side.wait_event(ready)
        block.copy_(source, non_blocking=True)
    return Transfer(block, torch.accelerator.current_stream().record_event(), [source])


def event_of_another_device(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Takes its event from a pool that does not tell devices apart."""
    pooled = torch.accelerator.current_stream(0).record_event()
    with SIDE[source.device.index] as side:
        side.wait_stream(torch.accelerator.current_stream(source.device))
        block.copy_(source, non_blocking=True)
        pooled.record(side)
        return Transfer(block, pooled, [source])


def result_without_wait(source: torch.Tensor, block: torch.Tensor) -> Transfer:
    """Hands the block out before the copy has ended."""
    transfer = right(source, block)
    return Transfer(block, torch.Event("fake"), transfer.kept)


class Pool:
    """Blocks for an engine; `early` gives a block back at submit, not when its copy has ended."""

    def __init__(self, engine: Engine, *, early: bool) -> None:
        self._engine = engine
        self._early = early
        self._free: list[torch.Tensor] = []

    def submit(self, source: torch.Tensor) -> Transfer:
        """Copies into a free block, or into a new one."""
        block = self._free.pop() if self._free else torch.empty(source.shape, dtype=source.dtype).pin_memory()
        transfer = self._engine(source, block)
        if self._early:
            self._free.append(block)
        return transfer

    def finish(self, transfer: Transfer) -> torch.Tensor:
        """A copy of the result; the block is free again."""
        result = transfer.result().clone()
        if not self._early:
            self._free.append(transfer.block)
        return result
