"""`isotune models`: the bundled models."""

from dataclasses import asdict
from typing import Annotated

import typer

import isotune
from isotune.commands.group import HelpfulGroup
from isotune.commands.options import Json
from isotune.commands.output import print_json, show
from isotune.simulator.architecture import bundled_models

app = typer.Typer(help="Models.", cls=HelpfulGroup)


@app.command("list")
def models_list(as_json: Json = False) -> None:
    """The bundled models."""
    models = [isotune.load_model(name) for name in bundled_models()]
    if as_json:
        print_json([{"name": item.name, "parameters": item.parameters} for item in models])
        return
    from isotune.render import models_view

    show(models_view(models))


@app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="Name, folder or config.json.")], as_json: Json = False
) -> None:
    """One model: its sizes and parameter count."""
    model = isotune.load_model(name)
    fields = asdict(model) | {"parameters": model.parameters}
    if as_json:
        print_json(fields)
        return
    from isotune.render import fields_table

    show(fields_table(fields))
