"""One of two processes that collect for a metric, on gloo: a program for test_lightning.py.

It writes what each epoch gave it, as JSON, to a file in the folder that is named, after its rank.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.distributed

from torch_np_bridge.integrations.lightning import MetricCollector

ROWS = [5, 2]  # of each rank in the first epoch; in the second, rank 0 has none


def collected(epoch: int, rank: int) -> dict[str, list[int]]:
    """What every rank gets of an epoch: the rows of rank 1 count from 100 on."""
    collector = MetricCollector()
    if epoch == 0 or rank == 1:
        for rows in torch.arange(ROWS[rank]).split(2):
            collector.update(row=rows + 100 * rank, **({"other": rows} if rank == 1 else {}))
    return {name: array.tolist() for name, array in collector.collect().items()}


def main() -> None:
    """Collect two epochs, and write."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    epochs = [collected(epoch, rank) for epoch in range(2)]
    # Nothing else refers to the group, so its threads, which hold tensors, end here and not beside the interpreter.
    torch.distributed.destroy_process_group()
    Path(sys.argv[1], f"{rank}.json").write_text(json.dumps(epochs))


if __name__ == "__main__":
    main()
