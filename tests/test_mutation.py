"""Contract 6: a source that is changed in place before its copy was seen to have ended is told of."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from helpers import hold, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice

CHANGES: dict[str, Callable[[torch.Tensor], Any]] = {
    "add_": lambda x: x.add_(1),
    "zero_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(torch.zeros_like(x)),
    "out=": lambda x: torch.add(x, 1, out=x),
    "item": lambda x: x.__setitem__(0, 9),
    "a view": lambda x: x.view(-1)[:5].fill_(3),
    "a detached view": lambda x: x.detach().fill_(3),
}
# Sources that are all of their storage, in any order of dimensions.
WHOLE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "itself": lambda x: x,
    "transposed": lambda x: x.t(),
    "reshaped": lambda x: x.view(4, 2, 4),
    "a slice of everything": lambda x: x[:],
    "reinterpreted": lambda x: x.view(torch.uint8),
}
# Sources that are a part of their storage: a neighbour may be what was written.
PARTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "the first row": lambda x: x[0],
    "the last row": lambda x: x[-1],
    "every other row": lambda x: x[::2],
    "every other column": lambda x: x[:, ::2],
    "all but an element": lambda x: x.view(-1)[1:],
    "one element": lambda x: x[0, 0],
}


def ones(device: str) -> torch.Tensor:
    return torch.ones(8, 4, device=device)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_flight_is_reported(native_bridge: tnb.Bridge, accelerator: str, change: str) -> None:
    x = ones(accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async({"a": [torch.ones(2, device=accelerator), x]})
        CHANGES[change](x)
    for _ in range(2):
        with pytest.raises(tnb.SourceMutatedError, match=r"^tree\['a'\]\[1\]: expected a source that stays as it is"):
            transfer.result()
    assert isinstance(transfer.exception(), tnb.SourceMutatedError)
    assert transfer.done()


@pytest.mark.parametrize("source", WHOLE)
def test_views_of_everything_are_watched(native_bridge: tnb.Bridge, accelerator: str, source: str) -> None:
    x = ones(accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(WHOLE[source](x))
        x += 1
    with pytest.raises(tnb.SourceMutatedError, match=r"^tree: .*snapshot=True, or call block_stream"):
        transfer.result()


@pytest.mark.parametrize("source", PARTS)
def test_a_neighbour_in_the_same_storage_proves_nothing(
    native_bridge: tnb.Bridge, accelerator: str, source: str
) -> None:
    x = ones(accelerator)
    torch.accelerator.synchronize()
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(PARTS[source](x))
        x[1, 1] += 0
    assert (transfer.result() == 1).all()


def test_a_rollout_buffer_is_written_row_by_row(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """Each row goes to the host while the next ones are written."""
    steps = 20
    buffer = torch.zeros(steps, 100, device=accelerator)
    transfers = []
    with hold(accelerator):
        for step in range(steps):
            buffer[step] = step + 1
            transfers.append(native_bridge.to_numpy_async(buffer[step]))
    assert [transfer.result()[0] for transfer in transfers] == list(range(1, steps + 1))


def test_a_change_after_the_copy_but_before_anyone_looked_is_reported(
    native_bridge: tnb.Bridge, accelerator: str
) -> None:
    """Nobody can tell the difference: a synchronise outside the bridge is not seen."""
    x = ones(accelerator)
    transfer = native_bridge.to_numpy_async(x)
    torch.accelerator.synchronize()
    x += 1
    with pytest.raises(tnb.SourceMutatedError):
        transfer.result()


OBSERVERS: dict[str, Callable[[tnb.Bridge, tnb.Transfer, str], Any]] = {
    "done": lambda bridge, transfer, device: transfer.done(),
    "result": lambda bridge, transfer, device: transfer.result(),
    "exception": lambda bridge, transfer, device: transfer.exception(),
    "repr": lambda bridge, transfer, device: repr(transfer),
    "another submit": lambda bridge, transfer, device: bridge.to_numpy_async(torch.zeros(3, device=device)),
    "another bridge": lambda bridge, transfer, device: tnb.Bridge(engine="native").to_numpy(ones(device)),
    "trim": lambda bridge, transfer, device: bridge.trim(),
    "close": lambda bridge, transfer, device: bridge.close(),
}


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_change_after_the_end_was_observed_is_fine(
    native_bridge: tnb.Bridge, accelerator: str, observer: str
) -> None:
    x = ones(accelerator)
    transfer = native_bridge.to_numpy_async(x)
    torch.accelerator.synchronize()
    OBSERVERS[observer](native_bridge, transfer, accelerator)
    x += 1
    assert (transfer.result() == 1).all()


def test_the_worker_observes_too(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    """It looks at all that is in flight, oldest first, once a Transfer was dropped."""
    x = ones("fake")
    before = fake.counters().device_bytes_live
    with fake.hold():
        transfer = native_bridge.to_numpy_async(x)
        native_bridge.to_numpy_async(torch.zeros(50_000, device="fake"))
    wait_until(lambda: fake.counters().device_bytes_live == before)
    x += 1
    assert (transfer.result() == 1).all()


def test_a_change_before_the_call_is_no_matter(bridge: tnb.Bridge, device: str) -> None:
    x = ones(device)
    x += 1
    assert (bridge.to_numpy_async(x).result() == 2).all()


def test_reading_is_no_change(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x = ones(accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(x)
        total = (x * 2).t()[1:] + x.detach().view(4, 8)[:, 0].sum()
    assert (transfer.result() == 1).all()
    assert total.shape == (3, 8)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_the_changed_leaf_of_several_devices_is_named(native_bridge: tnb.Bridge, fake: ModuleType, which: int) -> None:
    tree: dict[str, Any] = {"x": ones("fake:0"), "y": [ones("fake:1"), 7, ones("fake:0")]}
    leaves: list[Any] = [tree["x"], tree["y"][0], tree["y"][2]]
    with fake.hold(torch.accelerator.current_stream(0)), fake.hold(torch.accelerator.current_stream(1)):
        transfer = native_bridge.to_numpy_async(tree)
        leaves[which] += 1
    path = [r"tree\['x'\]", r"tree\['y'\]\[0\]", r"tree\['y'\]\[2\]"][which]
    with pytest.raises(tnb.SourceMutatedError, match=f"^{path}: "):
        transfer.result()


def test_other_transfers_are_not_touched(native_bridge: tnb.Bridge, accelerator: str) -> None:
    x, y = ones(accelerator), ones(accelerator)
    with hold(accelerator):
        changed, kept = native_bridge.to_numpy_async(x), native_bridge.to_numpy_async(y)
        x += 1
    with pytest.raises(tnb.SourceMutatedError):
        changed.result()
    assert (kept.result() == 1).all()
    assert (native_bridge.to_numpy(x) == 2).all()


def test_an_error_of_the_copy_comes_first(native_bridge: tnb.Bridge, fake: ModuleType) -> None:
    x = ones("fake")
    native_bridge.to_numpy(x)
    with fake.hold():
        transfer = native_bridge.to_numpy_async(x)
        x += 1
        with fake.fail("event_query"):
            assert transfer.done()
    with pytest.raises(RuntimeError, match="event_query failed"):
        transfer.result()


@pytest.mark.parametrize("limit", [0, "32MiB"])
def test_staged_sources_are_watched(native: EngineChoice, fake: ModuleType, limit: int | str) -> None:
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge:
        x = torch.ones(5_000_000, device="fake")
        with fake.hold():
            transfer = bridge.to_numpy_async([torch.ones(3), x])
            x += 1
        with pytest.raises(tnb.SourceMutatedError, match=r"^tree\[1\]: "):
            transfer.result()
        transfer = bridge.to_numpy_async(x)
        wait_until(transfer.done)
        x += 1
        assert (transfer.result() == 2).all()


RESIZED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "a part": lambda x: x[1:],
    "an inference tensor": lambda x: x,
}


@pytest.mark.parametrize("limit", [None, 0, "32MiB"])
@pytest.mark.parametrize("source", RESIZED)
def test_memory_that_was_given_away_in_flight_is_reported(
    native: EngineChoice, accelerator: str, source: str, limit: int | str | None
) -> None:
    """A storage that is resized frees what the copy has yet to read; no counter is needed to see that."""
    with tnb.Bridge(engine=native, pinned_limit=limit) as bridge, torch.inference_mode(source == "an inference tensor"):
        x = torch.ones(5_000_000, device=accelerator)
        with hold(accelerator):
            transfer = bridge.to_numpy_async([torch.ones(3), RESIZED[source](x)])
            x.resize_(5_000_001)
        with pytest.raises(tnb.SourceMutatedError, match=r"^tree\[1\]: "):
            transfer.result()


def test_inference_tensors_have_no_counter(native_bridge: tnb.Bridge, accelerator: str) -> None:
    with torch.inference_mode():
        x = ones(accelerator)
        with hold(accelerator):
            transfer = native_bridge.to_numpy_async([x, x.t()])
            x += 0
        assert all((array == 1).all() for array in transfer.result())
    assert (native_bridge.to_numpy_async(x).result() == 1).all()


def test_a_change_through_data_counts_elsewhere(native_bridge: tnb.Bridge, accelerator: str) -> None:
    """`x.data` has a counter of its own: nothing tells of it, and the copy has the one or the other."""
    x = ones(accelerator)
    with hold(accelerator):
        transfer = native_bridge.to_numpy_async(x)
        before = x._version
        x.data.fill_(3)
        assert x._version == before
    assert transfer.exception() is None


def test_cpu_views_are_shared_and_not_watched(bridge: tnb.Bridge) -> None:
    x = torch.ones(3)
    transfer = bridge.to_numpy_async(x)
    x += 1
    assert transfer.result().tolist() == [2, 2, 2]


def test_a_worker_keeps_to_the_memory_that_the_source_had(native: EngineChoice, fake: ModuleType) -> None:
    """More than fits the ring: the last chunks are enqueued after the source has lost its memory."""
    x = torch.ones(64 << 20, dtype=torch.uint8, device="fake")
    with tnb.Bridge(engine=native, pinned_limit=32 << 20) as bridge:
        with fake.hold_copies():
            transfer = bridge.to_numpy_async(x)
            x.untyped_storage().resize_(0)
        with pytest.raises(tnb.SourceMutatedError):
            transfer.result()
