"""`isotune hw`: the hardware profiles there are, how they differ, and a template for another."""

from pathlib import Path
from typing import Annotated

import typer

import isotune
from isotune import hw_profiles
from isotune.commands.group import HelpfulGroup
from isotune.commands.options import Json
from isotune.commands.output import print_json, show
from isotune.simulator.machine import HardwareProfile

app = typer.Typer(help="Hardware profiles.", cls=HelpfulGroup)


@app.command("list")
def hw_list(
    errors: Annotated[
        bool, typer.Option("--errors", help="How far each is off rows it was not fitted to.")
    ] = False,
    as_json: Json = False,
) -> None:
    """The bundled machines."""
    profiles = [isotune.read_profile(name) for name in hw_profiles.names()]
    if as_json:
        print_json([_summary(item) for item in profiles])
        return
    from isotune.render_hw import errors_table, profiles_view

    show(errors_table(profiles) if errors else profiles_view(profiles))


@app.command("show")
def hw_show(
    name: Annotated[str, typer.Argument(help="Name or path.")], as_json: Json = False
) -> None:
    """One machine: every figure with its source."""
    profile = isotune.read_profile(name)
    if as_json:
        print_json(profile.model_dump(mode="json") | {"cautions": list(profile.cautions())})
        return
    from isotune.render_hw import profile_view

    show(profile_view(profile))


@app.command("diff")
def hw_diff(
    first: Annotated[str, typer.Argument(help="Name or path.")],
    second: Annotated[str, typer.Argument(help="Name or path.")],
    as_json: Json = False,
) -> None:
    """The figures in which two machines differ."""
    profiles = isotune.read_profile(first), isotune.read_profile(second)
    from isotune.render_hw import diff_table, differences

    rows = differences(*profiles)
    if as_json:
        print_json([{"figure": path, "first": a, "second": b} for path, a, b in rows])
        return
    show(diff_table(profiles, rows) if rows else "The same in every figure.")


@app.command("new")
def hw_new(
    name: Annotated[str, typer.Argument(help="The new machine's name.")],
    base: Annotated[
        str, typer.Option("--from", help="The measured machine it resembles most.")
    ] = "a100",
    output: Annotated[Path | None, typer.Option("-o", "--output", show_default="NAME.yaml")] = None,
) -> None:
    """Write a commented template of a machine that nobody measured yet; it loads as it is."""
    from isotune.simulator.io import write_text
    from isotune.simulator.machine import template

    path = output or Path(f"{name}.yaml")
    write_text(path, template(name, isotune.read_profile(base)))
    show(f"wrote {path}; change its figures, then: isotune hw show {path}")


def _summary(profile: HardwareProfile) -> dict[str, object]:
    return {
        "name": profile.name,
        "description": profile.description,
        "derived_from": profile.derived_from,
        "collectives_from": profile.collectives_from,
        "derived_error_factor": profile.derived_error_factor,
        "calibration": profile.calibration.model_dump(mode="json") if profile.calibration else None,
    }
