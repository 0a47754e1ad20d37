"""Features that a device type may lack: what asks for one fails as with torch's own defaults, and nothing else does."""

import re
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch

import fake_device

from .calling import here
from .conftest import Script
from .control import FeatureName
from .handles import stream_handle

USES: dict[FeatureName, Callable[[], object]] = {
    "host_allocator": lambda: torch.zeros(4).pin_memory(),
    "pool_streams": lambda: torch.Stream("fake"),
    "events": lambda: torch.accelerator.current_stream().record_event(),
    "stream_handles": lambda: stream_handle(torch.accelerator.current_stream()),
}
ERRORS: dict[FeatureName, str] = {
    "host_allocator": "not set|allocator|implement",
    "pool_streams": "Backend doesn't support acquiring a stream from pool",
    "events": "Backend doesn't support events",
    "stream_handles": "Backend doesn't support getting stream native handle",
}


@pytest.mark.parametrize("missing", USES)
def test_what_is_missing_fails_and_the_rest_works(missing: FeatureName) -> None:
    with fake_device.without(missing):
        errors = {name: here(use) for name, use in USES.items()}
        assert torch.ones(3, device="fake").cpu().eq(1).all()
    assert [name for name, error in errors.items() if error is not None] == [missing]
    assert re.search(ERRORS[missing], str(errors[missing]), re.IGNORECASE)
    assert here(USES[missing]) is None


def test_all_can_be_missing_at_once() -> None:
    with fake_device.without(*USES):
        assert all(here(use) is not None for use in USES.values())
        assert torch.ones(3, device="fake").add(1).cpu().eq(2).all()
    assert all(here(use) is None for use in USES.values())


def test_memory_that_was_page_locked_before_stays_so() -> None:
    host, x = torch.zeros(3).pin_memory(), torch.ones(3, device="fake")
    before = fake_device.counters().copies_synchronous
    with fake_device.without("host_allocator"):
        host.copy_(x, non_blocking=True)
        torch.accelerator.synchronize()
        assert host.eq(1).all()
        del host
    assert fake_device.counters().copies_synchronous == before


def test_an_engine_may_be_loaded_meanwhile(script: Script) -> None:
    source = """
with fake_device.without("host_allocator"):
    import torch_np_bridge
    print(torch_np_bridge.to_numpy(torch.ones(2, device='fake')))
"""
    assert script(source).stdout.strip() == "[1. 1.]"


def test_an_unknown_feature_is_refused() -> None:
    with (
        pytest.raises(ValueError, match=r"of host_allocator, pool_streams, events, stream_handles, got graphs"),
        fake_device.without(cast("Any", "graphs")),
    ):
        pass
