"""`isotune export`: a plan or a policy for a serving engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from isotune.commands.options import (
    OutputOptions,
    application,
    choice,
    command,
    option,
    output_option,
    say,
    sizes,
)
from isotune.export import TARGETS, read_source
from isotune.results import Answer
from isotune.simulator.io import check_writable, write_text


@dataclass(frozen=True, kw_only=True)
class Export(OutputOptions):
    """Write a plan or a policy for a serving engine, and say what its format cannot express."""

    plan: Annotated[Path, typer.Argument(help="Plan or policy file, as search writes it.")]
    target: Annotated[str, choice("--to", tuple(TARGETS), "Engine or file format")]
    lengths: Annotated[
        tuple[int, ...] | None,
        option(
            "--lengths",
            sizes,
            "TOKENS",
            "Prompt lengths of a TokenWeave configuration, such as 2k,4k.",
            show_default="its published ones",
        ),
    ] = None
    output: Annotated[
        Path | None, output_option("File to write.", show_default="standard output")
    ] = None

    def run(self) -> None:
        """Write it, and say on standard error what is lost."""
        if self.output is not None:
            check_writable(self.output)
        done = TARGETS[self.target](read_source(self.plan), self.lengths or ())
        if self.output is not None:
            write_text(self.output, done.text + "\n")
        if self.as_json:
            file = {} if self.output is None else {"file": str(self.output)}
            self.emit(
                Answer.of("export", target=self.target, data=done.data, lost=done.lost, **file)
            )
            return
        if self.output is None:
            print(done.text)
        for lost in done.lost:
            say(f"lost: {lost}")
        if done.hint:
            say(f"note: {done.hint}")


app = application(command(Export))
