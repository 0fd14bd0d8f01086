"""`isotune sweep`: the design space as a table."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

import typer

from isotune.commands.options import (
    DEFAULT_MODEL,
    DTYPE_ALIASES,
    Choices,
    OutputOptions,
    StoppedError,
    application,
    choices,
    command,
    hardware_option,
    model_option,
    names,
    option,
    output_option,
    progress,
    reader,
    show,
    sizes_or_range,
    whole,
)
from isotune.simulator.engines import DEFAULT, ENGINES
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, checked
from isotune.simulator.number_types import COMM_DTYPES, WEIGHT_DTYPES
from isotune.simulator.schedule import TECHNIQUES, Phase

if TYPE_CHECKING:
    from isotune.tuner.sweep import Grid

_MOST_SUMMARISED = 200_000


@dataclass(frozen=True, kw_only=True)
class _Axes:
    PANEL: ClassVar = "Axes (each takes several values)"

    hw: Annotated[
        tuple[str, ...] | None,
        hardware_option("Machines: bundled names or paths", metavar="NAMES", parser=reader(names)),
    ] = None
    model: Annotated[
        tuple[str, ...] | None,
        model_option("Models: bundled names or paths", metavar="NAMES", parser=reader(names)),
    ] = None
    tp: Annotated[
        tuple[int, ...] | None, option("--tp", sizes_or_range, "N,N", "Tensor-parallel sizes.")
    ] = None
    batch: Annotated[
        tuple[int, ...] | None, option("--batch", sizes_or_range, "N,N", "Requests of a batch.")
    ] = None
    prompt: Annotated[
        tuple[int, ...] | None,
        option(
            "--prompt",
            sizes_or_range,
            "TOKENS",
            "Prompt lengths: 1k,2k,4k, or first:last:step such as 1k:128k:1k.",
        ),
    ] = None
    phase: Annotated[
        tuple[str, ...] | None, choices("--phase", Choices(get_args(Phase), "phase"), "Phases")
    ] = None
    weight_dtype: Annotated[
        tuple[str, ...] | None,
        choices("--weight-dtype", Choices(WEIGHT_DTYPES, "number type", DTYPE_ALIASES), "Weights"),
    ] = None
    comm_dtype: Annotated[
        tuple[str, ...] | None,
        choices(
            "--comm-dtype",
            Choices(COMM_DTYPES, "number type", DTYPE_ALIASES),
            "Number types that an all-reduce sends",
        ),
    ] = None
    engine: Annotated[
        tuple[str, ...] | None,
        choices(
            "--engine",
            Choices(ENGINES, "engine"),
            "Serving engines whose passes they are",
            show_default=DEFAULT,
        ),
    ] = None
    strategies: Annotated[
        tuple[str, ...] | None,
        choices("--strategies", Choices(TECHNIQUES, "technique"), "Techniques"),
    ] = None

    def axes(self) -> dict[str, Any]:
        """The axes that are given."""
        given = {
            "hardware": self.hw,
            "model": self.model,
            "tp": self.tp,
            "batch": self.batch,
            "prompt": self.prompt,
            "phase": self.phase,
            "weight_dtype": self.weight_dtype,
            "comm_dtype": self.comm_dtype,
            "engine": self.engine,
            "strategy": self.strategies,
        }
        return {axis: values for axis, values in given.items() if values is not None}


@dataclass(frozen=True, kw_only=True)
class Sweep(_Axes, OutputOptions):
    """Predict every combination of hardware, model, tp, batch, length and strategy."""

    grid: Annotated[
        Path | None,
        typer.Argument(help="YAML file with the axes; an option replaces the axis of its name."),
    ] = None
    jobs: Annotated[
        int | None,
        option("--jobs", whole(1), "N", "Processes.", show_default="one per processor core"),
    ] = None
    output: Annotated[Path, output_option("Table to write, .parquet or .csv.")] = Path(
        "sweep.parquet"
    )

    def run(self) -> None:
        """Predict, write the table and print a summary of it."""
        from isotune.results import Sweep
        from isotune.tuner.sweep import sweep

        grid = self._grid()
        check_writable(self.output)
        with progress("sweeping", not self.as_json) as report:
            result = sweep(grid, self.output, jobs=self.jobs, progress=report)
        found = Sweep.written(self.output, result)
        kept = f" ({result.resumed} parts were kept from an interrupted run)"
        wrote = f"wrote {result.rows:,} rows to {self.output}{kept if result.resumed else ''}"
        # A table of millions is for other programs, and takes longer to read than to write.
        if self.as_json or (result.rows <= _MOST_SUMMARISED and not result.interrupted):
            self.emit(found, wrote)
        elif not result.interrupted:
            show(wrote)
        if result.interrupted:
            raise StoppedError("interrupted; the same command goes on from here")

    def _grid(self) -> "Grid":
        """The axes of the file, replaced by those that are given.

        Raises:
            InputError: neither a file nor machines, or an axis that is refused.
        """
        from isotune.tuner.sweep import Grid, read_grid

        if self.grid is None and self.hw is None:
            raise InputError("give a grid file or --hw (machines)")
        base = (
            {"model": (DEFAULT_MODEL,)} if self.grid is None else read_grid(self.grid).model_dump()
        )
        return checked(Grid, base | self.axes(), self.grid or "sweep")


app = application(command(Sweep))
