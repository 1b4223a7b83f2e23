"""Write the rows of a source to a file, block by block, so that little memory is needed."""

import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import backends
from ..arrays import Array
from ..errors import BackpropError, listed, unavailable

_ROWS = 1 << 14  # written together; the row group of a Parquet file


def write(source: Any, path: str) -> None:
    """Write all rows of a source to a .npy, .npz or .parquet file, chosen by the ending of the name.

    - .npy: one array (rows, features + targets); labels are in the last column, as numbers.
    - .npz: two arrays, x and t.
    - .parquet: columns x0, x1, … and t, or t0, t1, …; in row groups of 16,384 rows.

    The file appears under its name only once it is complete.

    Raises:
        BackpropError: the name has another ending.
        BackendUnavailable: it ends in .parquet, and pyarrow is not installed.
    """
    writers: dict[str, Callable[[Any, Any], None]] = {".npy": _npy, ".npz": _npz, ".parquet": _parquet}
    kind = Path(path).suffix.lower()
    if kind not in writers:
        msg = f"rows are written to a file that ends in {listed(writers)}, got {path!r}"
        raise BackpropError(msg)
    part = Path(path).with_name(f".{Path(path).name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            writers[kind](source, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _blocks(source: Any) -> Iterator[tuple[Array, Array]]:
    """Inputs and targets on the host, some rows at a time."""
    for start in range(0, source.n, _ROWS):
        x, t = source.rows(start, min(start + _ROWS, source.n))[:2]
        yield backends.host(x), backends.host(t)


def _npy(source: Any, file: Any) -> None:
    host, begun = backends.get("numpy").xp, False
    for x, t in _blocks(source):
        table = host.concat([x, t.reshape(len(t), -1).astype(x.dtype)], axis=1)
        if not begun:
            _header(file, source.n, table)
            begun = True
        file.write(table.tobytes())


def _npz(source: Any, file: Any) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for k, name in enumerate(("x", "t")):  # in two passes: an archive has one open entry at a time
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                for number, rows in enumerate(_blocks(source)):
                    if not number:
                        _header(entry, source.n, rows[k])
                    entry.write(rows[k].tobytes())


def _header(file: Any, n: int, rows: Array) -> None:
    form = backends.get("numpy").xp.lib.format
    shape = (n, *rows.shape[1:])
    about = {"descr": form.dtype_to_descr(rows.dtype), "fortran_order": False, "shape": shape}
    form.write_array_header_2_0(file, about)


def _parquet(source: Any, file: Any) -> None:
    try:
        from pyarrow import parquet, table
    except ImportError as error:
        library = "pyarrow, which writes Parquet files,"
        raise unavailable(library, "pyarrow", "data", error) from error
    writer = None
    try:
        for x, t in _blocks(source):
            columns = {f"x{k}": x[:, k] for k in range(x.shape[1])}
            one = t.ndim == 1 or t.shape[1] == 1
            columns |= {"t": t.reshape(-1)} if one else {f"t{k}": t[:, k] for k in range(t.shape[1])}
            rows = table(columns)
            writer = writer or parquet.ParquetWriter(file, rows.schema)
            writer.write_table(rows)
    finally:
        if writer is not None:
            writer.close()
