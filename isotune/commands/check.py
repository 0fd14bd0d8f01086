"""`isotune check`: a profile against measurements."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

import isotune
from isotune.commands.options import OutputOptions, hardware_option
from isotune.commands.output import progress
from isotune.commands.parsers import option, whole
from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    from isotune.validation.check import Check as Checked
    from isotune.validation.check import Scored


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
    worst: Annotated[
        int, option("--worst", read=whole(0), metavar="N", help="Worst rows to list.")
    ] = 5
    held_back: Annotated[
        bool,
        typer.Option("--held-back", help="Only rows that the bundled profiles were not fitted to."),
    ] = False

    def run(self) -> None:
        """Score the table or the folder, and print the errors."""
        if self.table.is_dir():
            self._run_folder()
            return
        done = self._checked(self.table)

        def views() -> Iterator[RenderableType]:
            from isotune.render_check import check_view

            yield check_view(done, self.worst)

        self.emit("check", _as_dict(done, self.worst), views)

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

        def views() -> Iterator[RenderableType]:
            from isotune.render_check import folder_view

            yield folder_view(done, refused, self.worst)

        checks = [_as_dict(item, self.worst) for item in done]
        self.emit("checks", {"checks": checks, "refused": refused}, views)

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


def _as_dict(done: "Checked", worst: int) -> dict[str, Any]:
    passes = done.end_to_end
    return {
        "hw": done.hw,
        "table": done.table,
        "ops": {part.name: vars(part.score) | {"coverage": part.coverage} for part in done.ops},
        "end_to_end": None
        if passes is None
        else vars(passes.score)
        | {
            "saving_mae_points": passes.saving_mae_points,
            "coverage": passes.coverage,
            "saving_coverage": passes.saving_coverage,
        },
        "groups": list(_groups(done)),
        "worst": [
            {
                "row": row.what,
                "line": row.line,
                "predicted_s": row.predicted_s,
                "measured_s": row.measured_s,
            }
            for part in _parts(done)
            for row in part.worst(worst)
        ],
        "rows": [_row(part.name, row) for part in _parts(done) for row in part.rows],
        "unscored": done.unscored,
    }


def _row(part: str, row: "Scored") -> dict[str, Any]:
    """One row of a table, four digits of each time: enough for a picture."""
    found: dict[str, Any] = {
        "part": part,
        "row": row.what,
        "line": row.line,
        "predicted_s": float(f"{row.predicted_s:.4g}"),
        "measured_s": float(f"{row.measured_s:.4g}"),
        "within": row.within,
    }
    if row.saving is not None:
        interval = list(row.saving.interval)
        found["saving"] = vars(row.saving) | {"interval": interval}
    return found


def _parts(done: "Checked") -> Iterator[Any]:
    yield from done.ops
    if done.end_to_end is not None:
        yield done.end_to_end


def _groups(done: "Checked") -> Iterator[dict[str, Any]]:
    for part in _parts(done):
        for (kind, label), found in part.groups().items():
            yield {"part": part.name, "by": kind, "group": label, **vars(found)}
