"""A table of whole passes measured in an engine: CSV in, typed runs out.

Columns: `model`, `tp`, `batch`, `prompt_len`, `phase` (prefill or decode), `strategy`, and one
latency column whose name carries the unit. Optional: `steps` (tokens generated; a decode row is
their total), `hw`, `link`, `runtime` (cuda_graph, or a name that ends in eager), `source`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from pydantic import Field

from isotune.simulator.engines import LaunchMode
from isotune.simulator.io import Count, TimedRow, read_rows
from isotune.simulator.schedule import LONGEST, MOST_BATCH, MOST_TP, Phase


class PassRow(TimedRow):
    """One row as it stands in the file."""

    model: str
    tp: Annotated[Count, Field(le=MOST_TP)]
    batch: Annotated[Count, Field(le=MOST_BATCH)]
    prompt_len: Annotated[Count, Field(le=LONGEST)]
    phase: Phase
    strategy: str
    steps: Count = 1
    hw: str = ""
    link: str = ""
    runtime: str = ""
    source: str = ""


class Run(PassRow):
    """One measured pass.

    `generated` is the number of tokens that followed the prompt in the same run, where the table
    tells: a prefill row takes it from the decode row of its run, which stands behind it.
    """

    generated: int | None = None

    @property
    def step_s(self) -> float:
        """Seconds of one step."""
        return self.seconds / self.steps

    @property
    def case(self) -> tuple[object, ...]:
        """What a run shares with the serial run that its saving is measured against."""
        sizes = (self.phase, self.batch, self.prompt_len, self.generated)
        return (self.hw, self.source, self.link, self.runtime, self.model, self.tp, *sizes)

    @property
    def of_run(self) -> tuple[object, ...]:
        """What a prefill shares with the decode of the same run."""
        return (self.strategy, *self.case[:6], *self.case[7:])

    @property
    def launch(self) -> LaunchMode:
        """How the engine launched its kernels."""
        return "eager" if self.runtime.endswith("eager") else "cuda_graph"

    def __str__(self) -> str:
        what = f"{self.strategy} {self.model} tp {self.tp} {self.phase}"
        return f"{what} batch {self.batch} x {self.prompt_len} {self.link}".rstrip()


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
    return tuple(_with_generated(map(_run, read_rows(path, PassRow))))


def _run(row: PassRow) -> Run:
    generated = row.steps + 1 if row.phase == "decode" else None
    return Run(**row.model_dump(), generated=generated)


def _with_generated(runs: Iterable[Run]) -> Iterator[Run]:
    """The runs, each prefill with what the decode row of its run generated."""
    for run, following in pairwise((*runs, None)):
        assert run is not None
        if following is not None and run.phase == "prefill" and following.phase == "decode":
            filled = run.model_copy(update={"generated": following.generated})
            if filled.of_run == following.of_run:
                yield filled
                continue
        yield run
