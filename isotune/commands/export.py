"""`isotune export`: a plan or a policy for a serving engine."""

from pathlib import Path
from typing import Annotated

import typer

from isotune.commands.options import Json, read
from isotune.commands.output import print_json
from isotune.commands.parsers import sizes
from isotune.present.phrases import printable
from isotune.simulator.errors import InputError
from isotune.simulator.io import check_writable, write_text

_TARGETS = ("tokenweave", "vllm", "sglang", "json", "csv")


def export(
    plan: Annotated[Path, typer.Argument(help="Plan or policy file, as search writes it.")],
    target: Annotated[str, typer.Option("--to", help=f"{', '.join(_TARGETS)}.")],
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths",
            metavar="TOKENS",
            help="Entries of a TokenWeave configuration, such as 2k,4k.",
            show_default="its published ones",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File.", show_default="standard output")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a plan or a policy for a serving engine, and say what its format cannot express."""
    from isotune.export import TARGETS, read_source

    if target not in TARGETS:
        raise InputError(f"--to: unknown target {target!r:.60} (allowed: {', '.join(_TARGETS)})")
    if output is not None:
        check_writable(output)
    done = TARGETS[target](read_source(plan), read(sizes, "--lengths", lengths) or ())
    if output is not None:
        write_text(output, done.text + "\n")
    if as_json:
        file = {} if output is None else {"file": str(output)}
        print_json({"target": target, "data": done.data, "lost": list(done.lost)} | file)
        return
    if output is None:
        print(done.text)
    for what in done.lost:
        typer.echo(f"lost: {printable(what)}", err=True)
    if done.hint:
        typer.echo(f"note: {printable(done.hint)}", err=True)
