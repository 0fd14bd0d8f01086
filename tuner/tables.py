"""Tables on disk: Parquet through pyarrow, or CSV."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.errors import InputError

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
    """The rows of a table that `merge` wrote; an empty cell is None."""
    if path.suffix == ".parquet":
        _, parquet = arrow()
        for batch in parquet.ParquetFile(path).iter_batches():
            for row in batch.to_pylist():
                yield {name: none_for_nan(value) for name, value in row.items()}
        return
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: _value(name, text) for name, text in row.items()}


def none_for_nan(value: Any) -> Any:
    """None for a figure that there is none of."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _value(name: str, text: str) -> Any:
    if text == "":
        return None
    if name == "fits":
        return text == "True"
    if name in ("tp", "batch", "prompt"):
        return int(text)
    numbers = ("latency_s", "serial_latency_s", "saving", "memory_bytes")
    return float(text) if name in numbers else text
