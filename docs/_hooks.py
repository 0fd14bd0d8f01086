"""What mkdocs adds while it builds: the command reference, and equations as MathML.

Both are made from the code and the page alone, so that the site builds and reads offline.
"""

import re
import subprocess
import sys
from typing import Any

from latex2mathml.converter import convert

_COMMANDS = "<!-- commands -->"
_EQUATION = re.compile(r"^```math\n(.*?)\n```$", re.DOTALL | re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the command reference and the equations into a page."""
    if _COMMANDS in markdown:
        markdown = markdown.replace(_COMMANDS, _commands())
    return _EQUATION.sub(lambda found: _mathml(found[1]), markdown)


def _mathml(latex: str) -> str:
    return f'<div class="equation">{convert(latex, display="block")}</div>'


def _commands() -> str:
    """What `typer` writes about the command line, without its title."""
    command = [sys.executable, "-m", "typer", "isotune.cli", "utils", "docs", "--name", "isotune"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout.partition("\n")[2]
