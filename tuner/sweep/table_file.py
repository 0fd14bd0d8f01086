"""Tables on disk: Parquet through pyarrow, or CSV."""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from isotune.simulator.errors import InputError

COLUMNS = (
    "hardware",
    "model",
    "tp",
    "weight_dtype",
    "comm_dtype",
    "phase",
    "batch",
    "prompt",
    "strategy",
    "latency_s",
    "serial_latency_s",
    "saving",
    "memory_bytes",
    "fits",
)
Columns = dict[str, npt.NDArray[Any]]


def arrow() -> tuple[ModuleType, ModuleType]:
    """pyarrow and its Parquet part.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow: pip install 'isotune[sweep]', or write a .csv"
        ) from error
    return pyarrow, pyarrow.parquet


def write_part(columns: Columns, path: Path) -> None:
    """Write columns of equal length whole or not at all; NaN becomes an empty cell."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if path.suffix == ".parquet":
        pyarrow, parquet = arrow()
        arrays = {
            name: pyarrow.array(values, from_pandas=True)
            if values.dtype.kind != "U"
            else pyarrow.array(values).dictionary_encode()
            for name, values in columns.items()
        }
        parquet.write_table(pyarrow.table(arrays), temporary)
    else:
        cells = [_texts(columns[name]) for name in COLUMNS]
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(zip(*cells, strict=True))
    temporary.replace(path)


def _texts(values: npt.NDArray[Any]) -> list[Any]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return ["" if np.isnan(value) else value for value in values.tolist()]


def merge(parts: list[Path], output: Path) -> int:
    """One table from all parts, streamed; the number of rows."""
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    rows = 0
    if output.suffix == ".parquet":
        _, parquet = arrow()
        schema = parquet.read_schema(parts[0])
        with parquet.ParquetWriter(temporary, schema) as writer:
            for part in parts:
                table = parquet.read_table(part)
                writer.write_table(table.cast(schema))
                rows += table.num_rows
    else:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(COLUMNS)
            for part in parts:
                text = part.read_text(encoding="utf-8")
                file.write(text)
                rows += text.count("\n")
    temporary.replace(output)
    return rows


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a table that `merge` wrote, one after the other; None for an empty cell.

    Raises:
        InputError: it cannot be read, lacks a column, or has a cell of the wrong kind.
    """
    yield from _parquet_rows(path) if path.suffix == ".parquet" else _csv_rows(path)


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    pyarrow, parquet = arrow()
    number = 0
    try:
        table = parquet.ParquetFile(path)
        _check_columns(path, table.schema_arrow.names)
        for batch in table.iter_batches():
            columns = [batch.column(name).to_pylist() for name in COLUMNS]
            for cells in zip(*columns, strict=True):
                number += 1
                yield _row(path, number, cells)
    except (OSError, pyarrow.ArrowException) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot read it as Parquet ({first:.120})") from error


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_columns(path, header)
            places = [header.index(name) for name in COLUMNS]
            for number, cells in enumerate(reader, 2):
                if cells:
                    yield _row(path, number, [cells[place] for place in places])
    except IndexError as error:
        raise InputError(f"{path}: a row has fewer cells than the header") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise InputError(f"{path}: malformed CSV ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot read it ({error.strerror})") from error


def _check_columns(path: Path, header: list[str]) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{path}: not a table of isotune sweep: no column {missing[0]!r} "
            f"(needed: {', '.join(COLUMNS)})"
        )


def _row(path: Path, number: int, cells: Sequence[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            row[name] = _KINDS.get(name, str)(cell)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: row {number}: {name}: cannot read {cell!r:.60}") from error
    return row


def none_for_nan(value: Any) -> Any:
    """None for a figure that there is none of."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _number(cell: Any) -> float | None:
    """A finite number; None where there is none."""
    value = None if cell is None or cell == "" else none_for_nan(float(cell))
    if value is not None and not np.isfinite(value):
        raise ValueError("not finite")
    return value


_KINDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("tp", "batch", "prompt"), int),
    **dict.fromkeys(("latency_s", "serial_latency_s", "saving", "memory_bytes"), _number),
    "fits": lambda cell: str(cell) == "True",
}
