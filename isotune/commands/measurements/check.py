"""`isotune check`: a profile against measurements."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import isotune
from isotune import results
from isotune.commands.options import (
    OutputOptions,
    application,
    command,
    hardware_option,
    option,
    progress,
    whole,
)
from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    from isotune.validation.check import Check as Checked


@dataclass(frozen=True, kw_only=True)
class Check(OutputOptions):
    """Score a profile against measurements: how large are its errors on this GPU?"""

    table: Annotated[
        Path,
        typer.Argument(help="Measurements (.csv, .csv.gz), or a folder: every table in it."),
    ]
    hw: Annotated[str | None, hardware_option(show_default="the machine that the table names")] = (
        None
    )
    worst: Annotated[int, option("--worst", whole(0), "N", "Worst rows to list.")] = 5
    held_back: Annotated[
        bool,
        typer.Option("--held-back", help="Only rows that the bundled profiles were not fitted to."),
    ] = False

    def run(self) -> None:
        """Score the table or the folder, and print the errors."""
        if self.table.is_dir():
            self._run_folder()
            return
        if self._is_served(self.table):
            self._run_served()
            return
        self.emit(results.Check.of(self._checked(self.table), self.worst))

    def _run_folder(self) -> None:
        """Every table of the folder, each against the machine it names.

        Raises:
            InputError: no table, or none that can be scored.
        """
        folder = self.table
        paths = sorted(p for p in folder.iterdir() if p.name.endswith((".csv", ".csv.gz")))
        if not paths:
            raise InputError(f"{folder}: no .csv or .csv.gz files")
        done, refused = [], {}
        for path in paths:
            try:
                done.append(self._checked(path))
            except InputError as error:
                refused[path.name] = str(error).removeprefix(f"{path}: ")
        if not done:
            raise InputError(f"{folder}: no table can be scored ({next(iter(refused.values()))})")
        self.emit(results.Checks.of(done, refused, self.worst))

    def _is_served(self, path: Path) -> bool:
        from isotune.simulator.io import csv_header
        from isotune.validation.tables import is_served_table

        return is_served_table(csv_header(path))

    def _run_served(self) -> None:
        """Models as served, on every machine that the table names and a profile describes.

        Raises:
            InputError: none of its machines has a profile.
        """
        from isotune.validation.check import check_served
        from isotune.validation.tables import read_served

        rows = read_served(self.table)
        done, refused = [], {}
        names = [self.hw] if self.hw else sorted({row.machine for row in rows})
        for name in names:
            try:
                own = [row for row in rows if self.hw or row.machine == name]
                done.append(check_served(self.table.name, own, isotune.read_profile(name)))
            except InputError as error:
                refused[name] = str(error)
        scored = [check for check in done if check.end_to_end is not None]
        if not scored:
            raise InputError(f"{self.table}: no row can be scored on {', '.join(names)}")
        if self.hw:
            self.emit(results.Check.of(scored[0], self.worst))
        else:
            self.emit(results.Checks.of(scored, refused, self.worst))

    def _checked(self, path: Path) -> "Checked":
        from isotune.simulator.io import csv_header
        from isotune.validation.check import check_runs, check_table
        from isotune.validation.tables import is_run_table, read_runs, read_table

        if is_run_table(csv_header(path)):
            runs = read_runs(path)
            profile = isotune.read_profile(self.hw or _machine(path, {run.hw for run in runs}))
            with progress("scoring", not self.as_json) as report:
                return check_runs(
                    path.name, runs, profile, held_back=self.held_back, progress=report
                )
        rows = read_table(path)
        profile = isotune.read_profile(self.hw or _machine(path, set(rows.machines)))
        return check_table(rows, profile, held_back=self.held_back)


def _machine(path: Path, names: set[str]) -> str:
    named = sorted(filter(None, names))
    if len(named) == 1:
        return named[0]
    listed = f"names {', '.join(named)}" if named else "names none"
    raise InputError(f"{path}: column hw {listed}; give the profile with --hw")


app = application(command(Check))
