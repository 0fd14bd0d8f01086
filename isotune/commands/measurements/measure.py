"""`isotune measure`: microbenchmarks of this machine."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from isotune.commands.options import (
    Choices,
    DeviceOption,
    OutputOptions,
    TimeoutOption,
    TokenRange,
    application,
    choice,
    choices,
    command,
    end,
    least_and_most,
    model_option,
    option,
    output_option,
    plain,
    progress,
    real,
    whole,
)
from isotune.results import Answer, Machine
from isotune.simulator.architecture import check_tp, load_model
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, write_text
from isotune.validation.choices import OPS
from isotune.validation.extra import require_validate_extra

if TYPE_CHECKING:
    from isotune.validation.measure import Measurements, Range

_DTYPES = ("bf16", "fp16")
_UP_TO_4K = TokenRange(1, 4096)


@dataclass(frozen=True, kw_only=True)
class _Shapes:
    PANEL: ClassVar = "What is measured"

    model: Annotated[
        str, model_option("Model whose shapes are measured: bundled name, folder or config.json")
    ] = "llama-2-7b"
    nproc: Annotated[int, option("--nproc", whole(1), "N", "Ranks to start.")] = 1
    tp: Annotated[
        int | None,
        option(
            "--tp",
            whole(1),
            "N",
            "Tensor-parallel size of the measured shards.",
            show_default="--nproc",
        ),
    ] = None
    tokens: Annotated[
        TokenRange,
        option(
            "--tokens",
            least_and_most,
            "TOKENS",
            "Most rows of a kernel, or fewest:most; 4k = 4096.",
            show_default="4k",
        ),
    ] = _UP_TO_4K
    ops: Annotated[
        tuple[str, ...],
        choices("--ops", Choices(OPS, "operation"), "Operations", show_default="all"),
    ] = OPS
    dtype: Annotated[str, choice("--dtype", _DTYPES, "Number type")] = "bf16"


@dataclass(frozen=True, kw_only=True)
class Measure(_Shapes, OutputOptions):
    """Measure GEMMs, attention, norms, all-reduces and their contention into a table."""

    output: Annotated[Path, output_option("Table to write (.csv).")]
    name: Annotated[str, plain("--name", "NAME", "Name of this machine in the table.")] = "this"
    device: DeviceOption = None
    seconds: Annotated[float, option("--seconds", real(0.0), "S", "Time of each measurement.")] = (
        0.2
    )
    timeout: TimeoutOption = 120.0

    def run(self) -> None:
        """Measure, and write the tables that have rows."""
        require_validate_extra()
        from isotune.validation.measure import measure

        wanted = self._range()
        check_writable(self._beside)
        with progress("measuring", wanted=not self.as_json) as report:
            done = measure(
                wanted,
                dtype=self.dtype,
                budget_s=self.seconds,
                timeout_s=self.timeout,
                on_row=report,
                keep=lambda so_far: self._keep(so_far, wanted),
            )
        if done is None:
            return
        if not done.rows:  # a table of an earlier run stays as it is
            end(done.failure)
        tables = self._tables(done, wanted)
        machine = None if done.machine is None else Machine.like(done.machine).model_dump()
        written = {path: count for path, (_, count) in tables.items()}
        lines = [f"{path}: {count} rows" for path, count in written.items()]
        try:
            for path, (text, _) in tables.items():
                write_text(Path(path), text)
        except InputError:
            typer.echo("\n".join(text for text, _ in tables.values()))  # else all would be lost
            raise
        self.emit(
            Answer.of("measurements", rows=written, machine=machine, failure=done.failure),
            *(f"wrote {line}" for line in lines),
        )
        end(done.failure)

    @property
    def _beside(self) -> Path:
        """The table of contention."""
        return self.output.with_name(f"{self.output.stem}-contention.csv")

    def _keep(self, so_far: "Measurements", wanted: "Range") -> None:
        """Write what is measured so far; a disk that is full now may not be at the end."""
        with suppress(InputError):
            for path, (text, _) in self._tables(so_far, wanted).items():
                write_text(Path(path), text)

    def _range(self) -> "Range":
        """What is measured.

        Raises:
            InputError: an unknown model, or a tp that does not divide it.
        """
        shape = load_model(self.model)
        check_tp(shape, self.tp or self.nproc)
        check_writable(self.output)
        from isotune.validation.measure import Range
        from isotune.validation.real_run import default_device

        return Range(
            model=shape,
            tp=self.tp or self.nproc,
            tokens=self.tokens.last,
            least=self.tokens.first,
            ranks=self.nproc,
            ops=tuple(op for op in OPS if op in self.ops),
            cuda=(self.device or default_device()) == "cuda",
        )

    def _tables(self, done: "Measurements", wanted: "Range") -> dict[str, tuple[str, int]]:
        """The text and the number of rows of each table that has any, by its path."""
        from isotune.validation.measure import contention_csv, measurements_csv, source_text

        about: dict[str, object] = {
            "hw": self.name,
            "dtype": self.dtype,
            "algorithm": "nccl" if wanted.cuda else "gloo",
            "source": "isotune measure" if done.machine is None else source_text(done.machine),
        }
        contended = sum(row.case.op == "contention" for row in done.rows)
        tables = (
            (self.output, measurements_csv, len(done.rows) - contended),
            (self._beside, contention_csv, contended),
        )
        return {
            str(path): (csv_of(done.rows, about), count) for path, csv_of, count in tables if count
        }


app = application(command(Measure))
