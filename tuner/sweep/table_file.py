"""Tables on disk: Parquet through pyarrow, or CSV."""

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, FiniteFloat, PositiveInt, ValidationError

from isotune.simulator.errors import InputError
from isotune.simulator.io import CsvRow, explain_row, plain_cell, temporary_file
from isotune.simulator.io import read_rows as read_csv_rows

Columns = dict[str, Any]
"""Each column as an array [rows]."""
_MOST_BYTES = 4_000_000_000


class SweepRow(CsvRow):
    """One combination; a figure that there is none of is None."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hardware: str
    model: str
    tp: PositiveInt
    weight_dtype: str
    comm_dtype: str
    engine: str
    phase: str
    batch: PositiveInt
    prompt: PositiveInt
    strategy: str
    latency_s: FiniteFloat | None = None
    serial_latency_s: FiniteFloat | None = None
    saving: FiniteFloat | None = None
    memory_bytes: FiniteFloat | None = None
    fits: bool

    @classmethod
    def check_columns(cls, names: Sequence[str]) -> None:
        """Refuse a header that lacks a column.

        Raises:
            ValueError: which, and those that are needed.
        """
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise ValueError(
                f"not a table of isotune sweep: no column {missing[0]!r} "
                f"(needed: {', '.join(COLUMNS)})"
            )


COLUMNS = tuple(name for name in SweepRow.model_fields if name != "line")


def check_table(path: Path) -> None:
    """Refuse a file of a kind that cannot be written.

    Raises:
        InputError: neither Parquet nor CSV, or Parquet without pyarrow.
    """
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: unknown kind of table (allowed: .parquet, .csv)")
    if path.suffix == ".parquet":
        _arrow()


def _arrow() -> Any:
    """pyarrow, with its Parquet and dataset parts.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.dataset
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow: pip install 'isotune[sweep]', or write a .csv"
        ) from error
    return pyarrow


def write_part(columns: Columns, path: Path) -> None:
    """Write columns of equal length, whole or not at all, for `merge`."""
    with temporary_file(path) as temporary:
        with temporary.open("wb") as file:
            np.savez(file, **columns)
        temporary.replace(path)


def merge(parts: Iterable[Path], output: Path) -> int:
    """One table from all parts, streamed; the number of rows. NaN becomes an empty cell."""
    write = _write_parquet if output.suffix == ".parquet" else _write_csv
    with temporary_file(output) as temporary:
        rows = write(map(_read_part, parts), temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(output)
    return rows


def _read_part(path: Path) -> Columns:
    with np.load(path) as columns:
        return {name: columns[name] for name in COLUMNS}


def _write_csv(parts: Iterable[Columns], path: Path) -> int:
    rows = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for part in parts:
            writer.writerows(zip(*map(_csv_cells, part.values()), strict=True))
            rows += len(part["tp"])
    return rows


def _csv_cells(column: npt.NDArray[Any]) -> list[Any]:
    cells = plain_cells(column)
    if column.dtype.kind != "U":
        return cells
    plain = {text: plain_cell(text) for text in set(cells)}
    return [plain[text] for text in cells]


def _write_parquet(parts: Iterable[Columns], path: Path) -> int:
    pyarrow, rows = _arrow(), 0
    tables = (pyarrow.table({name: _encoded(c) for name, c in part.items()}) for part in parts)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(path, first.schema) as writer:
        for table in (first, *tables):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _encoded(column: npt.NDArray[Any]) -> Any:
    """A column for pyarrow: repeated words as a dictionary."""
    values = _arrow().array(column, from_pandas=True)
    return values.dictionary_encode() if column.dtype.kind == "U" else values


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that `merge` wrote; None for an empty cell.

    Raises:
        InputError: it cannot be read, lacks a column, or has a cell of the wrong kind.
    """
    read = _parquet_rows if path.suffix == ".parquet" else _csv_rows
    return [{name: getattr(row, name) for name in COLUMNS} for row in read(path)]


def _csv_rows(path: Path) -> list[SweepRow]:
    return read_csv_rows(path, SweepRow, most=_MOST_BYTES)


def _parquet_rows(path: Path) -> list[SweepRow]:
    pyarrow, line = _arrow(), 0
    rows: list[SweepRow] = []
    try:
        table = pyarrow.dataset.dataset(path, format="parquet")
        SweepRow.check_columns(table.schema.names)
        for batch in table.to_batches(columns=list(COLUMNS)):
            for cells in batch.to_pylist():
                line += 1
                given = {name: cell for name, cell in cells.items() if cell is not None}
                rows.append(SweepRow.model_validate(given | {"line": line}))
    except ValidationError as error:
        raise InputError(f"{path}: row {line}: {explain_row(error)}") from error
    except (OSError, pyarrow.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot read it as Parquet ({first:.120})") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return rows


def plain_cells(column: npt.NDArray[Any]) -> list[Any]:
    """The cells of a column; None for NaN, a figure that there is none of."""
    cells: list[Any] = column.tolist()
    return (
        [None if np.isnan(cell) else cell for cell in cells] if column.dtype.kind == "f" else cells
    )
