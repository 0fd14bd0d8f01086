"""A table of whole passes measured in an engine: CSV in, typed runs out.

Columns: `model`, `tp`, `batch`, `prompt_len`, `phase` (prefill or decode), `strategy`, and one
latency column whose name carries the unit. Optional: `steps` (tokens generated; a decode row is
their total), `hw`, `link`, `runtime` (cuda_graph, or a name that ends in eager), `source`.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from isotune.simulator.errors import InputError
from isotune.simulator.schedule import LaunchMode, Phase
from isotune.validation.tables.csv_file import csv_text
from isotune.validation.tables.kernel_table import LATENCY, latency_column

_NEEDED = ("model", "tp", "batch", "prompt_len", "phase", "strategy")
_OPTIONAL = ("steps", "hw", "link", "runtime", "source")
_SIZES = ("tp", "batch", "prompt_len", "steps")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured pass.

    `latency_s` is that of one step. `generated` is the number of tokens that followed the prompt
    in the same run, where the table tells: a prefill row takes it from the decode row of its run,
    which stands behind it.
    """

    line: int
    hw: str
    model: str
    tp: int
    batch: int
    prompt: int
    phase: Phase
    steps: int
    link: str
    runtime: str
    strategy: str
    latency_s: float
    source: str
    generated: int | None = None

    @property
    def case(self) -> tuple[object, ...]:
        """What a run shares with the serial run that its saving is measured against."""
        place = (self.hw, self.source, self.link, self.runtime, self.model, self.tp)
        return (*place, self.phase, self.batch, self.prompt, self.generated)

    @property
    def launch(self) -> LaunchMode:
        """How the engine launched its kernels."""
        return "eager" if self.runtime.endswith("eager") else "cuda_graph"

    def __str__(self) -> str:
        place = f"{self.strategy} {self.model} tp {self.tp} {self.phase}"
        return f"{place} batch {self.batch} x {self.prompt} {self.link}".rstrip()


def is_run_table(names: Sequence[str]) -> bool:
    """Whether a header is that of whole passes rather than of single operations."""
    return "strategy" in names and "op" not in names


def read_runs(path: Path) -> tuple[Run, ...]:
    """The runs in a `.csv` or `.csv.gz` file, in its order.

    Raises:
        InputError: one line with file, row and column: an unreadable file, a missing or unknown
            column, two latency columns, a size that is no whole number above zero, an unknown
            phase, a latency that is not a positive finite number.
    """
    reader = csv.DictReader(io.StringIO(csv_text(path)), strict=True)
    try:
        unit = latency_column(
            path, reader.fieldnames or [], _NEEDED, (*_NEEDED, *_OPTIONAL, *LATENCY)
        )
        runs = [_run(record, unit, path, reader.line_num) for record in reader]
    except csv.Error as error:
        raise InputError(f"{path}: row {reader.line_num}: malformed CSV ({error})") from error
    if not runs:
        raise InputError(f"{path}: no rows")
    return tuple(_with_generated(runs))


def _run(record: dict[str, str], unit: str, path: Path, line: int) -> Run:
    where = f"{path}: row {line}"
    if None in record or None in record.values():
        raise InputError(f"{where}: has more or fewer cells than row 1 has columns")
    cells = {name: (record.get(name) or "").strip() for name in (*_NEEDED, *_OPTIONAL, unit)}
    cells["steps"] = cells["steps"] or "1"
    sizes = {name: _size(cells[name], f"{where}: column {name}") for name in _SIZES}
    phase, model = cells["phase"], cells["model"]
    if phase not in get_args(Phase):
        raise InputError(f"{where}: column phase: {phase!r:.40} (known: prefill, decode)")
    for name in ("model", "strategy"):
        if not cells[name]:
            raise InputError(f"{where}: column {name} is empty")
    latency = _number(cells[unit], f"{where}: column {unit}")
    if latency <= 0:
        raise InputError(f"{where}: column {unit}: {cells[unit]} is not above zero")
    steps = sizes["steps"]
    return Run(
        line=line,
        hw=cells["hw"],
        model=model,
        tp=sizes["tp"],
        batch=sizes["batch"],
        prompt=sizes["prompt_len"],
        phase=cast(Phase, phase),
        steps=steps,
        link=cells["link"],
        runtime=cells["runtime"],
        strategy=cells["strategy"],
        latency_s=latency * LATENCY[unit] / steps,
        source=cells["source"],
        generated=steps + 1 if phase == "decode" else None,
    )


def _with_generated(runs: list[Run]) -> Iterator[Run]:
    for run, following in zip(runs, [*runs[1:], None], strict=True):
        if following is not None and run.phase == "prefill" and following.phase == "decode":
            same = replace(run, generated=following.generated)
            alike = same.case[:6] == following.case[:6] and same.case[7:] == following.case[7:]
            if alike and run.strategy == following.strategy:
                yield same
                continue
        yield run


def _size(text: str, where: str) -> int:
    value = _number(text, where)
    if value < 1 or value != int(value):
        raise InputError(f"{where}: {text} is no whole number above zero")
    return int(value)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {text!r:.40} is not a number") from None
    if not math.isfinite(value):
        raise InputError(f"{where}: {text} is not a finite number")
    return value
