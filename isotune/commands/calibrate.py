"""`isotune calibrate`: measurements to profile."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import isotune
from isotune.commands.options import Json
from isotune.commands.output import print_result, show
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable

if TYPE_CHECKING:
    from isotune.validation.calibrate import Calibrated


def calibrate(
    tables: Annotated[
        list[Path], typer.Argument(metavar="TABLE...", help="Measurements: .csv or .csv.gz files.")
    ],
    base: Annotated[
        str,
        typer.Option("--base", help="Profile to start from; its specification is kept."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The new profile.")],
    relative: Annotated[
        list[Path] | None,
        typer.Option(
            "--relative",
            metavar="TABLE",
            help="Measurements of the same chip in another machine: its GEMMs join the fit.",
        ),
    ] = None,
    contention: Annotated[
        Path | None,
        typer.Option(
            "--contention",
            metavar="TABLE",
            help="What compute and all-reduces take from each other, as measure writes it.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Its name.", show_default="the output file's")
    ] = None,
    date: Annotated[
        str | None,
        typer.Option("--date", help="Year-month-day, for the record.", show_default="today"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which rows are held back.")] = 0,
    as_json: Json = False,
) -> None:
    """Fit a profile to measurements, and say how far it is off and what the rows left open."""
    from isotune.simulator.machine import write_profile
    from isotune.validation.calibrate import calibrate as run
    from isotune.validation.calibrate import read_contention, with_contention
    from isotune.validation.tables import read_table

    check_writable(output)
    beside = None if contention is None else read_contention(contention)
    day = _day(date)
    done = run(
        [read_table(path) for path in tables],
        isotune.read_profile(base),
        name=name or output.name.removesuffix(".yaml").removesuffix(".yml"),
        date=day,
        relatives=[read_table(path) for path in relative or ()],
        seed=seed,
    )
    if not done.sections:
        raise InputError(f"{tables[0]}: no row that {base} can be fitted to ({_unused(done)})")
    command = " ".join(
        [
            *("isotune calibrate", *(path.name for path in tables)),
            *(f"--relative {path.name}" for path in relative or ()),
            *([] if contention is None else [f"--contention {contention.name}"]),
            f"--base {base} --date {day} --seed {seed} -o {output.name}",
        ]
    )
    if contention is not None and beside is not None:
        source = f"median of {len(beside)} rows of {contention.name}, {day}"
        done = replace(done, profile=with_contention(done.profile, beside, source))
    write_profile(done.profile, output, _header(done, command))
    if as_json:
        print_result("calibration", _as_dict(done) | {"profile_file": str(output)})
        return
    from isotune.render_calibration import calibration_view

    show(calibration_view(done))
    show(f"wrote {output}; use it with: isotune search --hw {output}")


def _day(text: str | None) -> str:
    try:
        return str(datetime.date.fromisoformat(text) if text else datetime.date.today())
    except ValueError as error:
        raise InputError(f"--date: {text!r} is not a date such as 2026-01-31") from error


def _header(done: "Calibrated", command: str) -> str:
    return (
        f"{done.profile.description}.\n"
        "Bandwidths of links are per GPU and one direction. "
        "Every figure has its source at the end.\n"
        f"Fitted with: {command}"
    )


def _unused(done: "Calibrated") -> str:
    return "; ".join(f"{count} rows - {reason}" for reason, count in done.unused.items())


def _as_dict(done: "Calibrated") -> dict[str, Any]:
    return {
        "name": done.profile.name,
        "sections": [
            {
                "section": section.key,
                "op": section.op,
                "error": section.error.model_dump(),
                "base_error": section.before.model_dump(),
                "parameters": [
                    {
                        "path": parameter.path,
                        "base": parameter.base,
                        "value": parameter.value,
                        "determined": parameter.determined,
                        "information": round(parameter.information, 4),
                        "at_limit": parameter.determined and parameter.at_limit,
                    }
                    for parameter in section.parameters
                ],
            }
            for section in done.sections
        ],
        "undetermined": list(done.undetermined),
        "unused_rows": done.unused,
    }
