"""Other libraries that bring tensors to the host, as their authors would write it; those that are installed.

They wait for CUDA's devices in their own way, so elsewhere they are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

Tree = Mapping[str, torch.Tensor]
Way = Callable[[], Any]


def absences(device: torch.device) -> dict[str, str]:
    """The libraries that cannot be compared with here, and why."""
    found = {}
    for name, (module, _) in _LIBRARIES.items():
        if device.type != "cuda":
            found[name] = f"copies from CUDA, not from {device.type}"
        else:
            try:
                import_module(module)
            except Exception as error:  # whatever another library raises when it is imported without its own needs
                found[name] = (
                    f"cannot be imported: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
                )
    return found


def ways(tree: Tree) -> dict[str, Way]:
    """What the libraries make of a dict of tensors of one device."""
    absent = absences(next(iter(tree.values())).device)
    found: dict[str, Way] = {}
    for name, (module, make) in _LIBRARIES.items():
        if name not in absent:
            found |= make(import_module(module), tree)
    return found


def of_tensordict(tensordict: Any, tree: Tree) -> dict[str, Way]:
    """``td.to("cpu")``, which waits at its end; and of one that has been consolidated to one piece of memory."""

    def arrays(td: Any) -> dict[str, Any]:
        return {name: tensor.numpy() for name, tensor in td.to("cpu").items()}

    td = tensordict.TensorDict(dict(tree), batch_size=[])
    consolidated = td.consolidate()
    return {"TensorDict": lambda: arrays(td), "TensorDict, consolidated before": lambda: arrays(consolidated)}


def of_cupy(cupy: Any, tree: Tree) -> dict[str, Way]:
    """``cupy.asnumpy`` of each, which is blocking and into ordinary memory."""
    return {"cupy.asnumpy": lambda: {name: cupy.asnumpy(cupy.from_dlpack(tensor)) for name, tensor in tree.items()}}


_LIBRARIES: dict[str, tuple[str, Callable[[Any, Tree], dict[str, Way]]]] = {
    "TensorDict": ("tensordict", of_tensordict),
    "CuPy": ("cupy", of_cupy),
}
