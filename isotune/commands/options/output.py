"""What commands print: JSON for machines, tables for people, progress on stderr."""

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.text import Text

from isotune.simulator.errors import IsotuneError
from isotune.simulator.io import masked, printable, secrets_in

if TYPE_CHECKING:
    from isotune.results import Predicted, Result

ResultT = TypeVar("ResultT", bound="Result")
invoked: ContextVar[tuple[str, ...]] = ContextVar("invoked", default=())
"""The arguments this process was called with, for results that say how to reproduce them."""


class StoppedError(IsotuneError):
    """Ctrl-C ended a command; the message says what became of its work."""


def show(view: RenderableType) -> None:
    """Print a view or a line; plain text, 80 columns wide, where there is no terminal.

    A line is text, whatever it holds: no markup, no escape code, no second line.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    shown = Text(printable(view)) if isinstance(view, str) else view
    if console.is_terminal:
        console.print(shown)
        return
    console = Console(highlight=False, markup=False, emoji=False, width=80, no_color=True)
    with console.capture() as capture:
        console.print(shown)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def hidden(text: str) -> str:
    """A text without the passwords in it, and without those on the command line."""
    return masked(text, (secret for argument in invoked.get() for secret in secrets_in(argument)))


def say(line: str) -> None:
    """Print a line of the command's own on standard error, with no power over the terminal."""
    typer.echo(printable(hidden(line)), err=True)


def with_command(result: "ResultT") -> "ResultT":
    """A result that says how to make it again."""
    command = shlex.join(["isotune", *map(hidden, invoked.get())])
    return result.model_copy(update={"command": command})


def write_timelines(path: Path, prediction: "Predicted", name: str) -> None:
    """Write a prediction's timelines, the serial baseline first, as a trace for Perfetto."""
    from isotune.present import plan_text, predicted, scenario_text, write_trace

    about = {"scenario": scenario_text(prediction.scenario), "plan": plan_text(prediction.plan)}
    write_trace(path, predicted(prediction.simulated, name), about)


@contextmanager
def progress(title: str, wanted: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, where stderr is a terminal."""
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(escape(printable(title)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def end(failure: str | None) -> None:
    """End with what failed on standard error, and exit code 130 for Ctrl-C, else 1; or go on.

    Raises:
        StoppedError: Ctrl-C.
    """
    if failure == "interrupted":
        raise StoppedError(failure)
    if failure is not None:
        say(f"isotune: {failure}")
        raise typer.Exit(1)


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """How the result is printed."""

    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False

    def emit(self, result: "Result", *lines: RenderableType) -> None:
        """Print a result: as JSON, or for people, followed by some lines.

        An `Answer` has nothing but its lines to show to people.
        """
        from isotune.results import Answer

        if self.as_json:
            data = with_command(result).to_dict()
            print(json.dumps(data, indent=2, allow_nan=False))
            return
        if not isinstance(result, Answer):
            show(self.shown(result))
        for line in lines:
            show(line)

    def shown(self, result: "Result") -> RenderableType:
        """What people see of a result."""
        return result


@dataclass(frozen=True, kw_only=True)
class DetailedOutput(OutputOptions):
    """How a result is printed that has more to say than fits a screen."""

    details: Annotated[
        bool,
        typer.Option(
            "--details", help="Print everything: operations, sources of the figures, trials."
        ),
    ] = False

    @property
    def more(self) -> tuple[str, ...]:
        """How to see the rest, where there is some."""
        return (
            () if self.details else ("every operation, and the source of its figures: --details",)
        )

    def shown(self, result: "Result") -> RenderableType:
        """One screen of it, or all."""
        from isotune.present import view

        return view(result, self.details)
