"""Streams, events, devices and latches behave as CUDA's do."""

import ctypes

import pytest
import torch

import fake_device

from .handles import stream_handle


def pinned(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.zeros(*shape, dtype=dtype).pin_memory()


def test_an_unordered_read_is_stale_every_time() -> None:
    x = torch.empty(64, device="fake")
    host = pinned(64)
    side = torch.Stream("fake")
    for turn in range(50):
        x.fill_(turn)
        torch.accelerator.synchronize()
        with fake_device.hold():
            x.fill_(turn + 1)
            with side:
                host.copy_(x, non_blocking=True)
            side.synchronize()
            assert host.eq(turn).all()


def test_an_ordered_read_is_fresh() -> None:
    x = torch.zeros(64, device="fake")
    host = pinned(64)
    side = torch.Stream("fake")
    with fake_device.hold():
        x.fill_(5)
        side.wait_event(torch.accelerator.current_stream().record_event())
        with side:
            host.copy_(x, non_blocking=True)
        done = side.record_event()
        assert not done.query()
    done.synchronize()
    assert host.eq(5).all()


def test_the_default_stream_orders_nothing() -> None:
    side = torch.Stream("fake")
    with fake_device.hold(torch.fake.default_stream()), side:  # type: ignore[attr-defined]
        x = torch.ones(3, device="fake")
        assert x.cpu().eq(1).all()


def test_pool_streams_go_round_in_fours() -> None:
    ids = [torch.Stream("fake:0", priority=-(turn % 2)).stream_id for turn in range(8)]
    assert len(set(ids[:4])) == 4
    assert ids[:4] == ids[4:]


def test_streams_of_two_devices_are_independent() -> None:
    with fake_device.hold(torch.accelerator.current_stream(0)):
        x = torch.ones(3, device="fake:1")
        assert x.cpu().eq(1).all()


def test_an_event_that_was_never_recorded_has_passed() -> None:
    assert torch.Event("fake").query()


def test_a_wait_keeps_the_point_that_it_captured() -> None:
    first, second, waiter = (torch.Stream("fake") for _ in range(3))
    event = torch.Event("fake")
    x = torch.zeros(1, device="fake")
    torch.accelerator.synchronize()
    with fake_device.hold(second):
        event.record(first)
        waiter.wait_event(event)
        event.record(second)
        with waiter:
            x.fill_(1)
        waiter.synchronize()
        assert not event.query()
    event.synchronize()
    assert x.item() == 1


def test_a_wait_before_the_record_waits_for_nothing() -> None:
    held, waiter = torch.Stream("fake"), torch.Stream("fake")
    event = torch.Event("fake")
    with fake_device.hold(held):
        waiter.wait_event(event)
        event.record(held)
        waiter.synchronize()
        assert not event.query()


def test_elapsed_time_spans_the_work_between() -> None:
    start, end = (torch.Event("fake", enable_timing=True) for _ in range(2))
    stream = torch.accelerator.current_stream()
    start.record(stream)
    fake_device.compute(torch.zeros(1, device="fake"), 0.01)
    end.record(stream)
    end.synchronize()
    assert start.elapsed_time(end) >= 10


def test_recording_on_a_stream_of_another_device_fails() -> None:
    event = torch.Event("fake")
    event.record(torch.accelerator.current_stream(0))
    with pytest.raises(RuntimeError, match=r"expected a stream of fake:0.*got one of fake:1"):
        event.record(torch.accelerator.current_stream(1))


def test_the_driver_records_only_while_the_events_device_is_current() -> None:
    library = ctypes.CDLL(str(fake_device.library_path()))
    event = ctypes.c_void_p()
    stream = stream_handle(torch.accelerator.current_stream(1))
    with torch.fake.device(1):  # type: ignore[attr-defined]
        assert library.fake_event_create(ctypes.byref(event)) == 0
        assert library.fake_event_record(event, stream) == 0
    assert library.fake_event_record(event, stream) == 1
    assert "fake:1, the event's device, to be the current one" in str(fake_device.last_error())
    with torch.fake.device(1):  # type: ignore[attr-defined]
        assert library.fake_event_destroy(event) == 0


def test_latches_release_once_and_also_after_an_error() -> None:
    stream = torch.Stream("fake")
    with pytest.raises(KeyError), fake_device.hold(stream):
        raise KeyError
    latch = fake_device.hold_copies()
    latch.release()
    latch.release()
    other = fake_device.hold_copies()
    x = torch.ones(3, device="fake")
    host = pinned(3)
    host.copy_(x, non_blocking=True)
    copied = torch.accelerator.current_stream().record_event()
    assert not copied.query()
    other.release()
    copied.synchronize()
    assert stream.query()


def test_a_stream_runs_in_order() -> None:
    x = torch.zeros(1, dtype=torch.int64, device="fake")
    with fake_device.hold():
        for _ in range(3):
            x.mul_(10)
            fake_device.compute(x)
    assert x.item() == 111


def test_torch_takes_it_for_the_accelerator() -> None:
    assert torch.accelerator.current_accelerator() == torch.device("fake")
    assert torch.accelerator.is_available()
    assert torch.accelerator.device_count() == 2
    stream = torch.Stream("fake:1")
    with stream:
        assert torch.accelerator.current_stream() == stream
        assert torch.accelerator.current_device_index() == 1
    assert torch.accelerator.current_device_index() == 0


def test_a_pinning_data_loader_works() -> None:
    data = torch.utils.data.TensorDataset(torch.arange(6))
    loader = torch.utils.data.DataLoader(data, batch_size=3, pin_memory=True)
    assert [batch.is_pinned() for (batch,) in loader] == [True, True]
