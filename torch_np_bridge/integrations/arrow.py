"""Arrow: trees of tensors as record batches over the memory that the device wrote, and Parquet files of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex
from uuid import uuid4

import numpy as np

from ..bridge import DTypes
from ..functions import prefetch_to_host, to_numpy
from ._library import library

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet
else:
    pa = library("pyarrow", "pyarrow", "arrow")
    parquet = library("pyarrow.parquet", "pyarrow", "arrow")

__all__ = ["to_arrow", "write_parquet"]


def to_arrow(tree: Any, *, dtype: DTypes = None, copy: bool | None = None) -> pa.RecordBatch | pa.Tensor:
    """A tensor as an Arrow tensor, a mapping of names to tensors as a record batch with a column for each.

    Nothing is copied but what :func:`torch_np_bridge.to_numpy` copies: Arrow's buffers are the arrays' own memory, and
    keep it. While a batch, a slice or a column of it is alive, so is its page-locked memory, with that of small tensors
    beside it (at most 64 of like size). Batches that are all kept reach the limit, and later ones come in ordinary
    memory. Tensors on the CPU are shared: Arrow takes for granted that nobody writes to them any more.

    Two kinds are copied once more, on the host: booleans of a batch, which Arrow packs into bits, and columns whose
    tensors are not contiguous.

    Args:
        tree: a tensor, or a mapping: a dict, a ``ModelOutput``, a ``TensorDict``. Each tensor in it has a row for each
            row of the batch; those of two dimensions become lists of fixed size, those of more become Arrow's tensors
            of fixed shape. A mapping in it becomes a struct. Arrays, and lists of names or labels, are taken too, so
            the arrays of :func:`torch_np_bridge.prefetch_to_host` may be given.
        dtype: as in :func:`torch_np_bridge.to_numpy`. Arrow has no bfloat16, no float8 and no complex numbers:
            ``dtype={torch.bfloat16: numpy.float32}`` casts them on the device.
        copy: as in :func:`torch_np_bridge.to_numpy`.

    Returns:
        A ``pyarrow.RecordBatch``, or a ``pyarrow.Tensor``, which has the tensor's strides, and bytes for booleans.

    Raises:
        TypeError: Arrow has no such dtype, or the tree is neither tensor nor mapping; the message has the path.
        ValueError: a column has no rows, or another number of them than the first.
    """
    arrays = to_numpy(tree, dtype=dtype, copy=copy)
    if isinstance(arrays, np.ndarray):
        with _refusing(arrays, "tree"):
            return pa.Tensor.from_numpy(arrays)
    if not isinstance(arrays, Mapping):
        raise TypeError(f"expected a tensor or a mapping of names to tensors, got {type(arrays).__name__}")
    names, columns = _columns(arrays, "tree")
    return pa.RecordBatch.from_arrays(columns, names)


def write_parquet(
    batches: Iterable[Any],
    path: str | os.PathLike[str],
    *,
    depth: SupportsIndex = 2,
    dtype: DTypes = None,
    **options: Any,
) -> int:
    """Write what an iterable yields to a Parquet file, each batch while the device computes the next one.

    The iterable is pulled and the file is written in the caller's thread, by way of
    :func:`torch_np_bridge.prefetch_to_host`: while a batch is encoded and written, the device computes and copies the
    ``depth - 1`` that follow. Each batch becomes a row group of the file, so small ones make a file that is slow to
    read. The file is complete or not there: it gets its name when its last byte is written.

    Args:
        batches: yields mappings as for :func:`to_arrow`, all with the same columns.
        path: the file. One that is there is replaced at the end.
        depth: as in :func:`torch_np_bridge.prefetch_to_host`.
        dtype: as in :func:`to_arrow`.
        options: of ``pyarrow.parquet.ParquetWriter``, such as ``compression="zstd"``.

    Returns:
        The number of rows.

    Raises:
        ValueError: there is no batch, so nobody knows the columns; or one has other columns than the first.
        Exception: whatever the iterable raises.
    """
    target = Path(path)
    partial = target.with_name(f"{target.name}.{uuid4().hex}.partial")  # nobody else's
    try:
        with closing(prefetch_to_host(iter(batches), depth, dtype=dtype)) as arrays:
            rows = _write(map(to_arrow, arrays), partial, options)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _write(batches: Iterator[Any], path: Path, options: dict[str, Any]) -> int:
    first = next(batches, None)
    if first is None:
        raise ValueError("expected one batch at least, which has the columns of the file, got none")
    if not isinstance(first, pa.RecordBatch):
        raise TypeError("expected batches that are mappings of names to tensors, got a tensor; pass {'name': tensor}")
    rows: int = first.num_rows
    with parquet.ParquetWriter(path, first.schema, **options) as writer:
        writer.write_batch(first)
        del first  # its memory is used again by the batches that follow
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _columns(mapping: Mapping[Any, Any], path: str) -> tuple[list[str], list[Any]]:
    names: list[str] = []
    columns: list[Any] = []
    for name, value in mapping.items():
        where = f"{path}[{name!r}]"
        if not isinstance(name, str):
            raise TypeError(f"{where}: expected a string as the name of a column, got {type(name).__name__}")
        column = _column(value, where)
        if columns and len(column) != len(columns[0]):
            raise ValueError(f"{where}: expected {len(columns[0])} rows as {names[0]!r} has, got {len(column)}")
        names.append(name)
        columns.append(column)
    return names, columns


def _column(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        names, columns = _columns(value, where)
        return pa.StructArray.from_arrays(columns, names)
    if not isinstance(value, np.ndarray):
        if isinstance(value, str | bytes) or not isinstance(value, Sequence | pa.Array):
            got = type(value).__name__
            raise TypeError(f"{where}: expected a tensor, or a sequence with an item for each row, got {got}")
        return pa.array(value)
    if value.ndim == 0:
        raise ValueError(f"{where}: expected a dimension of rows, got shape (); call .expand(rows), or leave it out")
    with _refusing(value, where):
        # Arrow keeps a contiguous array as it is, and the array keeps its block.
        flat = pa.array(np.ascontiguousarray(value).reshape(-1))
    if value.ndim == 1:
        return flat
    sizes = value.shape[1:]
    lists = pa.Array.from_buffers(pa.list_(flat.type, math.prod(sizes)), len(value), [None], children=[flat])
    if len(sizes) == 1:
        return lists
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(flat.type, sizes), lists)


@contextmanager
def _refusing(array: np.ndarray[Any, Any], where: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowNotImplementedError as error:
        raise TypeError(
            f"{where}: expected a dtype that Arrow has, got {array.dtype}; pass dtype= with one, as in "
            "dtype={torch.bfloat16: numpy.float32}"
        ) from error
