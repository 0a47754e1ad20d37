"""The C functions that are the public `to_numpy` and `to_numpy_async`: what they answer by themselves is what a Bridge
answers, and what they leave to Python arrives there."""

from __future__ import annotations

import gc
import pickle
import types
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Call, assert_same_array, hold, interrupt, torchs_answer, wait_until

import torch_np_bridge as tnb
from torch_np_bridge.config import EngineChoice


@pytest.fixture(autouse=True)
def chosen(native: EngineChoice) -> None:
    if tnb.engine_info().engine != native:
        pytest.skip("native: expected it to be the engine of the functions, got another by the environment")


SOURCES: dict[str, Callable[[str], torch.Tensor]] = {
    "dense": lambda device: torch.arange(24.0, device=device).view(4, 6),
    "of no dimension": lambda device: torch.tensor(3, device=device),
    "empty": lambda device: torch.ones(0, 3, device=device),
    "strided": lambda device: torch.arange(24.0, device=device).view(4, 6)[:, ::2],
    "transposed": lambda device: torch.arange(24.0, device=device).view(4, 6).t(),
    "expanded": lambda device: torch.arange(4.0, device=device).expand(3, 4),
    "conjugated": lambda device: torch.arange(4.0, device=device).to(torch.complex64).conj(),
    "bfloat16": lambda device: torch.arange(8.0, device=device).to(torch.bfloat16),
    "that needs a gradient": lambda device: torch.ones(3, device=device, requires_grad=True),
    "a parameter": lambda device: torch.nn.Parameter(torch.ones(3, device=device)),
    "larger than a block": lambda device: torch.ones(300_000, device=device),
}


@pytest.mark.parametrize("source", SOURCES)
def test_they_answer_as_torch_does(device: str, source: str) -> None:
    tensor = SOURCES[source](device)
    with torch.inference_mode():
        in_inference = tnb.to_numpy_async(tensor).result()
    transfer = tnb.to_numpy_async(tensor)
    assert type(transfer) is tnb.Transfer
    for array in (in_inference, transfer.result(), transfer.result(), tnb.to_numpy(tensor), np.asarray(transfer)):
        assert_same_array(array, torchs_answer(tensor))


def test_of_the_same_engine(accelerator: str) -> None:
    """They share the memory and the counters of the other functions."""
    tensor = torch.ones(1000, device=accelerator)
    tnb.to_numpy(tensor, copy=True)
    before = tnb.stats()
    arrays = [tnb.to_numpy_async(tensor).result(), tnb.to_numpy_async([tensor]).result()]
    after = tnb.stats()
    assert after.transfers - before.transfers == len(arrays)
    assert after.leased_bytes > before.leased_bytes


def test_options_and_trees_are_left_to_python(device: str) -> None:
    tensor = torch.arange(4.0, device=device)
    assert tnb.to_numpy_async(tensor, snapshot=True).result().tolist() == [0, 1, 2, 3]
    assert tnb.to_numpy_async(tensor, dtype="float64").result().dtype == np.float64
    assert tnb.to_numpy_async(tree=tensor).result().tolist() == [0, 1, 2, 3]
    assert tnb.to_numpy_async({"a": tensor, "b": "text"}).result()["b"] == "text"
    assert tnb.to_numpy_async("text").result() == "text"
    for arguments in ((), (tensor, tensor)):
        with pytest.raises(TypeError, match="argument"):
            tnb.to_numpy_async(*arguments)


def test_they_are_functions_of_c() -> None:
    """A Python function in front of a call would cost a good part of what the call does."""
    for function in (tnb.to_numpy, tnb.to_numpy_async):
        assert type(function) is types.BuiltinFunctionType
        assert pickle.loads(pickle.dumps(function)) is function


