"""Copies: asynchronous where CUDA's are, waited for where CUDA's are, and with the same bytes as on the CPU."""

from collections.abc import Callable

import pytest
import torch

import fake_device

PENDING = 0xA5
PAGE = 4096


def pinned(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.uint8).pin_memory()


def test_a_held_copy_has_not_happened_and_its_destination_is_poisoned() -> None:
    x = torch.full((100,), 3, dtype=torch.uint8, device="fake")
    host = pinned(100)
    with fake_device.hold_copies():
        host.copy_(x, non_blocking=True)
        done = torch.accelerator.current_stream().record_event()
        assert not done.query()
        assert host.eq(PENDING).all()
    done.synchronize()
    assert host.eq(3).all()


def test_a_copy_to_pageable_memory_is_waited_for() -> None:
    x = torch.full((100,), 3, dtype=torch.uint8, device="fake")
    before = fake_device.counters(0).copies_synchronous
    host = torch.zeros(100, dtype=torch.uint8)
    host.copy_(x, non_blocking=True)
    assert host.eq(3).all()
    assert fake_device.counters(0).copies_synchronous == before + 1


def test_a_copy_to_pages_locked_in_place_is_asynchronous_and_poisons_them() -> None:
    x = torch.full((PAGE,), 3, dtype=torch.uint8, device="fake")
    pages = torch.zeros(2 * PAGE, dtype=torch.uint8)
    fake_device.lock_pages(pages.data_ptr(), PAGE)
    before = fake_device.counters(0).copies_synchronous
    with fake_device.hold_copies():
        pages[:PAGE].copy_(x, non_blocking=True)
        done = torch.accelerator.current_stream().record_event()
        assert not done.query()
        assert pages[:PAGE].eq(PENDING).all()
    done.synchronize()
    assert pages[:PAGE].eq(3).all()
    assert fake_device.counters(0).copies_synchronous == before
    pages[PAGE // 2 : PAGE // 2 + PAGE].copy_(x, non_blocking=True)
    assert fake_device.counters(0).copies_synchronous == before + 1
    fake_device.unlock_pages(pages.data_ptr(), PAGE)
    pages[:PAGE].copy_(x, non_blocking=True)
    assert fake_device.counters(0).copies_synchronous == before + 2


def test_a_copy_from_pages_locked_in_place_reads_them_late() -> None:
    pages = torch.ones(PAGE, dtype=torch.uint8)
    fake_device.lock_pages(pages.data_ptr(), PAGE)
    with fake_device.hold_copies():
        x = pages.to("fake", non_blocking=True)
        pages.fill_(2)
    assert x.cpu().eq(2).all()
    fake_device.unlock_pages(pages.data_ptr(), PAGE)


def test_a_copy_from_pinned_memory_reads_it_late_and_from_pageable_memory_at_submit() -> None:
    late, early = pinned(10).fill_(1), torch.ones(10, dtype=torch.uint8)
    with fake_device.hold_copies():
        x = late.to("fake", non_blocking=True)
        y = early.to("fake", non_blocking=True)
        late.fill_(2)
        early.fill_(2)
    assert x.cpu().eq(2).all()
    assert y.cpu().eq(1).all()


def test_the_poison_respects_a_read_that_is_still_to_come() -> None:
    block = pinned(10).fill_(1)
    source = torch.full((10,), 9, dtype=torch.uint8, device="fake")
    with fake_device.hold_copies():
        x = block.to("fake", non_blocking=True)
        block.copy_(source, non_blocking=True)
        assert block.eq(1).all()
    assert x.cpu().eq(1).all()
    torch.accelerator.synchronize()
    assert block.eq(9).all()


def test_a_gathering_copy_to_a_strided_destination_is_synchronous() -> None:
    x = torch.arange(64, dtype=torch.uint8, device="fake").reshape(8, 8)
    before = fake_device.counters(0).copies_synchronous
    dense = torch.zeros(8, 8, dtype=torch.uint8).pin_memory()
    dense.t().copy_(x.t(), non_blocking=True)
    assert fake_device.counters(0).copies_synchronous == before
    dense[:, ::2].copy_(x[:, ::2], non_blocking=True)
    assert fake_device.counters(0).copies_synchronous == before + 1
    torch.accelerator.synchronize()
    assert dense.equal(torch.arange(64, dtype=torch.uint8).reshape(8, 8))


def test_one_engine_a_direction_serves_the_streams_in_turn() -> None:
    fake_device.set_copy_cost(latency=0.01)
    first, second = torch.Stream("fake"), torch.Stream("fake")
    x = torch.zeros(10, dtype=torch.uint8, device="fake")
    torch.accelerator.synchronize()
    start = torch.Event("fake", enable_timing=True)
    ends = [torch.Event("fake", enable_timing=True) for _ in range(2)]
    start.record(first)
    for stream, end in zip((first, second), ends, strict=True):
        with stream:
            pinned(10).copy_(x, non_blocking=True)
        end.record(stream)
    torch.accelerator.synchronize()
    assert max(start.elapsed_time(end) for end in ends) >= 20


def test_bandwidth_makes_the_larger_copy_end_later() -> None:
    fake_device.set_copy_cost(bandwidth=1e6)
    small, large = (torch.zeros(count, dtype=torch.uint8, device="fake") for count in (100, 20_000))
    hosts = pinned(100), pinned(20_000)
    torch.accelerator.synchronize()
    stream = torch.accelerator.current_stream()
    events = [torch.Event("fake", enable_timing=True) for _ in range(3)]
    events[0].record(stream)
    for host, x, event in zip(hosts, (small, large), events[1:], strict=True):
        host.copy_(x, non_blocking=True)
        event.record(stream)
    torch.accelerator.synchronize()
    assert events[1].elapsed_time(events[2]) >= 20


def test_copies_between_devices_are_ordered_on_both() -> None:
    x = torch.zeros(10, device="fake:0")
    with fake_device.hold(torch.accelerator.current_stream(0)):
        x.fill_(4)
        y = x.to("fake:1", non_blocking=True)
        y.add_(1)
    assert y.device == torch.device("fake:1")
    assert y.cpu().eq(5).all()


def test_copies_are_counted_by_kind() -> None:
    x = torch.zeros(10, dtype=torch.uint8, device="fake")
    fake_device.reset_counters()
    x.cpu()
    x.clone()
    torch.zeros(20, dtype=torch.uint8).to("fake:1")
    first, second = fake_device.counters(0), fake_device.counters(1)
    assert (first.copies_d2h, first.bytes_d2h, first.copies_d2d, first.bytes_d2d) == (1, 10, 1, 10)
    assert (second.copies_h2d, second.bytes_h2d, second.copies_d2h) == (1, 20, 0)
    assert fake_device.counters().copies_synchronous == 2


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.transpose(0, 2),
    "sliced": lambda x: x[1:, ::2],
    "reversed": lambda x: x.flip(1)[..., 1],
    "expanded": lambda x: x[:, :1].expand(-1, 7, -1),
    "overlapping": lambda x: x.reshape(-1).unfold(0, 4, 2),
    "scalar": lambda x: x[1, 2, 3],
    "empty": lambda x: x[:0],
    "conjugated": lambda x: x.conj(),
    "imaginary": lambda x: x.conj().imag if x.is_complex() else x,
    "cast": lambda x: x.to(torch.complex128 if x.is_complex() else torch.float64),
    "reinterpreted": lambda x: x.contiguous().view(torch.uint8),
}
DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.int64),
    *(torch.uint64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.float8_e4m3fn),
    *(torch.float8_e5m2, torch.complex64, torch.complex128),
]


