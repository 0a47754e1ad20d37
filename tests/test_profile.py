"""`profile()`: what is seen of calls, of both engines, and that it costs nothing while nobody looks."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import run_python
from helpers import ROOT, Call, hold, run_script, wait_until

import torch_np_bridge as tnb
from torch_np_bridge import _python_engine as python_engine
from torch_np_bridge._recording import HostRecording
from torch_np_bridge.config import EngineChoice

SIZE = 1000
MIB = 1 << 20


def test_what_a_call_was(bridge: tnb.Bridge, device: str) -> None:
    tree = {"a": torch.ones(SIZE, device=device), "b": [torch.ones(2, 3, device=device), "name"]}
    with bridge.profile() as p:
        bridge.to_numpy(tree)
        bridge.to_numpy_async(tree["a"]).result()
    both, one = p.calls
    assert (both.leaves, one.leaves) == (2, 1)
    on_host = device == "cpu"
    assert (both.bytes, one.bytes) == ((0, 0) if on_host else (4 * SIZE + 24, 4 * SIZE))
    native = bridge.engine_info().engine == "native"
    assert both.routes == {"view" if on_host else "dense" if native else "host": 2}
    assert len(both.copies) == len(one.copies) == (0 if on_host else 1)
    for call in (both, one):
        assert 0 <= call.begin <= call.returned
        for copies in call.copies:
            assert copies.device == f"{device}:0"
            assert copies.clock == ("device" if native else "host")
            assert call.begin <= copies.submitted <= copies.computed <= copies.started <= copies.ended
            assert (call.queued >= 0, call.copied > 0, call.waited > 0) == (True, True, True)


@pytest.mark.parametrize(
    ("make", "route"),
    [
        (lambda: torch.ones(8, 8, device="fake")[:, ::2], "gather"),
        (lambda: torch.ones(8, 8, device="fake").t(), "dense"),
        (lambda: torch.ones(0, device="fake"), "empty"),
        (lambda: torch.ones(8).to(torch.complex64).conj(), "host"),
    ],
)
def test_routes(native_bridge: tnb.Bridge, fake: ModuleType, make: Any, route: str) -> None:
    with native_bridge.profile() as p:
        native_bridge.to_numpy(make())
    assert p.calls[0].routes == {route: 1}


def test_beyond_the_limit(native: EngineChoice, fake: ModuleType) -> None:
    """What the worker copies, and what torch copies in the call itself, both by the host's clock."""
    source = torch.ones(2 * MIB, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=0) as bridge, bridge.profile() as p:
        bridge.to_numpy_async(source).result()
        bridge.to_numpy(source[:10])
    staged, at_once = p.calls
    assert (staged.routes, at_once.routes) == ({"staged": 1}, {"host": 1})
    assert [call.copies[0].clock for call in p.calls] == ["host", "host"]
    assert all(call.copied > 0 and call.waited > 0 for call in p.calls)


