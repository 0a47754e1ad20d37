"""The protocol that engines meet, and the one place that selects between them and imports the extension."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import ml_dtypes
import numpy as np
import optree
import torch

from ._classes import LEVELS
from ._contents import ATOMS
from ._python_engine import PythonEngine
from ._recording import Recording
from ._version import __version__
from ._walk import Walk, leave_all
from .casting import Casts
from .config import EngineChoice, read_settings
from .dtypes import NUMPY_DTYPES
from .errors import EngineUnavailableError
from .memory_limit import default_limit

Array = np.ndarray[Any, Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])
REBUILD = "pip install --no-build-isolation --force-reinstall --no-deps ."


class Pending(Protocol):
    """One submission on its way: arrays that nobody sees before their bytes are there."""

    def done(self) -> bool:
        """Whether the copies have ended, well or not; never waits."""

    def wait(self, timeout: float | None) -> bool:
        """Wait for at most ``timeout`` seconds (``None``: as long as it takes); whether the copies have ended."""

    def arrays(self) -> list[Array]:
        """The arrays of a submission that has ended, in the order of its tensors; raises the error of the copies."""

    def mutated_leaf(self) -> int | None:
        """The index of a tensor that was seen to have been changed in place before its copy was seen to have ended."""

    def add_done_callback(self, function: Callable[[], Any]) -> None:
        """Call ``function`` once the copies have ended, well or not; never in this call where they have not."""

    def block_stream(self, stream: torch.Stream | None) -> None:
        """Make ``stream``, or the current stream of each device, wait for the copies; the host does not wait."""


class Engine(Protocol):
    """What turns tensors into arrays. Engines know no trees, no options of the public functions and no words."""

    @property
    def name(self) -> Literal["native", "python"]: ...

    def submit(
        self,
        tensors: Sequence[torch.Tensor],
        out: Sequence[Any] | None,
        cast: Casts | None,
        fresh: bool,
        snapshot: bool,
        blocking: bool,
    ) -> Pending:
        """Start the copies of ``tensors``, or views of them where they are on the CPU and nothing else is asked for.

        ``out`` has an array for each tensor that is filled and given back; where it is ``None`` they are made.
        ``cast`` has the dtypes whose tensors are cast before they are copied, each with that of its arrays;
        ``fresh`` asks for memory of its own for each array, ``snapshot`` for the values of this moment,
        and ``blocking`` says that the caller is going to wait at once.

        Raises :class:`~torch_np_bridge.errors.LeafRefusedError` or
        :class:`~torch_np_bridge.errors.OutputRefusedError` before anything is enqueued. Errors of the copies
        themselves belong to the returned :class:`Pending`.
        """

    def empty(self, device: torch.device | None, bytes: int) -> Array:
        """So many bytes for the host to write to, page-locked for ``device`` where that can be had."""

    def close(self) -> None:
        """Wait for what is in flight. Arrays that are alive stay valid."""

    def trim(self) -> None:
        """Give page-locked memory that nobody uses back to the system."""

    def stats(self) -> dict[str, int]:
        """The fields of :class:`~torch_np_bridge._stats.Stats` that this engine knows."""

    def start_profile(self) -> Recording | None:
        """Record what is submitted from now on; ``None`` where that is done already."""

    def stop_profile(self) -> None:
        """Record nothing any more; what was begun is followed to its end."""

    def front(self, function: _Function, transfer: Callable[[Pending], Any]) -> _Function:
        """The public form of ``function``, ``to_numpy`` of the default bridge: the same name, signature and help.

        An engine may answer the simplest call, one tensor without options, by itself and pass on all others;
        ``transfer`` makes what has the words of an error of the copies.
        """

    def front_async(self, function: _Function, transfer: Callable[[Pending], Any]) -> _Function:
        """The same for ``to_numpy_async``; ``transfer`` makes what it returns."""


@dataclass(frozen=True)
class EngineInfo:
    """Which engine runs, why, and with what.

    Attributes:
        engine: ``"native"`` or ``"python"``.
        reason: why that one, in a sentence, and what a device turned out to lack.
        kernels: the architectures of the CUDA kernels in the extension, or why there are none.
        built_for: the version of torch that the extension was built for; ``None`` where there is none.
        devices: the accelerators that torch sees, such as ``"cuda:0"``.
        limit: the most bytes that may be page-locked.
        versions: of the package, torch, numpy, ml_dtypes, optree and python, by name.
    """

    engine: Literal["native", "python"]
    reason: str
    kernels: str
    built_for: str | None
    devices: tuple[str, ...]
    limit: int
    versions: dict[str, str]


class Extension(NamedTuple):
    """The compiled module, or why there is none that can be used."""

    module: ModuleType | None
    built_for: str | None
    problem: str


@cache
def extension() -> Extension:
    """Load the compiled module, unless it was built for another torch: that one is not even imported."""
    try:
        built_for: str | None = import_module("._build_info", __package__).BUILT_FOR_TORCH
        absence: str = import_module("._build_info", __package__).NATIVE_REASON
    except ImportError:
        return Extension(None, None, f"this copy was never built; run, in its source folder: {REBUILD}")
    if built_for is None:
        return Extension(None, None, f"{absence}; to get the native engine run, in its source folder: {REBUILD}")
    if _minor(built_for) != _minor(torch.__version__):
        problem = f"the extension was built for torch {built_for}, this is torch {torch.__version__}"
        return Extension(None, built_for, f"{problem}; run, in its source folder: {REBUILD}")
    try:
        module = import_module("._C", __package__)
    except ImportError as error:
        return Extension(
            None, built_for, f"the extension does not load ({error}); run, in its source folder: {REBUILD}"
        )
    module.set_dtypes(list(NUMPY_DTYPES.items()))
    return Extension(module, built_for, "")


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split("+")[0].split(".")[:2])


class Selection(NamedTuple):
    """An engine, why it was taken, and the most bytes that it may page-lock, as they were when it was selected.

    ``walk`` is how the trees of its tensors are taken apart.
    """

    engine: Engine
    reason: str
    limit: int
    walk: Walk = leave_all


@cache
def _process_limit() -> int:
    """The limit that all Bridges without one of their own share; it is read once, when the first of them is made."""
    limit = read_settings().pinned_limit
    return default_limit() if limit is None else limit


@cache
def _process_shared_limit() -> Any:
    """The account that all Bridges without a limit of their own share."""
    module = extension().module
    assert module is not None
    return module.SharedLimit(_process_limit())


@cache
def _native_walk() -> Walk:
    module = extension().module
    assert module is not None
    walk: Walk = module.TreeWalker(torch.Tensor, ATOMS, LEVELS).walk
    return walk


def select(choice: EngineChoice, pinned_limit: int | None) -> Selection:
    """The engine for ``choice``; ``auto`` asks the environment first, and is native wherever the extension loads.

    ``pinned_limit`` is for this engine alone; ``None`` shares the limit of the process.
    """
    reason = f"asked for by engine={choice!r}"
    if choice == "auto":
        choice = read_settings().engine
        reason = "the extension loads" if choice == "auto" else f"asked for by TORCH_NP_BRIDGE_ENGINE={choice}"
    limit = _process_limit() if pinned_limit is None else pinned_limit
    if choice == "python":
        return Selection(PythonEngine(), reason, limit)
    loaded = extension()
    if loaded.module is not None:
        shared = _process_shared_limit() if pinned_limit is None else loaded.module.SharedLimit(pinned_limit)
        engine = loaded.module.Engine(shared, read_settings().debug)
        return Selection(engine, reason, limit, _native_walk())
    if choice == "native":
        raise EngineUnavailableError(f"expected the native engine, as asked for; got none: {loaded.problem}")
    return Selection(PythonEngine(), loaded.problem, limit)


def describe(selection: Selection) -> EngineInfo:
    """What :func:`torch_np_bridge.engine_info` says of what was selected."""
    loaded = extension()
    return EngineInfo(
        engine=selection.engine.name,
        reason=selection.reason + _shortfalls(selection),
        kernels="none: no extension" if loaded.module is None else loaded.module.kernels(),
        built_for=loaded.built_for,
        devices=_devices(),
        limit=selection.limit,
        versions={
            "torch_np_bridge": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "ml_dtypes": ml_dtypes.__version__,
            "optree": optree.__version__,
            "python": platform.python_version(),
        },
    )


def _shortfalls(selection: Selection) -> str:
    module = extension().module
    if module is None or selection.engine.name != "native":
        return ""
    sentences: str = module.lack_of_asynchrony() + module.lack_of_page_locking()
    return sentences


def current_device() -> torch.device | None:
    """The accelerator that the calling thread uses; ``None`` where there is none."""
    if not torch.accelerator.is_available():
        return None
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    return torch.device(accelerator.type, torch.accelerator.current_device_index())


def _devices() -> tuple[str, ...]:
    if not torch.accelerator.is_available():
        return ()
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None
    return tuple(f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count()))


def c_docstring(function: Callable[..., Any]) -> str:
    """The docstring of ``function`` behind its signature, which is where C functions have it for ``inspect``."""
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return f"{function.__name__}{inspect.Signature(bare)}\n--\n\n{inspect.getdoc(function)}"
