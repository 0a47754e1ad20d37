"""The cases by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from ....functions import engine_info
from ...target import Target
from ..results import Entry, Measured
from ..setting import Setting
from . import (
    n01_thousand_tensors,
    n02_small_tensors,
    n03_large_tensor,
    n04_mebibyte,
    n05_small_tensor,
    n06_one_liner,
    n07_submit,
    n08_steady,
    n09_pipeline,
    n10_cpu_view,
    n11_layouts,
    n12_tail,
    n13_keeps_all,
)


@dataclass(frozen=True)
class Case:
    """One of N1 to N13, and what it cannot do without."""

    name: str
    title: str
    measure: Callable[[Setting], Measured]
    on: Literal["cpu", "accelerator"] = "accelerator"
    native: bool = False

    def missing(self, target: Target) -> str | None:
        """Why it cannot be measured on a device; ``None`` where it can."""
        if self.on == "accelerator" and target.is_cpu:
            return "an accelerator is needed; name one by --device, with --load where a module registers it"
        if self.native and engine_info().engine != "native":
            return f"the native engine is needed: {engine_info().reason}"
        return None

    def entry(self, measured: Measured) -> Entry:
        """What it found, as a part of a report."""
        return Entry(self.name, self.title, self.on, measured)


def _case(module: ModuleType, *, on: Literal["cpu", "accelerator"] = "accelerator", native: bool = False) -> Case:
    number = int(module.__name__.rpartition(".n")[2].partition("_")[0])
    return Case(f"N{number}", str(module.__doc__).splitlines()[0], module.measure, on, native)


ALL: dict[str, Case] = {
    case.name: case
    for case in (
        _case(n01_thousand_tensors),
        _case(n02_small_tensors),
        _case(n03_large_tensor),
        _case(n04_mebibyte),
        _case(n05_small_tensor),
        _case(n06_one_liner),
        _case(n07_submit, native=True),
        _case(n08_steady, native=True),
        _case(n09_pipeline, native=True),
        _case(n10_cpu_view, on="cpu"),
        _case(n11_layouts),
        _case(n12_tail),
        _case(n13_keeps_all, native=True),
    )
}