def test_waiting_for_the_device_is_no_copying(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Why is it slow? A latch holds the producer, and then only the copies."""
    source = torch.ones(SIZE, device="fake")
    native_bridge.to_numpy(source)
    with native_bridge.profile() as p:
        with hold("fake"):
            transfer = native_bridge.to_numpy_async(source)
            assert (p.calls, p.in_flight) == ([], 1)
            with pytest.raises(TimeoutError):
                transfer.result(timeout=0.05)
        transfer.result()
        with fake.hold_copies():
            transfer = native_bridge.to_numpy_async(source)
            with pytest.raises(TimeoutError):
                transfer.result(timeout=0.05)
        transfer.result()
    computed, copied = p.calls
    assert p.in_flight == 0
    assert computed.queued >= 0.05 > 0.04 > computed.copied
    assert copied.copied >= 0.05 > 0.04 > copied.queued
    assert computed.waited >= 0.05
    assert "Mostly waiting for the device" in p.summary() or "Mostly copying" in p.summary()


def test_calls_of_all_threads(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    with native_bridge.profile() as p:
        native_bridge.to_numpy(torch.ones(1, device="fake"))
        Call(lambda: native_bridge.to_numpy(torch.ones(1, device="fake"))).result()
    assert len({call.thread for call in p.calls}) == 2
    assert [len(call.waits) for call in p.calls] == [1, 1]


def test_two_devices(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    with native_bridge.profile() as p:
        native_bridge.to_numpy([torch.ones(SIZE, device=f"fake:{index}") for index in (0, 1)])
    assert [copies.device for copies in p.calls[0].copies] == ["fake:0", "fake:1"]
    assert {copies.clock for copies in p.calls[0].copies} == {"device"}


def test_what_else_goes_through_it(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.ones(SIZE, device="fake")
    with native_bridge.profile() as p:
        assert len(list(native_bridge.prefetch_to_host([source] * 3))) == 3
        with native_bridge.accelerate():
            source.cpu()
    assert len(p.calls) == 4


def test_the_functions_of_the_package(device: str) -> None:
    """A view, which the C function answers by itself while nobody looks, is seen too."""
    source = torch.ones(3, device=device)
    with tnb.profile() as p:
        tnb.to_numpy(source)
        tnb.to_numpy_async(source).result()
    tnb.to_numpy(source)
    assert len(p.calls) == 2


def test_a_transfer_that_is_dropped(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    with native_bridge.profile() as p:
        native_bridge.to_numpy_async(torch.ones(SIZE, device="fake"))
    wait_until(lambda: p.in_flight == 0)
    [call] = p.calls
    assert call.waits == ()
    assert p.hidden == 1.0


def test_one_at_a_time(bridge: tnb.Bridge) -> None:
    with bridge.profile() as p:
        with pytest.raises(RuntimeError, match="one profile of a Bridge at a time"), bridge.profile():
            pass
        bridge.to_numpy(torch.ones(1))
    assert len(p.calls) == 1, "the refused profile has ended the active one"
    with pytest.raises(RuntimeError, match="was not used yet"), p:
        pass
    with bridge.profile() as again:
        bridge.to_numpy(torch.ones(1))
    assert (len(p.calls), len(again.calls)) == (1, 1)


def test_of_two_that_begin_at_once_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread begins while the recording of the first one is made."""
    engine = python_engine.PythonEngine()
    others: list[Any] = []

    class Made(HostRecording):
        def __init__(self) -> None:
            super().__init__()
            monkeypatch.setattr(python_engine, "HostRecording", HostRecording)
            others.append(engine.start_profile())

    monkeypatch.setattr(python_engine, "HostRecording", Made)
    assert engine.start_profile() is None
    assert others == [engine._recording] != [None]


def test_a_closed_bridge_has_none(engine: EngineChoice) -> None:
    bridge = tnb.Bridge(engine=engine)
    bridge.close()
    with pytest.raises(RuntimeError, match="open Bridge"):
        bridge.profile()


def test_nothing_was_copied(bridge: tnb.Bridge) -> None:
    unused = bridge.profile()
    with bridge.profile() as p:
        bridge.to_numpy(torch.ones(3))
    assert math.isnan(p.hidden)
    assert (unused.calls, unused.in_flight) == ([], 0)
    assert "nothing to hide" in p.summary()


def test_events_of_a_profile(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Three records a call, one more for the anchor; then the events are used again, and nobody pays any more."""
    source = torch.ones(SIZE, device="fake")
    native_bridge.to_numpy(source)
    with native_bridge.profile():
        for _ in range(3):
            native_bridge.to_numpy(source)
        fake.reset_counters()
        for _ in range(10):
            native_bridge.to_numpy(source)
    assert (fake.counters().event_records, fake.counters().event_creates, fake.counters().event_waits) == (30, 0, 10)
    fake.reset_counters()
    native_bridge.to_numpy(source)
    assert (fake.counters().event_records, fake.counters().event_creates) == (2, 0)
    with native_bridge.profile():
        native_bridge.to_numpy(source)
    assert fake.counters().event_creates == 0


def test_events_that_tell_no_time(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """The copy is what it was, and its times are what the host has seen."""
    source = torch.ones(SIZE, device="fake")
    with native_bridge.profile() as p, fake.fail("event_elapsed"):
        assert native_bridge.to_numpy(source).sum() == SIZE
        native_bridge.to_numpy(source)
    first, second = p.calls
    assert (first.copies[0].clock, second.copies[0].clock) == ("host", "device")
    assert first.copied > 0
    assert "Some times of fake:0 are the host's" in p.summary()


def test_a_submit_that_fails_is_not_there(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    source = torch.ones(SIZE, device="fake")
    native_bridge.to_numpy(source)
    with native_bridge.profile() as p:
        native_bridge.to_numpy(source)
        for calls_before in range(3):
            with fake.fail("event_record", after=calls_before) as failure, pytest.raises(RuntimeError):
                native_bridge.to_numpy(source)
            assert failure.delivered == 1
        assert native_bridge.to_numpy(source).sum() == SIZE
    assert (len(p.calls), p.in_flight) == (2, 0)
    wait_until(lambda: native_bridge.stats().leased_bytes == 0)


def pipeline(fake: ModuleType, count: int) -> Iterator[torch.Tensor]:
    for _ in range(count):
        made = torch.ones(SIZE, device="fake")
        fake.compute(made, 0.02)
        yield made


def test_hidden(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """Far from both bars, which the benchmark judges: the one overlaps, the other does not."""
    native_bridge.to_numpy(torch.ones(SIZE, device="fake"))
    fake.set_copy_cost(latency=0.02)
    with native_bridge.profile() as overlapping:
        list(native_bridge.prefetch_to_host(pipeline(fake, 8)))
    with native_bridge.profile() as waiting:
        for batch in pipeline(fake, 4):
            native_bridge.to_numpy(batch)
    assert overlapping.hidden > 0.5 > waiting.hidden


def test_the_trace(native_bridge: tnb.Bridge, fake: ModuleType, tmp_path: Path) -> None:
    with native_bridge.profile() as p:
        list(native_bridge.prefetch_to_host(pipeline(fake, 3)))
    p.trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"fake:0", "host", "computing", "copying"} <= names
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["name"].split(":")[0] for event in spans} == {"computing", "copying", "waiting"}
    assert {event["args"]["call"] for event in spans} == {0, 1, 2}
    for lane in {(event["pid"], event["tid"]) for event in spans}:
        mine = sorted((event["ts"], event["dur"]) for event in spans if (event["pid"], event["tid"]) == lane)
        ends = [begin + length for begin, length in mine]
        assert all(begin >= end - 1 for (begin, _), end in zip(mine[1:], ends, strict=False)), "spans of a lane overlap"


def test_the_picture(native_bridge: tnb.Bridge, fake: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="expected matplotlib, got none; pip install 'torch-np-bridge[plot]'")
    with native_bridge.profile() as p:
        native_bridge.to_numpy(torch.ones(SIZE, device="fake"))
    p.plot(tmp_path / "timeline.svg", title="a title")
    picture = (tmp_path / "timeline.svg").read_text()
    assert picture.lstrip().startswith("<?xml")


def test_the_picture_of_the_docs(native: EngineChoice, fake: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="expected matplotlib, got none; pip install 'torch-np-bridge[plot]'")
    file = tmp_path / "timeline.svg"
    done = run_python("scripts/timeline.py", str(file))
    assert done.returncode == 0, done.stderr
    assert file.exists()
    assert "![A timeline of two loops](timeline.png)" in (ROOT / "docs" / "profile.md").read_text()
    assert (ROOT / "docs" / "timeline.png").exists()


def test_no_picture_without_matplotlib(bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'torch-np-bridge\[plot\]'"):
        bridge.profile().plot(tmp_path / "timeline.png")
    assert list(tmp_path.iterdir()) == []


def test_the_summary_in_a_terminal(bridge: tnb.Bridge, monkeypatch: pytest.MonkeyPatch) -> None:
    with bridge.profile() as p:
        bridge.to_numpy(torch.ones(3))
    plain = p.summary()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b[" in p.summary()
    assert "\x1b[" not in plain
    monkeypatch.setitem(sys.modules, "rich.table", None)
    assert p.summary() == plain


def test_at_the_end_of_the_process(native: EngineChoice, fake: ModuleType) -> None:
    """A profile that is active, with a copy in flight, neither speaks nor hangs."""
    script = """
import fake_device, fake_driver, torch
fake_driver.register()
import torch_np_bridge as tnb
p = tnb.profile()
p.__enter__()
latch = fake_device.hold()
transfer = tnb.to_numpy_async(torch.ones(3, device="fake"))
assert p.in_flight == 1
"""
    finished = run_script(script, TORCH_NP_BRIDGE_ENGINE="native")
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "", "")
