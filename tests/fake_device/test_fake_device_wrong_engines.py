"""Wrong copy engines are caught, each for its own fault, and the right one is not."""

from collections.abc import Callable

import pytest
import torch

import fake_device

from . import wrong_engines as engines

SIZE = 256
OLD, NEW = 1, 2
FREED, PENDING = 0xDB, 0xA5


def made(value: int, device: str = "fake:0") -> torch.Tensor:
    x = torch.full((SIZE,), value, dtype=torch.uint8, device=device)
    torch.accelerator.synchronize(device)
    return x


def foreign(value: int) -> torch.Tensor:
    return fake_device.foreign_tensor(torch.full((SIZE,), value, dtype=torch.uint8))


def block() -> torch.Tensor:
    return torch.zeros(SIZE, dtype=torch.uint8).pin_memory()


def value(result: torch.Tensor) -> int:
    """The one value that all bytes have."""
    assert result.eq(result[0]).all()
    return int(result[0])


def result_after_drop(engine: engines.Engine, take: Callable[[], torch.Tensor]) -> int:
    """The result if the caller drops the source at once, and the producer's stream goes on while the copy is held."""
    with fake_device.hold_copies():
        transfer = engine(take(), block())
        torch.accelerator.current_stream(0).synchronize()
    return value(transfer.result())


def test_the_right_engine_waits_for_the_producer() -> None:
    x = made(OLD)
    with fake_device.hold():
        x.fill_(NEW)
        transfer = engines.right(x, block())
        assert not transfer.done.query()
    assert value(transfer.result()) == NEW


def test_without_producer_wait_the_result_is_old() -> None:
    x = made(OLD)
    with fake_device.hold():
        x.fill_(NEW)
        assert value(engines.without_producer_wait(x, block()).result()) == OLD


def test_the_right_engine_keeps_the_source() -> None:
    assert result_after_drop(engines.right, [made(NEW)].pop) == NEW
    assert result_after_drop(engines.right, [foreign(NEW)].pop) == NEW


def test_a_source_that_is_not_kept_gives_poison() -> None:
    assert result_after_drop(engines.source_not_kept, [made(NEW)].pop) == FREED


def test_a_recorded_source_is_safe_only_in_the_caching_allocator() -> None:
    assert result_after_drop(engines.source_only_recorded, [made(NEW)].pop) == NEW
    assert result_after_drop(engines.source_only_recorded, [foreign(NEW)].pop) == FREED


def test_the_right_engine_records_where_it_copies() -> None:
    x = made(NEW, "fake:1")
    with fake_device.hold_copies():
        transfer = engines.right(x, block())
        assert not transfer.done.query()
    assert value(transfer.result()) == NEW


def test_an_event_on_the_current_device_passes_before_the_copy() -> None:
    x = made(NEW, "fake:1")
    with fake_device.hold_copies():
        assert value(engines.recorded_on_the_current_device(x, block()).result()) == PENDING


def test_an_event_of_another_device_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"expected a stream of fake:0.*got one of fake:1"):
        engines.event_of_another_device(made(NEW, "fake:1"), block())


def test_a_result_without_wait_is_poison() -> None:
    with fake_device.hold_copies():
        assert value(engines.result_without_wait(made(NEW), block()).result()) == PENDING


@pytest.mark.parametrize("early", [False, True])
def test_a_block_that_returns_early_is_overwritten(early: bool) -> None:
    pool = engines.Pool(engines.right, early=early)
    sources = made(OLD), made(NEW)
    with fake_device.hold_copies():
        transfers = [pool.submit(source) for source in sources]
    second = value(pool.finish(transfers[1]))
    first = value(pool.finish(transfers[0]))
    assert (first, second) == ((NEW, NEW) if early else (OLD, NEW))
