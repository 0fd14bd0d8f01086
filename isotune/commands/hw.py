"""`isotune hw`: the hardware profiles, how they differ, and a template for another machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import isotune
from isotune import hw_profiles
from isotune.commands.options import (
    PROFILES,
    HelpfulGroup,
    OutputOptions,
    base_option,
    command,
    output_option,
)
from isotune.present import (
    differences,
    differences_section,
    errors_section,
    profile_section,
    profiles_section,
    section_view,
)
from isotune.results import Answer
from isotune.simulator.machine import HardwareProfile

Machine = Annotated[str, typer.Argument(help="Name or path.", autocompletion=PROFILES.complete)]


@dataclass(frozen=True, kw_only=True)
class ListProfiles(OutputOptions):
    """List the bundled machines."""

    errors: Annotated[
        bool,
        typer.Option("--errors", help="Errors of each on measurements it was not fitted to."),
    ] = False

    def run(self) -> None:
        """Print the machines, or their errors."""
        profiles = [isotune.read_profile(name) for name in hw_profiles.names()]
        listing = errors_section if self.errors else profiles_section
        machines = [_summary(profile) for profile in profiles]
        self.emit(Answer.of("machines", machines=machines), section_view(listing(profiles)))


@dataclass(frozen=True, kw_only=True)
class ShowProfile(OutputOptions):
    """Show one machine: every figure with its source."""

    name: Machine

    def run(self) -> None:
        """Print the profile."""
        profile = isotune.read_profile(self.name)
        figures = profile.model_dump(mode="json")
        machine = Answer.of("machine", **figures, cautions=profile.cautions())
        self.emit(machine, section_view(profile_section(profile)))


@dataclass(frozen=True, kw_only=True)
class DiffProfiles(OutputOptions):
    """Show the figures in which two machines differ."""

    first: Machine
    second: Machine

    def run(self) -> None:
        """Print the figures of both."""
        profiles = isotune.read_profile(self.first), isotune.read_profile(self.second)
        rows = differences(*profiles)
        figures = [{"figure": path, "first": a, "second": b} for path, a, b in rows]
        first, second = (profile.name for profile in profiles)
        self.emit(
            Answer.of("machine_differences", machines=[first, second], figures=figures),
            section_view(differences_section(profiles, rows)),
        )


@dataclass(frozen=True, kw_only=True)
class NewProfile(OutputOptions):
    """Write a commented template of a machine that was not measured yet; it loads as it is."""

    name: Annotated[str, typer.Argument(help="Name of the new machine.")]
    base: Annotated[str, base_option("The measured machine that it resembles most.")] = "a100"
    output: Annotated[Path | None, output_option("File to write.", show_default="NAME.yaml")] = None

    def run(self) -> None:
        """Write the template."""
        from isotune.simulator.io import write_text
        from isotune.simulator.machine import template

        path = self.output or Path(f"{self.name}.yaml")
        write_text(path, template(self.name, isotune.read_profile(self.base)))
        self.emit(
            Answer.of("machine_file", file=str(path)),
            f"wrote {path}; change its figures, then: isotune hw show {path}",
        )


def _summary(profile: HardwareProfile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "description": profile.description,
        "derived_from": profile.derived_from,
        "collectives_from": profile.collectives_from,
        "derived_error_factor": profile.derived_error_factor,
        "calibration": profile.calibration.model_dump(mode="json") if profile.calibration else None,
    }


app = typer.Typer(help="Hardware profiles: list, show, compare, write.", cls=HelpfulGroup)
app.command("list")(command(ListProfiles))
app.command("show")(command(ShowProfile))
app.command("diff")(command(DiffProfiles))
app.command("new")(command(NewProfile))
