"""`torch.fake`: what torch asks of a device type's Python module."""

from types import TracebackType

import torch

from .graph_capture import graph
from .native import device_index, fake

__all__ = ["graph"]

Device = torch.device | str | int | None


def is_available() -> bool:
    """Whether there is a device."""
    return fake.device_count() > 0


def is_initialized() -> bool:
    """Whether some device has a context."""
    return fake.context_count() > 0


def _lazy_init() -> None:
    if fake.forked():
        raise RuntimeError("the fake device cannot be used in a forked child; use the 'spawn' start method")


def _is_in_bad_fork() -> bool:
    return fake.forked()


def device_count() -> int:
    """The number of devices."""
    return fake.device_count()


def current_device() -> int:
    """The thread's current device."""
    return fake.current_device()


def set_device(device: Device) -> None:
    """Makes a device the thread's current one and makes a context there."""
    fake.set_device(device_index(device))


def current_stream(device: Device = None) -> torch.Stream:
    """The thread's current stream on a device."""
    return torch.accelerator.current_stream(device_index(device))


def default_stream(device: Device = None) -> torch.Stream:
    """The stream that is current where none was chosen."""
    index = device_index(device)
    return torch.Stream(stream_id=0, device_index=index, device_type=torch._C._autograd.DeviceType.PrivateUse1.value)


def synchronize(device: Device = None) -> None:
    """Waits for all streams of a device."""
    torch.accelerator.synchronize(device_index(device))


def empty_cache() -> None:
    """Gives cached device memory back."""
    for index in range(fake.device_count()):
        if fake.has_context(index):
            fake.empty_cache(index)


def manual_seed(seed: int) -> None:
    """Does nothing: random numbers are drawn by the CPU's generator, which torch seeds itself."""


def manual_seed_all(seed: int) -> None:
    """Does nothing: random numbers are drawn by the CPU's generator, which torch seeds itself."""


def get_rng_state(device: Device = None) -> torch.Tensor:
    """The state of the CPU's generator, which draws for the fake devices."""
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor, device: Device = None) -> None:
    """Sets the state of the CPU's generator, which draws for the fake devices."""
    torch.set_rng_state(state)


def get_amp_supported_dtype() -> list[torch.dtype]:
    """The dtypes that autocast may use."""
    return [torch.bfloat16, torch.float16]


class device:  # noqa: N801 - torch looks for this name
    """Makes a device current within a `with` block; the way back makes no context."""

    def __init__(self, device: Device) -> None:
        self._index = device_index(device)
        self._before = -1

    def __enter__(self) -> None:
        self._before = fake.exchange_device(self._index)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        fake.restore_device(self._before)
