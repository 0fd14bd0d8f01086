"""`isotune check`: a profile against measurements."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import isotune
from isotune.commands.options import Json
from isotune.commands.output import print_result, progress, show
from isotune.simulator.errors import InputError

if TYPE_CHECKING:
    from isotune.validation.check import Check, Scored


def check(
    table: Annotated[
        Path,
        typer.Argument(help="Measurements (.csv, .csv.gz), or a folder: every table in it."),
    ],
    hw: Annotated[
        str | None,
        typer.Option(
            "--hw",
            help="Bundled profile name, or path of a profile.",
            show_default="the machine that the table names",
        ),
    ] = None,
    worst: Annotated[int, typer.Option("--worst", min=0, help="Worst rows to name.")] = 5,
    held_back: Annotated[
        bool,
        typer.Option("--held-back", help="Only rows that the bundled profiles were not fitted to."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Score a profile against measurements: how far off is it for this GPU?"""
    if table.is_dir():
        _folder(table, hw, worst, held_back, as_json)
        return
    done = _check(table, hw, held_back, wanted=not as_json)
    if as_json:
        print_result("check", _as_dict(done, worst))
        return
    from isotune.render_check import check_view

    show(check_view(done, worst))


def _folder(folder: Path, hw: str | None, worst: int, held_back: bool, as_json: bool) -> None:
    """Every table of a folder, each against the machine it names."""
    paths = sorted(p for p in folder.iterdir() if p.name.endswith((".csv", ".csv.gz")))
    if not paths:
        raise InputError(f"{folder}: no .csv or .csv.gz files")
    done, refused = [], {}
    for path in paths:
        try:
            done.append(_check(path, hw, held_back, wanted=not as_json))
        except InputError as error:
            refused[path.name] = str(error).removeprefix(f"{path}: ")
    if not done:
        raise InputError(f"{folder}: no table can be scored ({next(iter(refused.values()))})")
    if as_json:
        checks = [_as_dict(item, worst) for item in done]
        print_result("checks", {"checks": checks, "refused": refused})
        return
    from isotune.render_check import folder_view

    show(folder_view(done, refused, worst))


def _check(path: Path, hw: str | None, held_back: bool, *, wanted: bool) -> "Check":
    from isotune.validation.check import check_runs, check_table
    from isotune.validation.tables import csv_header, is_run_table, read_runs, read_table

    if is_run_table(csv_header(path)):
        runs = read_runs(path)
        profile = isotune.read_profile(hw or _machine(path, {run.hw for run in runs}))
        with progress("scoring", wanted) as report:
            return check_runs(path.name, runs, profile, held_back=held_back, progress=report)
    rows = read_table(path)
    profile = isotune.read_profile(hw or _machine(path, set(rows.machines)))
    return check_table(rows, profile, held_back=held_back)


def _machine(path: Path, names: set[str]) -> str:
    named = sorted(filter(None, names))
    if len(named) == 1:
        return named[0]
    found = f"names {', '.join(named)}" if named else "names none"
    raise InputError(f"{path}: column hw {found}; give the profile with --hw")


def _as_dict(done: "Check", worst: int) -> dict[str, Any]:
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


def _parts(done: "Check") -> Iterator[Any]:
    yield from done.ops
    if done.end_to_end is not None:
        yield done.end_to_end


def _groups(done: "Check") -> Iterator[dict[str, Any]]:
    for part in _parts(done):
        for (kind, label), found in part.groups().items():
            yield {"part": part.name, "by": kind, "group": label, **vars(found)}
