"""A table of measurements: CSV in, one strict and typed set of rows per operation out.

Columns: `op` (gemm, attention, rms_norm, all_reduce), the sizes of that op, and one latency
column whose name carries the unit (`latency_us`, `latency_ms` or `latency_s`). Optional
everywhere: `hw`, `dtype`, `source`. Other columns are errors, since a misspelt one would be
silently ignored.
"""

import csv
import io
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from isotune.simulator.errors import InputError
from isotune.simulator.io import Dtype
from isotune.simulator.kernels import KINDS, Array
from isotune.simulator.number_types import number_type
from isotune.validation.tables.csv_file import csv_text

SIZES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
    "rms_norm": ("tokens", "hidden"),
    **dict.fromkeys(KINDS, ("bytes", "ranks")),
}
"""Operations, and the columns that say how large one is; all whole numbers above zero."""

LATENCY = {"latency_us": 1e-6, "latency_ms": 1e-3, "latency_s": 1.0}
_TEXT = ("op", "hw", "dtype", "source", "algorithm")
_KNOWN = {*_TEXT, *LATENCY, *(name for names in SIZES.values() for name in names)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of one op, dtype and (all-reduce) algorithm: every array has shape (rows,).

    `line` is the row's line in the file; the table's sizes follow `SIZES[op]`.
    """

    op: str
    dtype: Dtype
    algorithm: str
    sizes: dict[str, Array]
    latency_s: Array
    line: Array

    def __len__(self) -> int:
        return len(self.latency_s)

    def take(self, chosen: npt.NDArray[Any]) -> "Rows":
        """The rows whose place in the arrays is in `chosen` (or where it is true)."""
        return Rows(
            op=self.op,
            dtype=self.dtype,
            algorithm=self.algorithm,
            sizes={name: values[chosen] for name, values in self.sizes.items()},
            latency_s=self.latency_s[chosen],
            line=self.line[chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A file of measurements: its rows by (op, dtype, algorithm), in a fixed order.

    `machines` are the names in its `hw` column; `sources` who measured, by op and algorithm.
    """

    name: str
    machines: tuple[str, ...]
    sources: dict[tuple[str, str], tuple[str, ...]]
    groups: tuple[Rows, ...]

    def of(self, op: str) -> tuple[Rows, ...]:
        """The rows of one op, one set per dtype and algorithm."""
        return tuple(rows for rows in self.groups if rows.op == op)

    def sources_of(self, op: str, algorithm: str = "") -> tuple[str, ...]:
        """Who measured the rows of one op (and all-reduce algorithm, if one is named)."""
        found = {
            name
            for (of, by), names in self.sources.items()
            if of == op and algorithm in ("", by)
            for name in names
        }
        return tuple(sorted(found))

    def __len__(self) -> int:
        return sum(len(rows) for rows in self.groups)


def read_table(path: Path) -> Table:
    """The measurements in a `.csv` or `.csv.gz` file.

    Raises:
        InputError: one line with file, row (line of the file) and column: an unreadable file, a
            missing or unknown column, two latency columns, an unknown op or dtype, a size that
            is no whole number above zero, a latency that is not a positive finite number.
    """
    reader = csv.DictReader(io.StringIO(csv_text(path)), strict=True)
    try:
        unit = latency_column(path, reader.fieldnames or [], ("op",), sorted(_KNOWN))
        cells: dict[tuple[str, str, str], list[tuple[float, ...]]] = defaultdict(list)
        machines: set[str] = set()
        sources: dict[tuple[str, str], set[str]] = defaultdict(set)
        for record in reader:
            where = f"{path}: row {reader.line_num}"
            key, numbers = _row(record, unit, where)
            cells[key].append((*numbers, float(reader.line_num)))
            machines.update(filter(None, [record.get("hw")]))
            sources[key[0], key[2]].update(filter(None, [record.get("source")]))
    except csv.Error as error:
        raise InputError(f"{path}: row {reader.line_num}: malformed CSV ({error})") from error
    if not cells:
        raise InputError(f"{path}: no rows")
    return Table(
        name=path.name,
        machines=tuple(sorted(machines)),
        sources={key: tuple(sorted(names)) for key, names in sources.items()},
        groups=tuple(_rows(key, cells[key]) for key in sorted(cells)),
    )


def unique(rows: Rows) -> Rows:
    """One row per size, in ascending order, with the median of its latencies."""
    keys = np.stack([rows.sizes[name] for name in SIZES[rows.op]], axis=1)
    sizes, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.lexsort((rows.latency_s, group))
    split = np.split(order, np.cumsum(np.bincount(group))[:-1])
    return Rows(
        op=rows.op,
        dtype=rows.dtype,
        algorithm=rows.algorithm,
        sizes={name: sizes[:, i] for i, name in enumerate(SIZES[rows.op])},
        latency_s=np.array([np.median(rows.latency_s[part]) for part in split]),
        line=np.array([rows.line[part].min() for part in split]),
    )


def latency_column(
    path: Path, names: Sequence[str], needed: Sequence[str], known: Sequence[str]
) -> str:
    """The one latency column of a header.

    Raises:
        InputError: a column that is given twice, missing or unknown, or not one latency column.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    missing = [name for name in needed if name not in names]
    units = [name for name in names if name in LATENCY]
    unknown = [name for name in names if name not in known]
    if repeated:
        raise InputError(f"{path}: row 1: column {repeated[0]!r} is given twice")
    if missing:
        raise InputError(f"{path}: row 1: column {missing[0]!r} is missing")
    if len(units) != 1:
        found = f"both {units[0]} and {units[1]}" if units else "none"
        raise InputError(
            f"{path}: row 1: needs one latency column ({', '.join(LATENCY)}), found {found}"
        )
    if unknown:
        raise InputError(
            f"{path}: row 1: unknown column {unknown[0]!r} (known: {', '.join(known)})"
        )
    return units[0]


def _row(
    record: dict[str, str], unit: str, where: str
) -> tuple[tuple[str, str, str], tuple[float, ...]]:
    if None in record or None in record.values():
        raise InputError(f"{where}: has more or fewer cells than row 1 has columns")
    op = record["op"]
    if op not in SIZES:
        raise InputError(f"{where}: column op: unknown op {op!r} (known: {', '.join(SIZES)})")
    try:
        dtype = number_type(record.get("dtype") or "bf16").name
    except InputError as error:
        raise InputError(f"{where}: column dtype: {error}") from error
    algorithm = (record.get("algorithm") or "nccl") if op in KINDS else ""
    sizes = tuple(_size(record, name, where) for name in SIZES[op])
    _check_sizes(op, dict(zip(SIZES[op], sizes, strict=True)), where)
    latency = _number(record, unit, where) * LATENCY[unit]
    if latency <= 0:
        raise InputError(f"{where}: column {unit}: {record[unit]} is not above zero")
    return (op, dtype, algorithm), (*sizes, latency)


def _check_sizes(op: str, sizes: dict[str, float], where: str) -> None:
    if op in KINDS and sizes["ranks"] < 2:
        name = op.replace("_", "-")
        raise InputError(f"{where}: column ranks: an {name} needs 2 ranks or more")
    if op == "attention" and sizes["q_len"] > sizes["kv_len"]:
        raise InputError(f"{where}: column q_len: more queries than keys (kv_len)")
    if op == "attention" and sizes["heads"] % sizes["kv_heads"]:
        raise InputError(f"{where}: column kv_heads: does not divide heads")


def _size(record: dict[str, str], name: str, where: str) -> float:
    value = _number(record, name, where)
    if value < 1 or value != int(value):
        raise InputError(f"{where}: column {name}: {record[name]} is no whole number above zero")
    return value


def _number(record: dict[str, str], name: str, where: str) -> float:
    text = (record.get(name) or "").strip()
    if not text:
        raise InputError(f"{where}: column {name} is missing (an {record['op']} row needs it)")
    try:
        value = float(text)
    except ValueError:
        unit = f"; its unit is {name.removeprefix('latency_')}" if name in LATENCY else ""
        raise InputError(f"{where}: column {name}: {text!r:.40} is not a number{unit}") from None
    if not math.isfinite(value):
        raise InputError(f"{where}: column {name}: {text} is not a finite number")
    return value


def _rows(key: tuple[str, str, str], cells: list[tuple[float, ...]]) -> Rows:
    op, dtype, algorithm = key
    *sizes, latency, line = np.array(cells, dtype=np.float64).T
    return Rows(
        op=op,
        dtype=dtype,
        algorithm=algorithm,
        sizes=dict(zip(SIZES[op], sizes, strict=True)),
        latency_s=latency,
        line=line,
    )
