"""`isotune calibrate`: measurements to profile."""

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import isotune
from isotune.commands.options import (
    NewName,
    OutputOptions,
    application,
    command,
    iso_date,
    option,
    output_option,
    plain,
    profile_name,
    whole,
)
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable

if TYPE_CHECKING:
    from isotune.validation.calibrate import Calibrated


@dataclass(frozen=True, kw_only=True)
class Calibrate(OutputOptions):
    """Fit a profile to measurements, and print its errors and what the rows leave open."""

    tables: Annotated[
        list[Path], typer.Argument(metavar="TABLE...", help="Measurements: .csv or .csv.gz files.")
    ]
    base: Annotated[
        str, plain("--base", "NAME", "Profile to start from; its specification is kept.")
    ]
    output: Annotated[Path, output_option("Profile to write.")]
    relative: Annotated[
        list[Path] | None,
        plain(
            "--relative",
            "TABLE",
            "Measurements of the same chip in another machine: its GEMMs join the fit.",
        ),
    ] = None
    contention: Annotated[
        Path | None,
        plain(
            "--contention",
            "TABLE",
            "Slowdown of compute and all-reduces that overlap, as measure writes it.",
        ),
    ] = None
    name: NewName = None
    date: Annotated[
        str | None,
        option(
            "--date",
            iso_date,
            "DATE",
            "Date of the fit (year-month-day), kept in the profile.",
            show_default="today",
        ),
    ] = None
    seed: Annotated[
        int, option("--seed", whole(0), "N", "Seed of the choice of held-back rows.")
    ] = 0

    def run(self) -> None:
        """Fit, write the profile and print its errors."""
        from isotune.results import Calibration
        from isotune.simulator.machine import write_profile

        check_writable(self.output)
        day = self.date or str(datetime.date.today())
        done = self._fitted(day)
        write_profile(done.profile, self.output, _header(done, self._command(day)))
        found = Calibration.of(done, str(self.output))
        self.emit(found, f"wrote {self.output}; use it with: isotune search --hw {self.output}")

    def _fitted(self, day: str) -> "Calibrated":
        """The fit, with the contention's where a table of it is given.

        Raises:
            InputError: an unreadable table, or no row that the base can be fitted to.
        """
        from isotune.validation.calibrate import calibrate, read_contention, with_contention
        from isotune.validation.tables import read_table

        contention = None if self.contention is None else read_contention(self.contention)
        done = calibrate(
            [read_table(path) for path in self.tables],
            isotune.read_profile(self.base),
            name=self.name or profile_name(self.output),
            date=day,
            relatives=[read_table(path) for path in self.relative or ()],
            seed=self.seed,
        )
        if not done.sections:
            unused = "; ".join(f"{count} rows - {why}" for why, count in done.unused.items())
            raise InputError(
                f"{self.tables[0]}: no row that {self.base} can be fitted to ({unused})"
            )
        if self.contention is None or contention is None:
            return done
        source = f"median of {len(contention)} rows of {self.contention.name}, {day}"
        return replace(done, profile=with_contention(done.profile, contention, source))

    def _command(self, day: str) -> str:
        """The command that makes the same profile again, with the tables' bare names."""
        return " ".join(
            [
                *("isotune calibrate", *(path.name for path in self.tables)),
                *(f"--relative {path.name}" for path in self.relative or ()),
                *([] if self.contention is None else [f"--contention {self.contention.name}"]),
                f"--base {self.base} --date {day} --seed {self.seed} -o {self.output.name}",
            ]
        )


def _header(done: "Calibrated", command: str) -> str:
    return (
        f"{done.profile.description}.\n"
        "Bandwidths of links are per GPU and one direction. "
        "Every figure has its source at the end.\n"
        f"Fitted with: {command}"
    )


app = application(command(Calibrate))
