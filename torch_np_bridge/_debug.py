"""``TORCH_NP_BRIDGE_DEBUG=1``: what went wrong is said with the line of the user's code that began it."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ._python_engine import Finished
from .engine import Array, Engine, Pending
from .errors import SourceMutatedError
from .transfer import Transfer
from .trees import Structure

_PACKAGE = str(Path(__file__).parent) + os.sep
_SHOWN = 10  # lines of code, those whose arrays are largest
_logger = logging.getLogger("torch_np_bridge")


def line_of_user() -> str:
    """The innermost line that is being run and is not of this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


class Part(NamedTuple):
    """A source that is part of a larger storage: its neighbours have the same counter of changes."""

    path: str
    counted: weakref.ref[torch.Tensor]  # a tensor with that counter; who is debugged keeps what he would have kept
    version: int

    def changed(self) -> bool:
        tensor = self.counted()
        with torch._C.DisableTorchFunctionSubclass():
            return tensor is not None and tensor._version != self.version


def parts(tensors: Sequence[torch.Tensor], structure: Structure) -> list[Part]:
    """Those sources whose changes, if they are any, nobody else reports."""
    found = []
    with torch._C.DisableTorchFunctionSubclass():  # a subclass need not know that it is asked
        for index, tensor in enumerate(tensors):
            if tensor.is_cpu or tensor.is_inference() or tensor.numel() == 0 or _is_whole(tensor):
                continue
            counted = tensor if tensor._base is None else tensor._base
            found.append(Part(structure.path(index), weakref.ref(counted), counted._version))
    return found


def _is_whole(tensor: torch.Tensor) -> bool:
    """Whether it is all of its storage, as the engine sees it: from the first item to the last, gaps included."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.itemsize == tensor.untyped_storage().nbytes()


class Debugging:
    """What a Bridge remembers of its calls while it is debugged: which arrays are alive, and where they come from."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unpooled = 0
        self._told: set[str] = set()
        self._told_of_parts: set[str] = set()
        self._numbers = itertools.count()
        self._alive: dict[int, tuple[str, int, weakref.ref[Array]]] = {}

    def transfer(self, pending: Pending, structure: Structure, sources: Sequence[torch.Tensor]) -> Transfer:
        """The Transfer of a call that was just submitted; its ``sources`` are those that are to stay as they are."""
        line = line_of_user()
        unpooled = self._engine.stats().get("unpooled_leaves", 0)
        if unpooled > self._unpooled and line not in self._told:
            self._told.add(line)
            _logger.warning("%s", self._at_the_limit(line))
        self._unpooled = unpooled
        # The Python engine has nothing in flight, whoever asks later.
        watched = [] if isinstance(pending, Finished) else parts(sources, structure)
        return DebuggedTransfer(pending, structure, line, self, watched)

    def changed(self, line: str, part: Part) -> None:
        """This source, or a neighbour of it, of a call at that line."""
        if line in self._told_of_parts:
            return
        self._told_of_parts.add(line)
        _logger.warning(
            "%s: %s: expected a part of a larger tensor that stays as it is until its copy was seen to have ended, and "
            "the larger one was changed; if it was this part, call result() first or pass snapshot=True",
            line,
            part.path,
        )

    def made(self, line: str, arrays: list[Array]) -> None:
        """These were given out, from a call at that line."""
        for array in arrays:
            if type(array.base).__name__ != "BlockOwner":
                continue  # of no page-locked memory
            number = next(self._numbers)
            gone = weakref.ref(array, lambda _, number=number: self._alive.pop(number, None))  # type: ignore[misc]
            self._alive[number] = (line, array.nbytes, gone)

    def _at_the_limit(self, line: str) -> str:
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for where, size, _ in list(self._alive.values()):
            counts[where] += 1
            sizes[where] += size
        rows = [f"  {counts[where]} arrays, {size} bytes, from {where}" for where, size in sizes.most_common(_SHOWN)]
        words = (
            f"{line}: expected page-locked memory, got the limit of it, so arrays of this call are in ordinary memory; "
            f"keep fewer arrays, or copies of them. Alive are {sum(counts.values())}:"
        )
        return "\n".join([words, *rows])


class DebuggedTransfer(Transfer):
    """A Transfer that knows where it was submitted, and whether anybody has asked for it."""

    __slots__ = ("_asked", "_debugging", "_line", "_parts")

    def __init__(
        self, pending: Pending, structure: Structure, line: str, debugging: Debugging, parts: list[Part]
    ) -> None:
        super().__init__(pending, structure)
        self._line = line
        self._debugging = debugging
        self._asked = False
        self._parts = parts  # until the end was seen

    def done(self) -> bool:
        ended = super().done()
        if ended:
            self._seen()
        return ended

    def _seen(self) -> None:
        self._asked = True
        parts, self._parts = self._parts, []
        for part in parts:
            if part.changed():
                self._debugging.changed(self._line, part)

    def add_done_callback(self, fn: Any) -> None:
        self._asked = True
        super().add_done_callback(fn)

    def block_stream(self, stream: Any = None) -> None:
        self._asked = True
        super().block_stream(stream)
        self._parts = []  # changes are safe from now on

    def _wait(self, timeout: float | None) -> None:
        self._asked = True
        super()._wait(timeout)
        self._seen()

    def _assemble(self, arrays: list[Array]) -> Any:
        try:
            result = super()._assemble(arrays)
        except SourceMutatedError as error:
            raise SourceMutatedError(f"{error}; it was submitted at {self._line}") from None
        self._debugging.made(self._line, arrays)
        return result

    def __del__(self) -> None:
        if not self._asked and not sys.is_finalizing():
            _logger.warning("%s: expected somebody to wait for the Transfer, and it was dropped; keep it", self._line)