def raw(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1).resolve_conj().resolve_neg().contiguous().view(torch.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_same_bytes_as_on_the_cpu(dtype: torch.dtype, layout: str) -> None:
    base = torch.arange(60).reshape(3, 4, 5)
    base = (base + 1j * base.flip(0)).to(dtype) if dtype.is_complex else base.to(dtype)
    expected = LAYOUTS[layout](base)
    got = LAYOUTS[layout](base.to("fake"))
    assert got.stride() == expected.stride()
    here = got.cpu()
    assert here.dtype == expected.dtype
    assert here.shape == expected.shape
    assert raw(here).equal(raw(expected))


def test_operators_run_in_stream_order_without_the_host() -> None:
    a, b = torch.randn(4, 5), torch.randn(5, 3)
    x, y = a.to("fake"), b.to("fake")
    before = fake_device.counters(0)
    with fake_device.hold():
        z = torch.cat([(x @ y).relu() + 1, torch.arange(3, device="fake")[None]]).sum(0)
        assert not torch.accelerator.current_stream().query()
    assert torch.equal(z.cpu(), torch.cat([(a @ b).relu() + 1, torch.arange(3)[None]]).sum(0))
    assert fake_device.counters(0).fallback_operations == before.fallback_operations


def test_operators_that_need_the_data_are_counted_apart() -> None:
    x = torch.tensor([3.0, 1.0, 2.0], device="fake")
    fake_device.reset_counters()
    found = x.nonzero()
    assert fake_device.counters().fallback_operations == 1
    assert fake_device.counters().copies_d2h == fake_device.counters().stream_synchronizes == 0
    assert found.cpu().tolist() == [[0], [1], [2]]


def test_autograd_versions_and_inference_mode() -> None:
    w = torch.full((3,), 2.0, device="fake:1", requires_grad=True)
    torch.autograd.backward((w * w + w).sum())
    assert w.grad is not None
    assert w.grad.cpu().eq(5).all()
    x = torch.zeros(3, device="fake")
    version = x._version
    x.add_(1)
    fake_device.compute(x)
    assert x._version == version + 2
    with torch.inference_mode():
        y = torch.ones(3, device="fake") * 2
    assert y.is_inference()
    assert y.cpu().eq(2).all()


def test_storages_can_be_resized_and_set() -> None:
    x = torch.arange(4, device="fake")
    x.resize_(6)
    assert x[:4].cpu().tolist() == [0, 1, 2, 3]
    y = torch.empty(0, dtype=x.dtype, device="fake").set_(x.untyped_storage(), 1, (2,), (2,))
    assert y.cpu().tolist() == [1, 3]
