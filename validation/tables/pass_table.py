"""A table of whole passes measured in an engine: CSV in, typed runs out.

Columns: `model`, `tp`, `batch`, `prompt_len`, `phase` (prefill or decode), `strategy`, and one
latency column whose name carries the unit. Optional: `steps` (tokens generated; a decode row is
their total), `hw`, `link`, `runtime` (cuda_graph, or a name that ends in eager), `source`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isotune.simulator.io import Count, TimedRow, read_rows
from isotune.simulator.schedule import LaunchMode, Phase


class PassRow(TimedRow):
    """One row as it stands in the file."""

    model: str
    tp: Count
    batch: Count
    prompt_len: Count
    phase: Phase
    strategy: str
    steps: Count = 1
    hw: str = ""
    link: str = ""
    runtime: str = ""
    source: str = ""


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
    return tuple(_with_generated([_run(row) for row in read_rows(path, PassRow)]))


def _run(row: PassRow) -> Run:
    return Run(
        line=row.line,
        hw=row.hw,
        model=row.model,
        tp=row.tp,
        batch=row.batch,
        prompt=row.prompt_len,
        phase=row.phase,
        steps=row.steps,
        link=row.link,
        runtime=row.runtime,
        strategy=row.strategy,
        latency_s=row.seconds / row.steps,
        source=row.source,
        generated=row.steps + 1 if row.phase == "decode" else None,
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
