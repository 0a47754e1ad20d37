"""What a capture takes in, and what launching its graph does."""

import pytest
import torch

import fake_device

from .calling import elsewhere, here, on

pytestmark = pytest.mark.usefixtures("idle")


def test_captured_work_runs_when_the_graph_is_launched_each_time() -> None:
    x = torch.zeros(4, device="fake")
    torch.accelerator.synchronize()
    with fake_device.capture() as captured:
        x.add_(1)
        y = x * 10
        fake_device.compute(x)
    captured.stream.synchronize()
    assert x.cpu().eq(0).all()
    for turn in range(2):
        captured.launch()
        assert x.cpu().eq(2 * turn + 2).all()
        assert y.cpu().eq(20 * turn + 10).all()


def test_captured_copies_run_when_the_graph_is_launched() -> None:
    host, back = torch.full((4,), 3.0).pin_memory(), torch.zeros(4).pin_memory()
    x = torch.zeros(4, device="fake")
    torch.accelerator.synchronize()
    with fake_device.capture() as captured:
        x.copy_(host, non_blocking=True)
        back.copy_(x, non_blocking=True)
    captured.stream.synchronize()
    assert back.eq(0).all()
    host.fill_(4)
    captured.launch()
    torch.accelerator.synchronize()
    assert back.eq(4).all()


def test_a_wait_for_a_captured_event_pulls_the_stream_in() -> None:
    x = torch.zeros(1, dtype=torch.int64, device="fake")
    side = torch.Stream("fake")
    torch.accelerator.synchronize()
    with fake_device.capture() as captured:
        x.add_(1)
        side.wait_event(captured.stream.record_event())
        assert fake_device.capture_status(side) == "active"
        on(side, lambda: x.mul_(5))
        captured.stream.wait_event(side.record_event())
        x.add_(2)
    assert fake_device.capture_status(side) == "none"
    assert x.item() == 0
    captured.launch()
    assert x.item() == 7


def test_a_stream_that_was_pulled_in_has_to_join_with_its_last_operation() -> None:
    x = torch.zeros(1, device="fake")
    side, far = torch.Stream("fake"), torch.Stream("fake")
    captured = fake_device.capture()
    side.wait_event(captured.stream.record_event())
    far.wait_event(side.record_event())
    on(far, lambda: x.add_(1))
    side.wait_event(far.record_event())
    captured.stream.wait_event(side.record_event())
    on(far, lambda: x.add_(1))
    with pytest.raises(RuntimeError, match="a stream that it had pulled in had not joined"):
        captured.end()
    assert [fake_device.capture_status(stream) for stream in (captured.stream, side, far)] == ["none"] * 3


def test_an_engine_that_copies_on_a_stream_of_its_own_joins_the_capture_and_breaks_it() -> None:
    x, host = torch.zeros(4, device="fake"), torch.zeros(4).pin_memory()
    engine = torch.Stream("fake")
    captured = fake_device.capture()
    engine.wait_event(captured.stream.record_event())
    on(engine, lambda: host.copy_(x, non_blocking=True))
    assert fake_device.capture_status(engine) == "active"
    with pytest.raises(RuntimeError, match="had not joined"):
        captured.end()


def test_work_outside_of_the_capture_cannot_be_waited_for() -> None:
    outside = torch.Stream("fake").record_event()
    captured = fake_device.capture()
    with pytest.raises(RuntimeError, match="wait for work that is not captured"):
        captured.stream.wait_event(outside)
    with pytest.raises(RuntimeError, match="was invalidated"):
        on(captured.stream, lambda: torch.zeros(1, device="fake"))
    assert here(captured.end) is not None


def test_the_default_stream_takes_no_part() -> None:
    default = torch.fake.default_stream()  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="expected a stream of the pool"):
        fake_device.capture(default)
    captured = fake_device.capture()
    with pytest.raises(RuntimeError, match="the default stream was to wait"):
        default.wait_event(captured.stream.record_event())
    assert here(captured.end) is not None


def test_two_captures_do_not_merge() -> None:
    first, second = fake_device.capture(), fake_device.capture()
    with pytest.raises(RuntimeError, match="two captures were to be merged"):
        second.stream.wait_event(first.stream.record_event())
    assert here(first.end) is not None
    assert here(second.end) is not None


def test_a_capture_ends_where_it_began() -> None:
    captured, relaxed = fake_device.capture(), fake_device.capture(mode="relaxed")
    with pytest.raises(RuntimeError, match="not captured yet"):
        fake_device.capture(captured.stream)
    assert "expected the thread on which the capture began" in str(elsewhere(captured.end))
    captured.end()
    assert elsewhere(relaxed.end) is None
    with pytest.raises(RuntimeError, match="expected the stream on which a capture began"):
        captured.end()


def test_an_event_of_a_capture_is_of_no_use_until_it_is_recorded_again() -> None:
    captured = fake_device.capture()
    event = captured.stream.record_event()
    captured.end()
    for use in (event.query, event.synchronize, lambda: torch.Stream("fake").wait_event(event)):
        assert "last recorded in a capture" in str(here(use))
    event.record(captured.stream)
    event.synchronize()


def test_memory_of_a_graph_is_never_given_to_others() -> None:
    with fake_device.capture() as captured:
        x = torch.full((777,), 3, dtype=torch.uint8, device="fake")
        y = x + 1
        del x
    others = [on(captured.stream, lambda: torch.zeros(777, dtype=torch.uint8, device="fake")) for _ in range(3)]
    captured.launch()
    assert y.cpu().eq(4).all()
    assert all(other.cpu().eq(0).all() for other in others)
