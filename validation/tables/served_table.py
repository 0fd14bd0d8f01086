"""A table of whole models as served: CSV in, one row a deployment and load.

Columns: `hw`, `model`, `tp`, `isl` (prompt tokens); optional `osl` (tokens generated),
`concurrency`, `dtype` (bf16 if empty, `fp8`, `fp8 block`, `nvfp4`), `engine` (its name first),
`ttft_ms`, `tpot_ms`, `source`. Other columns are not read.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import ConfigDict

from isotune.simulator.io import AboveZero, Count, CsvRow, read_rows


class ServedRow(CsvRow):
    """A deployment under a load: mean or median time to the first token, and per output token."""

    model_config = ConfigDict(extra="ignore")
    hw: str
    model: str
    tp: str
    isl: Count | None = None
    osl: Count | None = None
    concurrency: Count | None = None
    dtype: str = ""
    engine: str = ""
    source: str = ""
    ttft_ms: AboveZero | None = None
    tpot_ms: AboveZero | None = None

    @property
    def machine(self) -> str:
        """The machine's name as profiles spell it."""
        return self.hw.lower().replace(" ", "")

    @property
    def engine_name(self) -> str:
        """The engine without its version."""
        words = self.engine.lower().replace("trt-llm", "trtllm").split()
        return words[0] if words else ""

    @property
    def deployment(self) -> tuple[object, ...]:
        """What rows of other loads share with it."""
        what = (self.source, self.machine, self.model, self.dtype, self.engine)
        return (*what, self.tp, self.isl, self.osl)

    def __str__(self) -> str:
        how = f"{self.engine_name} {self.model} {self.dtype or 'bf16'} tp {self.tp}"
        return f"{how} {self.concurrency} x {self.isl}+{self.osl}"


def is_served_table(names: Sequence[str]) -> bool:
    """Whether a header is that of served models rather than of passes or operations."""
    return {"isl", "tpot_ms"} <= set(names)


def read_served(path: Path) -> tuple[ServedRow, ...]:
    """The rows of a `.csv` or `.csv.gz` file.

    Raises:
        InputError: one line with file, row and column.
    """
    return tuple(read_rows(path, ServedRow))


def least_loaded(rows: Iterable[ServedRow]) -> tuple[ServedRow, ...]:
    """Of each deployment the row of the smallest concurrency: more of it waits in a queue."""
    found: dict[tuple[object, ...], ServedRow] = {}
    for row in rows:
        best = found.setdefault(row.deployment, row)
        if (row.concurrency or 0) < (best.concurrency or 0):
            found[row.deployment] = row
    return tuple(found.values())
