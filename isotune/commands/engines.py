"""`isotune engines`: what serving engines do with a pass, and how they differ."""

from dataclasses import dataclass
from typing import Annotated

import typer

from isotune.commands.options import Choices, HelpfulGroup, OutputOptions, command
from isotune.present import (
    engine_differences,
    engine_differences_section,
    engine_section,
    engines_section,
    section_view,
)
from isotune.results import Answer
from isotune.simulator.engines import DEFAULT, ENGINES, Engine, engine_named

Name = Annotated[
    str,
    typer.Argument(help=f"One of {', '.join(ENGINES)}.", autocompletion=Choices(ENGINES).complete),
]


@dataclass(frozen=True, kw_only=True)
class ListEngines(OutputOptions):
    """List the engines, each with the version that its facts are about."""

    def run(self) -> None:
        """Print the engines."""
        engines = [engine_named(name) for name in ENGINES]
        rows = [_summary(engine) for engine in engines]
        self.emit(
            Answer.of("engines", default=DEFAULT, engines=rows),
            section_view(engines_section(engines)),
        )


@dataclass(frozen=True, kw_only=True)
class ShowEngine(OutputOptions):
    """Show one engine: every fact with its source."""

    name: Name

    def run(self) -> None:
        """Print its facts."""
        engine = engine_named(self.name)
        facts = engine.model_dump(mode="json", exclude_defaults=True)
        self.emit(Answer.of("engine", **facts), section_view(engine_section(engine)))


@dataclass(frozen=True, kw_only=True)
class DiffEngines(OutputOptions):
    """Show the facts in which two engines differ."""

    first: Name
    second: Name

    def run(self) -> None:
        """Print the facts of both."""
        engines = engine_named(self.first), engine_named(self.second)
        rows = engine_differences(*engines)
        facts = [{"fact": path, "first": a, "second": b} for path, a, b in rows]
        self.emit(
            Answer.of("engine_differences", engines=[self.first, self.second], facts=facts),
            section_view(engine_differences_section(engines, rows)),
        )


def _summary(engine: Engine) -> dict[str, str]:
    return {
        "name": engine.name,
        "title": engine.title,
        "version": engine.version,
        "description": engine.description,
    }


app = typer.Typer(help="Serving engines: list, show, compare.", cls=HelpfulGroup)
app.command("list")(command(ListEngines))
app.command("show")(command(ShowEngine))
app.command("diff")(command(DiffEngines))
