"""Torch's own profiler sees the transfers."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

import torch_np_bridge as tnb


def test_ranges(bridge: tnb.Bridge, device: str) -> None:
    source = torch.ones(30, 40, device=device)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        bridge.to_numpy(source)
        bridge.to_numpy_async([source, source]).result()
    names = [event.name for event in seen.events()]
    native = bridge.engine_info().engine == "native"
    assert names.count("torch_np_bridge::submit") == 2
    assert names.count("torch_np_bridge::wait") == (2 if native else 0)
    if native:
        shapes = [event.input_shapes for event in seen.events() if event.name == "torch_np_bridge::submit"]
        assert shapes == [[[30, 40]], [[30, 40], [30, 40]]]


def test_the_function_that_c_answers(device: str) -> None:
    source = torch.ones(3, device=device)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        tnb.to_numpy_async(source).result()
    assert [event.name for event in seen.events()].count("torch_np_bridge::submit") == 1
