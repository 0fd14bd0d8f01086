"""A table of measurements: CSV in, one strict and typed set of rows per operation out.

Columns: `op` (gemm, attention, rms_norm, all_reduce), the sizes of that op, and one latency
column whose name carries the unit (`latency_us`, `latency_ms` or `latency_s`). Optional
everywhere: `hw`, `dtype`, `source`. Other columns are errors, since a misspelt one would be
silently ignored.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import field_validator, model_validator

from isotune.simulator.io import Count, CsvRow, Dtype, TimedRow, read_rows
from isotune.simulator.kernels import KINDS, Array

SIZES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
    "rms_norm": ("tokens", "hidden"),
    **dict.fromkeys(KINDS, ("bytes", "ranks")),
}
"""Operations, and the columns that say how large one is; all whole numbers above zero."""
_ALL_SIZES = frozenset(name for names in SIZES.values() for name in names)


class SizedRow(CsvRow):
    """A row of an operation, which needs the sizes of that operation."""

    op: str
    m: Count | None = None
    n: Count | None = None
    k: Count | None = None
    batch: Count | None = None
    q_len: Count | None = None
    kv_len: Count | None = None
    heads: Count | None = None
    kv_heads: Count | None = None
    head_dim: Count | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of the operation, in the order of `SIZES`."""
        return {name: getattr(self, name) for name in SIZES[self.op]}

    @model_validator(mode="after")
    def _has_sizes(self) -> Self:
        for name, value in self.sizes.items():
            if value is None:
                raise ValueError(f"column {name} is missing (a row of {self.op} needs it)")
        return self


class KernelRow(SizedRow, TimedRow):
    """One row: an operation with its sizes, and its latency."""

    tokens: Count | None = None
    hidden: Count | None = None
    bytes: Count | None = None
    ranks: Count | None = None
    hw: str = ""
    dtype: Dtype = "bf16"
    source: str = ""
    algorithm: str = "nccl"

    @field_validator("op")
    @classmethod
    def _known(cls, op: str) -> str:
        if op not in SIZES:
            raise ValueError(f"{op!r:.40} (allowed: {', '.join(SIZES)})")
        return op

    @model_validator(mode="before")
    @classmethod
    def _own_sizes_only(cls, cells: dict[str, Any]) -> dict[str, Any]:
        """Sizes of other operations have no meaning in this row, whatever they are."""
        own = SIZES.get(cells.get("op", ""), _ALL_SIZES)
        return {name: cell for name, cell in cells.items() if name in own or name not in _ALL_SIZES}

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        sizes = self.sizes
        if self.op in KINDS and sizes["ranks"] < 2:
            raise ValueError(f"column ranks: {self.op} needs 2 ranks or more")
        if self.op == "attention" and sizes["q_len"] > sizes["kv_len"]:
            raise ValueError("column q_len: more queries than keys (kv_len)")
        if self.op == "attention" and sizes["heads"] % sizes["kv_heads"]:
            raise ValueError("column kv_heads: does not divide heads")
        return self

    @property
    def key(self) -> tuple[str, Dtype, str]:
        """Operation, number type, and algorithm (of a collective, else empty)."""
        return self.op, self.dtype, self.algorithm if self.op in KINDS else ""


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
    groups: dict[tuple[str, Dtype, str], list[KernelRow]] = defaultdict(list)
    sources: dict[tuple[str, str], set[str]] = defaultdict(set)
    rows = read_rows(path, KernelRow)
    for row in rows:
        groups[row.key].append(row)
        op, _, algorithm = row.key
        sources[op, algorithm].update(filter(None, [row.source]))
    return Table(
        name=path.name,
        machines=tuple(sorted({row.hw for row in rows if row.hw})),
        sources={key: tuple(sorted(names)) for key, names in sources.items()},
        groups=tuple(_rows(key, groups[key]) for key in sorted(groups)),
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


def _rows(key: tuple[str, Dtype, str], rows: list[KernelRow]) -> Rows:
    op, dtype, algorithm = key
    return Rows(
        op=op,
        dtype=dtype,
        algorithm=algorithm,
        sizes={
            name: np.array([getattr(row, name) for row in rows], dtype=np.float64)
            for name in SIZES[op]
        },
        latency_s=np.array([row.seconds for row in rows]),
        line=np.array([row.line for row in rows], dtype=np.float64),
    )
