"""The group of commands that helps whoever names none of them."""

from typing import Any

from typer.core import TyperGroup


class HelpfulGroup(TyperGroup):
    """A group that answers a call without arguments with its help, and exit code 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments: `--help` if there are none (and no shell asks for completions)."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))
