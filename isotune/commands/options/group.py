"""Groups of commands: they help whoever names none, and import a command when it is needed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from isotune.commands.options.examples import add_examples


class HelpfulGroup(TyperGroup):
    """A group that answers a call without arguments with its help, and exit code 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments: `--help` if there are none (and no shell asks for completions)."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))


class Entry(NamedTuple):
    """A command in the list of a group: its panel, its summary, and the module of its `app`."""

    panel: str
    summary: str
    module: str


class LazyGroup(HelpfulGroup):
    """A group whose list is made from `ENTRIES`; a command's module is imported for its options."""

    ENTRIES: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {
            name: TyperCommand(name, help=entry.summary, rich_help_panel=entry.panel)
            for name, entry in self.ENTRIES.items()
        }
        add_examples(self, ())
        self._listing = False

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command with its options; only its summary while the group is listed."""
        del ctx
        if self._listing or cmd_name not in self.ENTRIES:
            return self.commands.get(cmd_name)
        command = typer.main.get_command(import_module(self.ENTRIES[cmd_name].module).app)
        command.name = cmd_name
        add_examples(command, (cmd_name,))
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help of the group."""
        with self._listed():
            super().format_help(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """The commands and options that a word can become."""
        with self._listed():
            return super().shell_complete(ctx, incomplete)

    @contextmanager
    def _listed(self) -> Iterator[None]:
        self._listing = True
        try:
            yield
        finally:
            self._listing = False
