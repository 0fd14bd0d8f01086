"""A table of measurements: CSV in, one strict and typed set of rows per operation out.

Columns: `op` (a key of `SIZES`), the sizes of that op, and one latency column whose name carries
the unit (`latency_us`, `latency_ms` or `latency_s`). Optional everywhere: `hw`, `dtype`, `source`
(it may name the engine whose kernels ran), `algorithm` (of a collective; of other ops the kernel's
name, which is not used) and `distribution` (of tokens over experts). Other columns are errors,
since a misspelt one would be silently ignored.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import field_validator, model_validator

from isotune.simulator.errors import InputError
from isotune.simulator.io import Count, CsvRow, TimedRow, read_rows
from isotune.simulator.kernels import KINDS, Array, Gpu, Operands
from isotune.simulator.number_types import DTYPES, SCHEMES, bytes_of, number_type, scheme

SIZES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
    "rms_norm": ("tokens", "hidden"),
    "quantize": ("tokens", "hidden"),
    "mla_attention": ("batch", "q_len", "kv_len", "heads"),
    "moe": (
        *("tokens", "hidden", "intermediate", "experts", "top_k"),
        *("expert_tp", "expert_ep"),
    ),
    "ep_dispatch": ("tokens", "hidden", "experts", "top_k", "ranks", "sms"),
    "ep_combine": ("tokens", "hidden", "experts", "top_k", "ranks", "sms"),
    **dict.fromkeys(KINDS, ("bytes", "ranks")),
}
"""Operations, and the columns that say how large one is; all whole numbers above zero."""
_SCHEME_NAMES = tuple(
    name
    for entry in SCHEMES
    for name in (entry.name, *entry.aliases)
    if entry.dtype != entry.weight_dtype and name not in DTYPES
)
"""What `dtype` may say beside a number type: weights of another type than the activations."""
ENGINES = ("vllm", "sglang", "trtllm")
"""Serving engines that a `source` may name."""
TINY = 5e-6
"""Seconds at peak rate below which a product shows little but its launch."""
LONGEST_LAUNCH = 20e-6
"""Longer than the kernels of one product take to launch inside a graph."""
BALANCED = "balanced"
_POWER_LAW = "power_law_"
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
    intermediate: Count | None = None
    experts: Count | None = None
    top_k: Count | None = None
    expert_tp: Count | None = None
    expert_ep: Count | None = None
    sms: Count | None = None
    hw: str = ""
    dtype: str = "bf16"
    source: str = ""
    algorithm: str = "nccl"
    distribution: str = BALANCED

    @field_validator("op")
    @classmethod
    def _known(cls, op: str) -> str:
        if op not in SIZES:
            raise ValueError(f"{op!r:.40} (allowed: {', '.join(SIZES)})")
        return op

    @field_validator("dtype")
    @classmethod
    def _known_type(cls, dtype: str) -> str:
        if dtype in _SCHEME_NAMES:
            return dtype
        try:
            return number_type(dtype).name
        except InputError:
            allowed = ", ".join((*DTYPES, *_SCHEME_NAMES))
            raise ValueError(f"{dtype!r:.40} (allowed: {allowed})") from None

    @field_validator("distribution")
    @classmethod
    def _known_distribution(cls, text: str) -> str:
        power_law(text)
        return text

    @model_validator(mode="before")
    @classmethod
    def _own_sizes_only(cls, cells: dict[str, Any]) -> dict[str, Any]:
        """Sizes of other operations have no meaning in this row, whatever they are."""
        own = SIZES.get(cells.get("op", ""), _ALL_SIZES)
        return {name: cell for name, cell in cells.items() if name in own or name not in _ALL_SIZES}

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        sizes = self.sizes
        if "ranks" in sizes and sizes["ranks"] < 2:
            raise ValueError(f"column ranks: {self.op} needs 2 ranks or more")
        if "q_len" in sizes and sizes["q_len"] > sizes["kv_len"]:
            raise ValueError("column q_len: more queries than keys (kv_len)")
        if "kv_heads" in sizes and sizes["heads"] % sizes["kv_heads"]:
            raise ValueError("column kv_heads: does not divide heads")
        if "expert_ep" in sizes and sizes["experts"] % sizes["expert_ep"]:
            raise ValueError("column expert_ep: does not divide experts")
        if "top_k" in sizes and sizes["top_k"] > sizes["experts"]:
            raise ValueError("column top_k: more than experts")
        return self

    @property
    def engine(self) -> str:
        """The engine whose kernels the source names, or an empty text."""
        words = self.source.lower().split()
        return next((name for name in ENGINES if name in words), "")

    @property
    def key(self) -> "Key":
        """What rows of one set have in common."""
        return Key(
            op=self.op,
            dtype=self.dtype,
            algorithm=self.algorithm if "bytes" in SIZES[self.op] else "",
            engine="" if "bytes" in SIZES[self.op] else self.engine,
            distribution=self.distribution,
        )


def power_law(distribution: str) -> float:
    """Exponent of the power law by which tokens choose experts; 0 where all get as many.

    Raises:
        ValueError: neither `balanced` nor `power_law_` with a number above zero.
    """
    if distribution == BALANCED:
        return 0.0
    number = distribution.removeprefix(_POWER_LAW)
    if distribution.startswith(_POWER_LAW) and number.replace(".", "", 1).isdigit():
        return float(number)
    raise ValueError(f"{distribution!r:.40} (allowed: {BALANCED}, {_POWER_LAW}1.2 and the like)")


class Key(NamedTuple):
    """What rows of one set have in common; `algorithm` of a collective, `engine` of a kernel."""

    op: str
    dtype: str
    algorithm: str
    engine: str
    distribution: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Rows of one op, type, algorithm, engine and distribution: every array has shape (rows,).

    `line` is the row's line in the file; the table's sizes follow `SIZES[op]`.
    """

    key: Key
    sizes: dict[str, Array]
    latency_s: Array
    line: Array

    def __len__(self) -> int:
        return len(self.latency_s)

    @property
    def op(self) -> str:
        """The operation."""
        return self.key.op

    @property
    def dtype(self) -> str:
        """The type, as the table names it."""
        return self.key.dtype

    @property
    def algorithm(self) -> str:
        """The collective's algorithm, else an empty text."""
        return self.key.algorithm

    @property
    def operands(self) -> Operands:
        """Types of activations and of weights or cache."""
        if self.dtype not in _SCHEME_NAMES:
            return Operands.of(self.dtype)
        found = scheme(self.dtype)
        return Operands(found.dtype, found.weight_dtype)

    def of_the_gpu(self, gpu: Gpu) -> npt.NDArray[np.bool_]:
        """Which products show the GPU's time, shape (rows,); the others the host's.

        Where even tiny products take longer than a launch inside a graph does, the host launched
        their kernels one by one (vLLM's block-scaled fp8, three of them). A product then shows the
        GPU's time if half of that passes at the peak rate or bandwidth. Products in 16 bits are
        single kernels: all of them count.
        """
        if self.operands.usual:
            return np.ones(len(self), dtype=bool)
        m, n, k = (self.sizes[name] for name in "mnk")
        width, weight_width = map(bytes_of, self.operands)
        moved = width * m * k + weight_width * n * k + 2 * m * n
        flops = 2 * m * n * k
        peak = np.maximum(
            flops / gpu.tensor_rate(self.operands.dtype), moved / gpu.memory_bandwidth
        )
        tiny = self.latency_s[peak < TINY]
        host = float(np.median(tiny)) if len(tiny) else 0.0
        return np.asarray((host < LONGEST_LAUNCH) | (peak >= host / 2))

    def take(self, chosen: npt.NDArray[Any]) -> "Rows":
        """The rows whose place in the arrays is in `chosen` (or where it is true)."""
        return Rows(
            key=self.key,
            sizes={name: values[chosen] for name, values in self.sizes.items()},
            latency_s=self.latency_s[chosen],
            line=self.line[chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A file of measurements: its rows by what they have in common, in a fixed order.

    `machines` are the names in its `hw` column; `sources` who measured, by op and algorithm.
    """

    name: str
    machines: tuple[str, ...]
    sources: dict[tuple[str, str], tuple[str, ...]]
    groups: tuple[Rows, ...]

    def of(self, op: str) -> tuple[Rows, ...]:
        """The rows of one op, one set per key."""
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
    groups: dict[Key, list[KernelRow]] = defaultdict(list)
    sources: dict[tuple[str, str], set[str]] = defaultdict(set)
    rows = read_rows(path, KernelRow)
    for row in rows:
        groups[row.key].append(row)
        sources[row.op, row.key.algorithm].update(filter(None, [row.source]))
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
        key=rows.key,
        sizes={name: sizes[:, i] for i, name in enumerate(SIZES[rows.op])},
        latency_s=np.array([np.median(rows.latency_s[part]) for part in split]),
        line=np.array([rows.line[part].min() for part in split]),
    )


def _rows(key: Key, rows: list[KernelRow]) -> Rows:
    return Rows(
        key=key,
        sizes={
            name: np.array([getattr(row, name) for row in rows], dtype=np.float64)
            for name in SIZES[key.op]
        },
        latency_s=np.array([row.seconds for row in rows]),
        line=np.array([row.line for row in rows], dtype=np.float64),
    )
