"""What `bench` does to hardware, tried on whatever accelerator there is: products keep it busy, and are waited for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import torch_np_bridge as tnb
from torch_np_bridge.cli.bench import controls
from torch_np_bridge.cli.bench.controls import HardwareControls, Locked


@pytest.fixture
def hardware(accelerator: str, monkeypatch: pytest.MonkeyPatch) -> HardwareControls:
    monkeypatch.setattr(controls, "SIDE", 64)
    return HardwareControls(torch.device(accelerator, 0))


@dataclass
class Event:
    """In the place of the one behind the products: whether it has passed, and what was asked of it."""

    passed: bool
    asked: list[str] = field(default_factory=list)

    def record_event(self) -> Event:
        return self

    def query(self) -> bool:
        self.asked.append("query")
        return self.passed

    def synchronize(self) -> None:
        self.asked.append("synchronize")


def event_behind_the_products(monkeypatch: pytest.MonkeyPatch, *, passed: bool) -> Event:
    event = Event(passed)
    monkeypatch.setattr(HardwareControls, "_occupy", lambda controls, seconds: None)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: event)
    return event


def test_the_end_of_the_block_waits_for_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    event = event_behind_the_products(monkeypatch, passed=False)
    with HardwareControls(torch.device("cuda", 0)).busy():
        assert event.asked == []
    assert event.asked == ["query", "synchronize"]


def test_a_device_that_was_done_before_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    event_behind_the_products(monkeypatch, passed=True)
    with (
        pytest.raises(RuntimeError, match="expected cuda:0 to be busy for"),
        HardwareControls(torch.device("cuda", 0)).busy(),
    ):
        pass


def test_what_it_computes_is_written_behind_the_products(accelerator: str, hardware: HardwareControls) -> None:
    tensor = torch.zeros(4, device=accelerator)
    with hardware.slow_copies(seconds=1.0):
        hardware.compute(tensor, 1e-4)
        assert tensor.cpu().tolist() == [1] * 4


def test_what_a_bridge_has_page_locked_is_what_it_says(
    accelerator: str, hardware: HardwareControls, native_bridge: tnb.Bridge
) -> None:
    assert hardware.locked(native_bridge) == Locked(0, 0, None)
    array = native_bridge.to_numpy(torch.ones(1000, device=accelerator))
    locked = hardware.locked(native_bridge)
    assert (locked.bytes, locked.allocations) == (native_bridge.stats().held_bytes, 1)
    assert locked.bytes >= array.nbytes


def test_what_torch_has_page_locked_is_known_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stats: dict[str, Any] = {"allocated_bytes.current": 4096, "num_host_alloc": 3}
    monkeypatch.setattr(torch.cuda, "host_memory_stats", lambda: stats)
    assert HardwareControls(torch.device("cuda")).locked(None) == Locked(4096, 3, None)
    assert HardwareControls(torch.device("xpu")).locked(None) == Locked(0, 0, None)
