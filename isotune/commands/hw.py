"""`isotune hw`: the hardware profiles, how they differ, and a template for another machine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import isotune
from isotune import hw_profiles
from isotune.commands.options import PROFILES, HelpfulGroup, OutputOptions, command, show
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

        def views() -> list[object]:
            from isotune.present import listings, section_view

            listing = listings.errors_section if self.errors else listings.profiles_section
            return [section_view(listing(profiles))]

        self.emit_plain([_summary(item) for item in profiles], views)


@dataclass(frozen=True, kw_only=True)
class ShowProfile(OutputOptions):
    """Show one machine: every figure with its source."""

    name: Machine

    def run(self) -> None:
        """Print the profile."""
        profile = isotune.read_profile(self.name)

        def views() -> list[object]:
            from isotune.present import listings, section_view

            return [section_view(listings.profile_section(profile))]

        data = profile.model_dump(mode="json") | {"cautions": list(profile.cautions())}
        self.emit_plain(data, views)


@dataclass(frozen=True, kw_only=True)
class DiffProfiles(OutputOptions):
    """Show the figures in which two machines differ."""

    first: Machine
    second: Machine

    def run(self) -> None:
        """Print the figures of both."""
        from isotune.present import listings, section_view

        profiles = isotune.read_profile(self.first), isotune.read_profile(self.second)
        rows = listings.differences(*profiles)
        data = [{"figure": path, "first": a, "second": b} for path, a, b in rows]
        self.emit_plain(data, lambda: [section_view(listings.differences_section(profiles, rows))])


@dataclass(frozen=True, kw_only=True)
class NewProfile:
    """Write a commented template of a machine that was not measured yet; it loads as it is."""

    name: Annotated[str, typer.Argument(help="Name of the new machine.")]
    base: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME",
            help="The measured machine that it resembles most.",
            autocompletion=PROFILES.complete,
        ),
    ] = "a100"
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="File to write.", show_default="NAME.yaml"
        ),
    ] = None

    def run(self) -> None:
        """Write the template."""
        from isotune.simulator.io import write_text
        from isotune.simulator.machine import template

        path = self.output or Path(f"{self.name}.yaml")
        write_text(path, template(self.name, isotune.read_profile(self.base)))
        show(f"wrote {path}; change its figures, then: isotune hw show {path}")


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
