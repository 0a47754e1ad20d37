"""What a test does to the fake accelerator: latches, costs, failures, work and memory of special kinds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

import torch

from .native import device_index, fake

FeatureName = Literal["host_allocator", "pool_streams", "events", "stream_handles"]

_FEATURES: dict[FeatureName, fake.Feature] = {
    "host_allocator": fake.Feature.HOST_ALLOCATOR,
    "pool_streams": fake.Feature.POOL_STREAMS,
    "events": fake.Feature.EVENTS,
    "stream_handles": fake.Feature.STREAM_HANDLES,
}


class Latch:
    """Holds work on the device until `release()`, or until the `with` block ends. Releasing twice is harmless."""

    def __init__(self, release: Callable[[], object]) -> None:
        self._release: Callable[[], object] | None = release

    def release(self) -> None:
        """Lets the held work run."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> "Latch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(stream: torch.Stream | None = None) -> Latch:
    """Holds a stream (default: the current one): what is enqueued on it from now on waits."""
    held = torch.accelerator.current_stream() if stream is None else stream
    return Latch(fake.hold_stream(held.device_index, held.stream_id).release)


def hold_copies() -> Latch:
    """Holds every copy between device and host, on every stream."""
    fake.close_copy_gate()
    return Latch(fake.open_copy_gate)


def set_queue_limit(operations: int | None = None) -> None:
    """How many operations that have not begun each stream takes from now on (None: any number).

    A further one blocks the submitting thread until one begins; the GIL stays with a caller who has it. Latches, and
    what the device does by itself on freeing memory, are no operations.
    """
    if operations is not None and operations < 1:
        raise ValueError(f"expected at least one operation, or None for no limit, got {operations}")
    fake.set_queue_limit(operations or 0)


def set_copy_cost(*, bandwidth: float | None = None, latency: float = 0.0) -> None:
    """What a copy between device and host costs from now on: bytes per second (None: no limit) and seconds a copy."""
    if bandwidth is not None and bandwidth <= 0:
        raise ValueError(f"expected a bandwidth in bytes per second or None for no limit, got {bandwidth}")
    if latency < 0:
        raise ValueError(f"expected a latency in seconds, got {latency}")
    fake.set_copy_cost(bandwidth or 0.0, latency)


def compute(tensor: torch.Tensor, seconds: float = 0.0) -> None:
    """Occupies the current stream of the tensor's device for a time, then adds one to the tensor in place."""
    torch.ops.fake_device.compute(tensor, seconds)


def foreign_tensor(source: torch.Tensor, device: torch.device | str | int | None = None) -> torch.Tensor:
    """A copy of a CPU tensor in device memory that is not the caching allocator's.

    `record_stream` does not know such memory, and it is poisoned at the moment it is freed.
    """
    result: torch.Tensor = torch.ops.fake_device.foreign_empty(source.shape, source.dtype, device_index(device))
    return result.copy_(source)


def lock_pages(address: int, size: int) -> None:
    """Page-locks memory in place, as cudaHostRegister does. On failure the reason stays behind as `last_error()`."""
    fake.lock_pages(address, size)


def unlock_pages(address: int, size: int) -> None:
    """Undoes `lock_pages` for the same address."""
    fake.unlock_pages(address, size)


def set_host_memory(
    *, powers_of_two: bool = True, shared_with_children: bool = True, waits_for_streams: bool = False
) -> None:
    """How page-locked memory is allocated from now on.

    By default as torch and the drivers do: rounded to powers of two, and shared with forked children. With
    `waits_for_streams`, as a driver may, each allocation, free, lock and unlock blocks its thread until all that the
    streams of all devices hold has run; the GIL stays with a caller who has it.
    """
    fake.round_host_memory_to_powers_of_two(powers_of_two)
    fake.share_host_memory_with_children(shared_with_children)
    fake.host_memory_waits_for_streams(waits_for_streams)


def empty_host_cache() -> None:
    """Gives the page-locked memory that torch's host allocator caches back to the system."""
    fake.empty_host_cache()


class Failure:
    """An injected failure; the end of the `with` block takes it back."""

    def __init__(self, call: str) -> None:
        self.call = call

    @property
    def delivered(self) -> int:
        """How many calls of this name have failed since it was injected."""
        return fake.failures_delivered(self.call)

    def __enter__(self) -> "Failure":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fake.clear_failure(self.call)


def fail(call: str, *, after: int = 0, sticky: bool = False) -> Failure:
    """Makes a call of the driver fail, once, after `after` calls that succeed.

    A sticky failure ends the context: every call fails from then on, also those that free, query and destroy.
    """
    fake.inject_failure(call, after, sticky)
    return Failure(call)


def call_names() -> list[str]:
    """The calls that `fail` knows."""
    return fake.call_names()


def clear_failures() -> None:
    """Takes all injected failures back and revives an ended context."""
    fake.clear_failures()


def last_error() -> str | None:
    """What a failed call of the C interface left on this thread; asking clears it."""
    return fake.take_last_error() or None


@contextmanager
def without(*names: FeatureName) -> Iterator[None]:
    """Takes features away within a `with` block, so that the device type is one of those that never had them.

    What asks for one gets torch's own error for a backend without it. What was made before stays usable.
    """
    if unknown := set(names) - set(_FEATURES):
        raise ValueError(f"expected features to take away, of {', '.join(_FEATURES)}, got {', '.join(sorted(unknown))}")
    for name in names:
        fake.set_feature(_FEATURES[name], False)
    try:
        yield
    finally:
        for name in names:
            fake.set_feature(_FEATURES[name], True)


def restore_defaults() -> None:
    """Takes back what a test may have left behind: failures, costs, limits, kinds of host memory, the capture mode.

    On a lost device the last one cannot be given back by whoever had exchanged it.
    """
    clear_failures()
    fake.exchange_capture_mode(fake.CaptureMode.GLOBAL)
    set_copy_cost()
    set_queue_limit()
    set_host_memory()


def configure(*, devices: int) -> None:
    """Sets the number of devices, 1 to 8, before their first use."""
    fake.configure_devices(devices)