def test_what_is_answered_in_c_asks_no_bridge(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("expected an answer without Python")

    monkeypatch.setattr(tnb.Bridge, "to_numpy", never)
    monkeypatch.setattr(tnb.Bridge, "to_numpy_async", never)
    monkeypatch.setattr(tnb.Transfer, "result", never)
    tensor = torch.arange(24.0, device=device).view(4, 6)
    for source in (tensor, tensor.t(), tensor[:, ::2]):
        assert_same_array(tnb.to_numpy(source), torchs_answer(source))
        tnb.to_numpy_async(source)


def test_a_change_while_to_numpy_waits(fake: ModuleType) -> None:
    tensor = torch.ones(1000, device="fake")
    with hold("fake"):
        begun = tnb.stats().transfers
        stream = torch.accelerator.current_stream()

        def convert() -> Any:
            with stream:
                return tnb.to_numpy(tensor)

        waiting = Call(convert)
        wait_until(lambda: tnb.stats().transfers > begun)
        tensor += 1
        assert not waiting.done()
    with pytest.raises(tnb.SourceMutatedError, match=r"^tree: .*wait for result\(\) before the change"):
        waiting.result()


def test_an_error_of_the_copy_comes_out_of_to_numpy(fake: ModuleType) -> None:
    tensor = torch.ones(1000, device="fake")
    with fake.fail("event_query"), pytest.raises(RuntimeError, match="event_query failed"):
        tnb.to_numpy(tensor)
    assert (tnb.to_numpy(tensor) == 1).all()


def test_ctrl_c_ends_to_numpy(fake: ModuleType) -> None:
    tensor = torch.ones(1000, device="fake")
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
    with hold("fake"):
        interrupt(partial(tnb.to_numpy, tensor))
        del tensor
    wait_until(lambda: fake.counters().device_bytes_live < before)


def test_a_capture_is_refused_in_the_same_words(fake: ModuleType) -> None:
    tensor = torch.ones(8, device="fake")
    stream = torch.Stream("fake")
    tnb.to_numpy_async(tensor).result()
    words = r"^tree: expected a stream of fake:0 .* got one that is captured"
    gc.collect()  # an error of an earlier test may keep its arrays
    with fake.capture(stream) as captured:
        before = tnb.stats(), fake.counters()
        for convert in (tnb.to_numpy, tnb.to_numpy_async):
            with pytest.raises(tnb.UnsupportedTensorError, match=words):
                convert(tensor)
        with pytest.raises(tnb.UnsupportedTensorError, match=words):
            tnb.to_numpy_async(tensor, snapshot=True)
        assert (tnb.stats(), fake.counters()) == before
    del captured


def test_a_device_out_of_memory_is_torchs_error(fake: ModuleType) -> None:
    """So that what catches `torch.OutOfMemoryError` goes on to do so."""
    wide = torch.ones(1, device="fake").expand(1 << 34)
    for tree in (wide, [wide]):
        with pytest.raises(torch.OutOfMemoryError, match=r"^fake:0 is out of memory[^\n]*$"):
            tnb.to_numpy_async(tree, snapshot=True)


def test_the_source_lives_until_its_copy_has_ended(fake: ModuleType) -> None:
    tensor = torch.ones(100_000, device="fake")
    tnb.to_numpy_async(tensor).result()
    torch.accelerator.synchronize()
    before = fake.counters().device_bytes_live
    with fake.hold():
        transfer = tnb.to_numpy_async(tensor)
        del tensor
        assert fake.counters().device_bytes_live == before
    assert (transfer.result() == 1).all()
    wait_until(lambda: fake.counters().device_bytes_live < before)


def test_the_caller_cannot_swap_the_tensor_meanwhile(fake: ModuleType) -> None:
    """A submit that waits for room in the device's queue has let go of the GIL."""
    tensor, other = torch.ones(1000, device="fake"), torch.zeros(10, device="fake")
    tnb.to_numpy_async(tensor).result()
    torch.accelerator.synchronize()
    before = fake.counters().queue_waits
    fake.set_queue_limit(1)
    with fake.hold():
        tensor.add_(1)  # fills the queue
        blocked = Call(lambda: tnb.to_numpy_async(tensor))
        wait_until(lambda: fake.counters().queue_waits > before)
        with pytest.raises(RuntimeError, match=r"single reference|gradient edge"):
            torch.utils.swap_tensors(tensor, other)
    fake.set_queue_limit()
    assert (blocked.result().result() == 2).all()


def test_what_numpy_refuses_lets_go_of_the_copy(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Transfer cannot be made: the copy that is under way is let go of like any that nobody waits for."""
    tensor = torch.ones(100_000, device="fake")
    before = fake.counters().device_bytes_live
    with fake.hold():

        class RefusedError(Exception):
            pass

        def refuse(*arguments: Any) -> None:
            raise RefusedError

        monkeypatch.setattr(tnb.Transfer, "__init__", refuse)
        with pytest.raises(RefusedError):
            tnb.to_numpy_async(tensor)
        monkeypatch.undo()
        del tensor
    wait_until(lambda: fake.counters().device_bytes_live < before)
