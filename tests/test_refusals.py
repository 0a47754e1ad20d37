"""Contract 13: what cannot become an array is refused in words, with its path, before anything is enqueued."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from conftest import require
from helpers import assert_same_array, torchs_answer
from refused import REFUSED, SUPPORTED, Loud, Refused

import torch_np_bridge as tnb

# Made out here: what a transform's function makes is wrapped too.
GOOD = torch.ones(3)


@pytest.fixture(params=REFUSED)
def refused(request: pytest.FixtureRequest, bridge: tnb.Bridge) -> Refused:
    """What has to be refused by the engine of the bridge."""
    case = REFUSED[request.param]
    for thing in case.needs:
        require(thing)
    if "native" in case.needs and bridge.engine_info().engine != "native":
        pytest.skip("expected the native engine; got the Python one, with which torch's own rules hold")
    return case


def test_the_words(bridge: tnb.Bridge, refused: Refused) -> None:
    def convert(tensor: torch.Tensor) -> None:
        for function in (bridge.to_numpy, bridge.to_numpy_async):
            with pytest.raises(tnb.UnsupportedTensorError, match=f"^tree: expected .*{refused.words}"):
                function(tensor)
        with pytest.raises(TypeError, match=rf"^tree\['outputs'\]\[1\]: expected .*{refused.words}"):
            bridge.to_numpy({"inputs": GOOD, "outputs": [GOOD, tensor]})
        options: list[dict[str, Any]] = [{"dtype": np.float64}, {"copy": True}]
        if tensor.device.type != "fake":  # no view is what that one is in the first place
            options.append({"copy": False})
        for option in options:
            with pytest.raises(tnb.UnsupportedTensorError, match=refused.words):
                bridge.to_numpy([tensor], **option)

    refused.meet(convert)


def test_nothing_is_enqueued(bridge: tnb.Bridge, fake: ModuleType, refused: Refused) -> None:
    good = torch.ones(100, device="fake")
    bridge.to_numpy(good)

    def convert(tensor: torch.Tensor) -> None:
        if not refused.needs:
            torch.accelerator.synchronize()
        fake.reset_counters()
        before = fake.counters()
        for tree in ([good, tensor], [tensor, good]):
            for convert in (bridge.to_numpy, bridge.to_numpy_async):
                with pytest.raises(tnb.UnsupportedTensorError):
                    convert(tree)
        assert fake.counters() == before

    refused.meet(convert)
    assert (bridge.to_numpy(good) == 1).all()


@pytest.mark.parametrize("what", SUPPORTED)
def test_what_one_may_doubt(bridge: tnb.Bridge, what: str) -> None:
    for convert in (bridge.to_numpy, tnb.to_numpy, lambda x: bridge.to_numpy_async([x]).result()[0]):
        array = SUPPORTED[what](convert)
        assert_same_array(array, np.ones(3, np.float32))
    assert SUPPORTED[what](lambda tensor: bridge.to_numpy(tensor, dtype="bfloat16")).dtype == "bfloat16"


@pytest.mark.parametrize("what", REFUSED)
def test_the_public_function_refuses_too(what: str) -> None:
    for thing in REFUSED[what].needs:
        require(thing)

    def convert(tensor: torch.Tensor) -> None:
        with pytest.raises(tnb.UnsupportedTensorError, match=REFUSED[what].words):
            tnb.to_numpy(tensor)

    REFUSED[what].meet(convert)


def test_on_a_device(bridge: tnb.Bridge, fake: ModuleType) -> None:
    for tensor, words in (
        (torch.ones(3, device="fake").view(torch.int32).view(torch.uint8).view(torch.bits8), "torch.bits8"),
        (torch.ones([1] * 65, device="fake"), "64 dimensions"),
    ):
        with pytest.raises(tnb.UnsupportedTensorError, match=words):
            bridge.to_numpy([tensor])


def test_a_compiled_function_may_convert(bridge: tnb.Bridge) -> None:
    """Tracing stops at the call, which runs as always."""

    def step(x: torch.Tensor) -> Any:
        return bridge.to_numpy(x * 2), tnb.to_numpy(x + 1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        doubled, added = torch.compile(step, backend="eager")(torch.ones(3))
    assert_same_array(doubled, torchs_answer(torch.full((3,), 2.0)))
    assert_same_array(added, torchs_answer(torch.full((3,), 2.0)))


@pytest.mark.parametrize("leaf", [None, 1, 2.5, "text", b"bytes", np.arange(3), object(), np.float32(1), torch.float32])
def test_leaves_that_are_no_tensors_pass(bridge: tnb.Bridge, leaf: object) -> None:
    assert bridge.to_numpy(leaf) is leaf
    assert bridge.to_numpy_async({"a": [leaf]}).result()["a"][0] is leaf


def test_no_tensor_at_all(bridge: tnb.Bridge) -> None:
    assert bridge.to_numpy({}) == {}
    assert bridge.to_numpy_async([]).result() == []


def test_a_closed_bridge(bridge: tnb.Bridge, device: str) -> None:
    array = bridge.to_numpy(torch.ones(3, device=device))
    bridge.close()
    bridge.close()
    for function in (bridge.to_numpy, bridge.to_numpy_async):
        with pytest.raises(RuntimeError, match="got a closed one; make a new Bridge"):
            function(torch.ones(3))
    assert array.tolist() == [1, 1, 1]


def test_arguments_of_the_wrong_kind(bridge: tnb.Bridge) -> None:
    functions: list[Any] = [bridge.to_numpy, tnb.to_numpy]
    for function in functions:
        with pytest.raises(TypeError):
            function()
        with pytest.raises(TypeError):
            function(torch.ones(3), torch.ones(3))
        with pytest.raises(TypeError, match="unexpected keyword argument 'dtyp'"):
            function(torch.ones(3), dtyp=np.float32)


@pytest.mark.parametrize("copy", [None, True, False])
def test_the_operations_of_a_subclass_are_not_asked(bridge: tnb.Bridge, copy: bool | None) -> None:
    values = torch.arange(4.0)
    loud = values.as_subclass(Loud)
    Loud.asked.clear()
    got, inside = bridge.to_numpy(loud, copy=copy), bridge.to_numpy({"a": [loud]}, copy=copy)["a"][0]
    snapshot = bridge.to_numpy_async(loud, snapshot=True).result()
    assert Loud.asked == []
    for array in (got, inside, snapshot):
        assert_same_array(array, torchs_answer(values))
    assert (got.ctypes.data == values.data_ptr()) is (copy is not True)


class Overriding(torch.Tensor):
    """Has methods of its own by the names of those that make an array."""

    def _refuse(self, *args: Any, **options: Any) -> Any:
        raise AssertionError("a method of a subclass was called")

    detach = to = cpu = clone = resolve_conj = resolve_neg = contiguous = numpy = __array__ = _refuse


@pytest.mark.parametrize("options", [{}, {"copy": True}, {"dtype": np.float64}], ids=str)
def test_methods_of_a_subclass_are_not_called(bridge: tnb.Bridge, device: str, options: dict[str, Any]) -> None:
    tensor = torch.arange(4.0, device=device).as_subclass(Overriding)
    assert bridge.to_numpy([tensor], **options)[0].tolist() == [0, 1, 2, 3]
    assert bridge.to_numpy_async(tensor, snapshot=True).result().tolist() == [0, 1, 2, 3]


def test_the_words_for_a_subclass_do_not_ask_it(bridge: tnb.Bridge) -> None:
    loud = torch.view_as_complex(torch.ones(3, 2)).conj().as_subclass(Loud)
    Loud.asked.clear()
    with pytest.raises(ValueError, match="lazily conjugated"):
        bridge.to_numpy(loud, copy=False)
    with pytest.raises(tnb.UnsupportedTensorError, match="on the meta device"):
        bridge.to_numpy(torch.ones(3, device="meta").as_subclass(Loud))
    assert Loud.asked == []


def test_a_mode_of_torch_functions_is_not_asked(bridge: tnb.Bridge, device: str) -> None:
    class Counting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            asked.append(func)
            return func(*args, **(kwargs or {}))

    asked: list[Any] = []
    tensor = torch.ones(3, device=device)
    with Counting():
        bridge.to_numpy(tensor, copy=True)
    assert asked == []


LAZY: dict[str, Callable[[], torch.Tensor]] = {
    "parameter": lambda: torch.nn.LazyLinear(3).weight,
    "buffer": lambda: torch.nn.parameter.UninitializedBuffer(),
}


@pytest.mark.parametrize("kind", LAZY)
@pytest.mark.parametrize("copy", [None, True, False])
def test_parameters_of_a_lazy_module(bridge: tnb.Bridge, kind: str, copy: bool | None) -> None:
    lazy = LAZY[kind]()
    words = r"expected a tensor with a shape, got a parameter of a lazy module; run the module's first forward"
    for convert in (bridge.to_numpy, tnb.to_numpy):
        with pytest.raises(tnb.UnsupportedTensorError, match=f"^tree: {words}"):
            convert(lazy, copy=copy)
        with pytest.raises(tnb.UnsupportedTensorError, match=rf"^tree\['w'\]: {words}"):
            convert({"w": lazy}, copy=copy)


def test_parameters_of_a_lazy_module_after_its_first_forward(bridge: tnb.Bridge) -> None:
    layer = torch.nn.LazyLinear(3)
    layer(torch.ones(1, 2))
    assert bridge.to_numpy(layer.weight).shape == (3, 2)
    assert bridge.to_numpy(torch.empty(0).as_subclass(Loud)).shape == (0,)


@pytest.mark.parametrize("left", [0, 8], ids=["freed", "smaller"])
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[::2], lambda x: x[2:], lambda x: x.t()])
def test_a_storage_that_was_freed_under_the_tensor(
    bridge: tnb.Bridge, device: str, left: int, view: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """As sharded training does it between its steps."""
    whole = torch.ones(4, 3, device=device)
    part = view(whole)
    whole.untyped_storage().resize_(left)
    words = rf"expected a storage of \d+ bytes or more, got one of {left}: it was freed or made smaller"
    for convert in (bridge.to_numpy, tnb.to_numpy):
        with pytest.raises(tnb.UnsupportedTensorError, match=f"^tree: {words}"):
            convert(part)
        with pytest.raises(tnb.UnsupportedTensorError, match=rf"^tree\[1\]: {words}"):
            convert([torch.ones(1), part])
        assert convert(part[:0]).size == 0


def test_a_storage_that_just_suffices(bridge: tnb.Bridge, device: str) -> None:
    whole = torch.arange(12.0, device=device).view(4, 3)
    for part in (whole[1:2], whole[1:4:2, :1], whole[1].t()):
        rest = part.clone()
        steps = ((size - 1) * stride for size, stride in zip(part.shape, part.stride(), strict=True))
        needed = part.storage_offset() + sum(steps) + 1
        whole.untyped_storage().resize_(4 * int(needed))
        assert_same_array(bridge.to_numpy(part, copy=True), rest.cpu().numpy().copy())
        whole.untyped_storage().resize_(48)
