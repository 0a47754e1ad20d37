"""Lightning: predictions written as arrays while the next are computed, and values collected for metrics of NumPy."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..bridge import DTypes
from ..engine import Array
from ..functions import to_numpy_async
from ..transfer import Transfer
from ._library import library

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import BasePredictionWriter
else:
    BasePredictionWriter = library("lightning.pytorch.callbacks", "Lightning", "lightning").BasePredictionWriter

__all__ = ["MetricCollector", "PredictionWriter"]


class PredictionWriter(BasePredictionWriter):  # type: ignore[misc]  # lint does not look at Lightning's types
    """A ``BasePredictionWriter`` that is given arrays, which are copied while the device computes the next batches.

    Override :meth:`write_on_batch_end`, and call ``trainer.predict(..., return_predictions=False)``: otherwise
    Lightning itself copies each prediction to the CPU, and waits.

    **What overlaps.** After a batch its copy is started, and the arrays of the batch ``depth - 1`` before it are
    written meanwhile. All have been written when the epoch ends. At most ``depth`` predictions are alive on the device,
    and so are the batches that they were made of, which :meth:`write_on_batch_end` is given too.

    Args:
        depth: how many copies are under way at most, 1 or more.
        dtype: as in :func:`torch_np_bridge.to_numpy`.
        snapshot: as in :func:`torch_np_bridge.to_numpy_async`, for outputs that are written to again.
    """

    def __init__(self, *, depth: int = 2, dtype: DTypes = None, snapshot: bool = False) -> None:
        if depth < 1:
            raise ValueError(f"expected depth to be 1 or more, got {depth}")
        super().__init__("batch")
        self._depth, self._dtype, self._snapshot = depth, dtype, snapshot
        self._started: deque[tuple[Transfer, tuple[Any, ...]]] = deque()

    def write_on_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Override with what is to be done with the arrays of a batch.

        Args:
            trainer: Lightning's.
            pl_module: the module that predicts.
            prediction: what ``predict_step`` returned, with arrays in the places of its tensors.
            batch_indices: which samples they are of, as Lightning counts them.
            batch: the batch, as ``predict_step`` was given it.
            batch_idx: its number.
            dataloader_idx: the number of the loader that it came from.
        """
        raise NotImplementedError(
            f"expected {type(self).__name__} to say what is done with the arrays; override write_on_batch_end()"
        )

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Start the copy of a batch, and write the oldest that is due."""
        indices = trainer.predict_loop.current_batch_indices
        transfer = to_numpy_async(outputs, dtype=self._dtype, snapshot=self._snapshot)
        self._started.append((transfer, (indices, batch, batch_idx, dataloader_idx)))
        if len(self._started) >= self._depth:
            self._write_oldest(trainer, pl_module)

    def on_predict_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write what is left."""
        while self._started:
            self._write_oldest(trainer, pl_module)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Let go of what was not written; the next run begins anew."""
        self._started.clear()

    def _write_oldest(self, trainer: Any, pl_module: Any) -> None:
        transfer, rest = self._started.popleft()
        self.write_on_batch_end(trainer, pl_module, transfer.result(), *rest)


class MetricCollector:
    """Collects tensors batch by batch, without waiting for them, for a metric that wants all rows as arrays.

    ::

        def validation_step(self, batch, index):
            self.collector.update(scores=self(batch["x"]), labels=batch["y"])

        def on_validation_epoch_end(self):
            arrays = self.collector.collect()
            self.log("auc", roc_auc_score(arrays["labels"], arrays["scores"]))

    What has arrived is moved to ordinary memory, so that page-locked memory does not grow with the epoch.

    Args:
        depth: how many batches may be under way; :meth:`update` waits for the oldest of more.
        dtype: as in :func:`torch_np_bridge.to_numpy`. scikit-learn has no use for bfloat16:
            ``{torch.bfloat16: numpy.float32}``.
    """

    def __init__(self, *, depth: int = 2, dtype: DTypes = None) -> None:
        if depth < 1:
            raise ValueError(f"expected depth to be 1 or more, got {depth}")
        self._depth, self._dtype = depth, dtype
        self._started: deque[Transfer] = deque()
        self._arrived: dict[str, list[Array]] = {}

    def update(self, **tensors: torch.Tensor) -> None:
        """Start the copies of a batch: tensors by name, each with a row for each row of the batch."""
        for name, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor) or tensor.dim() == 0:
                got = f"shape {tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else type(tensor).__name__
                raise TypeError(f"{name}: expected a tensor with a row for each row of the batch, got {got}")
        # A view would show what the caller writes to the tensor before it is received.
        own = {name: tensor.detach().clone() if tensor.is_cpu else tensor for name, tensor in tensors.items()}
        self._started.append(to_numpy_async(own, dtype=self._dtype))
        while len(self._started) > self._depth:
            self._receive_oldest()

    def collect(self) -> dict[str, Array]:
        """All rows since the last call, by name; the next call begins anew.

        Where ``torch.distributed`` is initialised, every rank gets the rows of all of them, those of rank 0 first, and
        every rank has to call. A ``DistributedSampler`` repeats rows so that all ranks have as many: collect an index
        too, and keep each once.
        """
        while self._started:
            self._receive_oldest()
        arrived, self._arrived = self._arrived, {}
        mine = {name: np.concatenate(parts) for name, parts in arrived.items()}
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return mine
        ranks: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, mine)
        names = dict.fromkeys(name for rank in ranks for name in rank)
        return {name: np.concatenate([rank[name] for rank in ranks if name in rank]) for name in names}

    def _receive_oldest(self) -> None:
        for name, array in self._started.popleft().result().items():
            self._arrived.setdefault(name, []).append(array.copy())
