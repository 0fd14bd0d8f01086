"""`isotune hw`: the hardware profiles there are."""

from typing import Annotated

import typer

import hw_profiles
import isotune
from isotune.commands.options import Json
from isotune.commands.output import print_json, show

app = typer.Typer(help="Hardware profiles.", no_args_is_help=True)


@app.command("list")
def hw_list(as_json: Json = False) -> None:
    """The bundled machines."""
    profiles = [isotune.read_profile(name) for name in hw_profiles.names()]
    if as_json:
        print_json([{"name": item.name, "description": item.description} for item in profiles])
        return
    from isotune.render import profiles_table

    show(profiles_table(profiles))


@app.command("show")
def hw_show(
    name: Annotated[str, typer.Argument(help="Name or path.")], as_json: Json = False
) -> None:
    """One machine: every figure with its source."""
    profile = isotune.read_profile(name)
    if as_json:
        print_json(profile.model_dump(mode="json"))
        return
    from isotune.render import profile_view

    show(profile_view(profile))
